//! Values mean the same however they are cut, and are written as they were read; heads may differ, for what
//! showed the version may have been an attribute, which is dropped.
#![no_main]

use pipy_protocols::resp::{Decoder, Encoder};
use pipy_protocols::{Encoder as _, Event};

fn payloads(events: &[Event]) -> String {
    let ends: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::End { .. })).collect();
    format!("{ends:?}")
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(events) = pipy_fuzz::read_both_ways(Decoder::new, data) else { return };
    let (mut encoder, mut output) = (Encoder::new(), Vec::new());
    for event in &events {
        if encoder.push(event.clone(), &mut output).is_err() {
            return;
        }
    }
    let (again, result) = pipy_fuzz::read(Decoder::new(), &output.concat(), usize::MAX);
    assert_eq!(result, Ok(()));
    assert_eq!(payloads(&again), payloads(&events));
});
