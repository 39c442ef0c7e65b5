//! Natives of `os` and of the loggers: files of the machine.
//!
//! What is not there reads as `null`; everything else that fails throws, with the path and the reason.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

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

fn append<'js>(ctx: Ctx<'js>, path: String, text: String) -> Result<()> {
    if let Some(folder) = Path::new(&path).parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&ctx, "make the folder of", &path, &error))?;
    }
    let opened = fs::OpenOptions::new().create(true).append(true).open(&path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| failed(&ctx, "append to", &path, &error))
}

fn stat<'js>(ctx: Ctx<'js>, path: String) -> Result<Value<'js>> {
    let Ok(known) = fs::metadata(&path) else { return Ok(Value::new_null(ctx)) };
    let seconds = |time: std::io::Result<std::time::SystemTime>| {
        time.ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0.0, |since| since.as_secs_f64())
    };
    let object = Object::new(ctx.clone())?;
    object.set("size", known.len() as f64)?;
    object.set("mtime", seconds(known.modified()))?;
    object.set("atime", seconds(known.accessed()))?;
    object.set("ctime", seconds(known.created()))?;
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

fn out(text: String) {
    // A reader that has gone away is no failure of the script.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn err(text: String) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn problem(text: String) {
    crate::log::line("ERR", &text);
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("read", Function::new(ctx.clone(), read)?)?;
    native.set("write", Function::new(ctx.clone(), write)?)?;
    native.set("append", Function::new(ctx.clone(), append)?)?;
    native.set("stat", Function::new(ctx.clone(), stat)?)?;
    native.set("list", Function::new(ctx.clone(), list)?)?;
    native.set("mkdir", Function::new(ctx.clone(), mkdir)?)?;
    native.set("remove", Function::new(ctx.clone(), remove)?)?;
    native.set("rename", Function::new(ctx.clone(), rename)?)?;
    native.set("absolute", Function::new(ctx.clone(), absolute)?)?;
    native.set("out", Function::new(ctx.clone(), out)?)?;
    native.set("err", Function::new(ctx.clone(), err)?)?;
    native.set("problem", Function::new(ctx.clone(), problem)?)
}
