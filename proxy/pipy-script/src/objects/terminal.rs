//! `pipy.tty`: the terminal that the process is at, if it is at one.
//!
//! INVARIANT: it is given back as it was found.

use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rquickjs::object::Accessor;
use rquickjs::{Ctx, Exception, Object, Result};

/// The settings before it was made raw, as `stty -g` writes them.
static BEFORE: Mutex<Option<String>> = Mutex::new(None);

fn stty(arguments: &[&str]) -> std::io::Result<String> {
    let out = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output()?;
    if !out.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn before() -> std::sync::MutexGuard<'static, Option<String>> {
    BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Gives the terminal back; for when the process ends.
pub fn restore() {
    if let Some(settings) = before().take() {
        // Nobody is left to be told.
        let _ = stty(&[&settings]);
    }
}

fn set_raw(ctx: Ctx<'_>, raw: bool) -> Result<()> {
    let failed = |why: &str| Exception::throw_message(&ctx, &format!("pipy.tty.raw: {why}"));
    if !std::io::stdin().is_terminal() {
        return Err(failed("standard input is no terminal"));
    }
    let mut before = before();
    let done = match (raw, before.is_some()) {
        (true, false) => stty(&["-g"]).and_then(|settings| {
            *before = Some(settings);
            stty(&["raw", "-echo"])
        }),
        (false, true) => before.take().map_or(Ok(String::new()), |settings| stty(&[&settings])),
        _ => Ok(String::new()),
    };
    done.map(|_| ()).map_err(|error| failed(&error.to_string()))
}

/// Adds it to the `pipy` object.
pub(super) fn install<'js>(ctx: &Ctx<'js>, pipy: &Object<'js>) -> Result<()> {
    let tty = Object::new(ctx.clone())?;
    tty.prop("raw", Accessor::new(|| before().is_some(), set_raw).enumerable())?;
    pipy.set("tty", tty)
}
