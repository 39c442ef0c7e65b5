//! Natives of `os` and of the loggers: files of the machine.
//!
//! What is not there reads as `null`; everything else that fails throws, with the path and the reason.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

use rustix::process::{Pid, Signal};

use crate::data::Data;

fn failed(ctx: &Ctx<'_>, what: &str, path: &str, error: &std::io::Error) -> rquickjs::Error {
    Exception::throw_message(ctx, &format!("cannot {what} {path}: {error}"))
}

fn read<'js>(ctx: Ctx<'js>, path: String) -> Result<Value<'js>> {
    match fs::read(&path) {
        Ok(bytes) => Data::new_js(&ctx, bytes.into()),
        Err(error) => {
            crate::log::line("WRN", &format!("cannot open file: {path}: {error}"));
            Ok(Value::new_null(ctx))
        }
    }
}

fn write<'js>(ctx: Ctx<'js>, path: String, data: Value<'js>) -> Result<()> {
    fs::write(&path, Data::body_of(&data)?).map_err(|error| failed(&ctx, "write", &path, &error))
}

fn stat<'js>(ctx: Ctx<'js>, path: String) -> Result<Value<'js>> {
    let Ok(known) = fs::metadata(&path) else { return Ok(Value::new_null(ctx)) };
    let object = Object::new(ctx.clone())?;
    let seconds = |whole: i64, nanos: i64| whole as f64 + nanos as f64 / 1e9;
    object.set("atime", seconds(known.atime(), known.atime_nsec()))?;
    object.set("mtime", seconds(known.mtime(), known.mtime_nsec()))?;
    object.set("ctime", seconds(known.ctime(), known.ctime_nsec()))?;
    for (name, value) in [
        ("dev", known.dev()),
        ("ino", known.ino()),
        ("nlink", known.nlink()),
        ("rdev", known.rdev()),
        ("size", known.len()),
        ("blksize", known.blksize()),
        ("blocks", known.blocks()),
        ("mode", known.mode().into()),
        ("uid", known.uid().into()),
        ("gid", known.gid().into()),
    ] {
        object.set(name, value as f64)?;
    }
    object.set("file", known.is_file())?;
    object.set("directory", known.is_dir())?;
    Ok(object.into_value())
}

fn list(ctx: Ctx<'_>, path: String) -> Result<Vec<String>> {
    let entries = fs::read_dir(&path).map_err(|error| failed(&ctx, "list", &path, &error))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    Ok(names)
}

fn mkdir(ctx: Ctx<'_>, path: String, recursive: bool) -> Result<()> {
    let made = if recursive { fs::create_dir_all(&path) } else { fs::create_dir(&path) };
    made.map_err(|error| failed(&ctx, "make", &path, &error))
}

fn remove(ctx: Ctx<'_>, path: String, recursive: bool, force: bool) -> Result<()> {
    let is_folder = fs::symlink_metadata(&path).is_ok_and(|known| known.is_dir());
    let removed = match (is_folder, recursive) {
        (true, true) => fs::remove_dir_all(&path),
        (true, false) => fs::remove_dir(&path),
        (false, _) => fs::remove_file(&path),
    };
    match removed {
        Err(error) if !(force && error.kind() == std::io::ErrorKind::NotFound) => {
            Err(failed(&ctx, "remove", &path, &error))
        }
        _ => Ok(()),
    }
}

fn rename(ctx: Ctx<'_>, from: String, to: String) -> Result<()> {
    fs::rename(&from, &to).map_err(|error| failed(&ctx, "rename", &from, &error))
}

fn absolute(ctx: Ctx<'_>, path: String) -> Result<String> {
    let found = std::path::absolute(&path).map_err(|error| failed(&ctx, "find", &path, &error))?;
    Ok(found.to_string_lossy().into_owned())
}

fn chdir(ctx: Ctx<'_>, path: String) -> Result<()> {
    std::env::set_current_dir(&path).map_err(|error| failed(&ctx, "go to", &path, &error))
}

fn kill(ctx: Ctx<'_>, pid: i32, signal: Value<'_>) -> Result<()> {
    let name = signal.get::<rquickjs::Coerced<String>>()?.0;
    let number = match SIGNALS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => *number,
        None => name.parse().map_err(|_| Exception::throw_type(&ctx, &format!("unknown signal: {name}")))?,
    };
    let bad = || Exception::throw_range(&ctx, &format!("cannot send {name} to process {pid}"));
    // A number that is not above 0 means groups of processes, or all.
    let target = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(bad)?;
    let sent = match number {
        0 => rustix::process::test_kill_process(target),
        number => rustix::process::kill_process(target, Signal::from_named_raw(number).ok_or_else(bad)?),
    };
    sent.map_err(|error| {
        Exception::throw_message(&ctx, &format!("cannot send {name} to process {pid}: {error}"))
    })
}

const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGWINCH", 28),
];

fn out(text: Value<'_>) -> Result<()> {
    // A reader that has gone away is no failure of the script.
    let _ = std::io::stdout().write_all(&Data::body_of(&text)?);
    Ok(())
}

fn err(text: Value<'_>) -> Result<()> {
    let _ = std::io::stderr().write_all(&Data::body_of(&text)?);
    Ok(())
}

fn problem(text: String) {
    crate::log::line("ERR", &text);
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("read", Function::new(ctx.clone(), read)?)?;
    native.set("write", Function::new(ctx.clone(), write)?)?;
    native.set("stat", Function::new(ctx.clone(), stat)?)?;
    native.set("list", Function::new(ctx.clone(), list)?)?;
    native.set("mkdir", Function::new(ctx.clone(), mkdir)?)?;
    native.set("remove", Function::new(ctx.clone(), remove)?)?;
    native.set("rename", Function::new(ctx.clone(), rename)?)?;
    native.set("absolute", Function::new(ctx.clone(), absolute)?)?;
    native.set("chdir", Function::new(ctx.clone(), chdir)?)?;
    native.set("kill", Function::new(ctx.clone(), kill)?)?;
    native.set("out", Function::new(ctx.clone(), out)?)?;
    native.set("err", Function::new(ctx.clone(), err)?)?;
    native.set("problem", Function::new(ctx.clone(), problem)?)
}
