//! A text is a script, or its error says why not; with the limits of production, and nothing that reaches out of the engine.
#![no_main]

use std::time::Duration;

use pipy_script::{Limits, try_out};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Shorter than in production, for the sake of endless loops: there will be many.
    let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
    if let Err(error) = try_out(text, limits) {
        assert!(!error.to_string().is_empty(), "an error without words");
    }
});
