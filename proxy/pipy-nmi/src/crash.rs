//! Says, when the process crashes, that native modules are a part of it: without them it is not expected to.
//!
//! In: the paths of modules as they are loaded. Out: one line on standard error. INVARIANT: a handler makes system calls and reads
//! atomics alone; what was in its place before has the last word, for the fault comes again when it returns.

use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What programs crash by.
const SIGNALS: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// The line to be said. Replaced, never freed: a handler may be reading it.
static LINE: AtomicPtr<String> = AtomicPtr::new(null_mut());

/// What was done about each signal before.
static BEFORE: [AtomicPtr<libc::sigaction>; SIGNALS.len()] =
    [const { AtomicPtr::new(null_mut()) }; SIGNALS.len()];

/// From now on a crash names these modules.
pub(crate) fn name<'p>(paths: impl Iterator<Item = std::path::Display<'p>>) {
    let paths: Vec<String> = paths.map(|path| path.to_string()).collect();
    let line =
        format!("pipy: this is a crash; native modules are part of the process: {}\n", paths.join(", "));
    let first = LINE.swap(Box::into_raw(Box::new(line)), Ordering::AcqRel).is_null();
    if !first {
        return;
    }
    for (signal, place) in SIGNALS.into_iter().zip(&BEFORE) {
        // SAFETY: (crash) all bytes zero is a valid value of this plain structure.
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { (zeroed(), zeroed()) };
        action.sa_sigaction = crashed as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // On the stack for signals: the usual one may be what has run out.
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: (crash) both pointers are to live structures; the function has the type of a handler without information.
        if unsafe { libc::sigaction(signal, &raw const action, &raw mut before) } == 0 {
            place.store(Box::into_raw(Box::new(before)), Ordering::Release);
        }
    }
}

extern "C" fn crashed(signal: libc::c_int) {
    // SAFETY: (crash) the line is null or was made by `name`, and is never freed.
    if let Some(line) = unsafe { LINE.load(Ordering::Acquire).as_ref() } {
        // SAFETY: (crash) so many bytes are there.
        unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    }
    let place = SIGNALS.iter().position(|known| *known == signal).and_then(|at| BEFORE.get(at));
    let before = place.map_or(null_mut(), |place| place.load(Ordering::Acquire));
    if before.is_null() {
        // SAFETY: (crash) a call without pointers.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    } else {
        // SAFETY: (crash) the structure is one that the kernel has filled, and is never freed.
        unsafe { libc::sigaction(signal, before, null_mut()) };
    }
}
