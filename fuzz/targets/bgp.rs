//! Messages mean the same however they are cut, and are written as they were read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::bgp::{Decoder, Encoder};
    for as4 in [false, true] {
        if let Some(events) = pipy_fuzz::read_both_ways(|| Decoder::new(as4), data) {
            pipy_fuzz::write_and_read(Decoder::new(as4), Encoder::new(as4), &events);
        }
    }
});
