//! `pipy`: reads the flags, starts what they ask for, turns its end into an exit code.
//!
//! Exit codes: 0 all done, 1 it could not do its work (the reason is on standard error), 2 the flags are wrong.

#![forbid(unsafe_code)]

mod admin;
mod args;
mod faults;
mod front;
mod notice;
mod pages;
mod patience;
mod process;
mod repo;
mod script;
mod sidecar;

use std::process::ExitCode;

use args::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    // What runs scripts ends as users of scripts know it.
    let own = !matches!(words.first().and_then(|word| word.to_str()), Some("sidecar" | "check"));
    let command = match args::parse(words) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("pipy: {error}\nhint: pipy --help lists the options");
            return ExitCode::from(if own { SCRIPT_FAILED } else { 2 });
        }
    };
    let result = match command {
        Command::Print(text) => print(&text),
        Command::Check(file) => check(&file),
        Command::CheckPlugin(name, file) => check_plugin(&name, &file),
        Command::Sidecar(options) => sidecar::run(*options),
        Command::Script(options) => script::run(&options),
        Command::Repo(options) => repo::run(&options),
        Command::RepoAndScript(options, script) => repo::open(&options).and_then(|()| script::run(&script)),
    };
    // Lines that loggers of scripts and plugins still have are sent before the process ends.
    pipy_script::flush_logs();
    pipy_script::restore_terminal();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipy: {error}");
            if let Some(hint) = hint(&error) {
                eprintln!("hint: {hint}");
            }
            if own { ExitCode::from(SCRIPT_FAILED) } else { ExitCode::FAILURE }
        }
    }
}

/// How pipy ends where a script does not load, an address is taken, or an option is wrong.
const SCRIPT_FAILED: u8 = 255;

/// What helps against the failures of addresses, which the system tells in three words.
fn hint(error: &str) -> Option<&'static str> {
    let bind = error.starts_with("Cannot start listening");
    match error {
        _ if bind && error.contains("(os error 98)") => {
            Some("another program has this port; `ss -ltunp` says which. --force-start starts without it")
        }
        _ if bind && error.contains("(os error 99)") => {
            Some("this machine has no such address; `ip address` lists those that it has")
        }
        _ if bind && error.contains("(os error 13)") => Some(
            "ports below 1024 are for root and for who has CAP_NET_BIND_SERVICE; others are for everyone",
        ),
        _ if error.contains("cannot open script: ") => {
            Some("is it there, in the folder of the main script or below, and may this user read it?")
        }
        _ => None,
    }
}

fn print(text: &str) -> Result<(), String> {
    use std::io::Write;
    // A reader that has gone away, as `pipy --help | head -1` does, is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn check_plugin(name: &str, file: &std::path::Path) -> Result<(), String> {
    let read = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    let script = read.map_err(|error| format!("{}: {error}", file.display()))?;
    // A script may do as it is loaded whatever scripts can. Whoever only asks about one gives it no file and no connection.
    let none = rustix::process::Rlimit { current: Some(3), maximum: Some(3) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, none)
        .map_err(|error| format!("what the script may open cannot be limited: {error}"))?;
    let doubts = pipy_mesh::try_plugin(name, &script)?;
    let doubts: String = doubts.iter().map(|doubt| format!("warning: {doubt}\n")).collect();
    print(&format!("{doubts}the plugin loads\n"))
}

fn check(file: &std::path::Path) -> Result<(), String> {
    let json = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config = pipy_config::parse(&json).map_err(|error| format!("{}: {error}", file.display()))?;
    print(&format!("{}: valid, version {}\n", file.display(), config.version))
}
