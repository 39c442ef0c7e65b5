//! Messages mean the same however they are cut, and are written as they were read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::thrift::{Decoder, Encoder};
    if let Some(events) = pipy_fuzz::read_both_ways(Decoder::new, data) {
        pipy_fuzz::write_and_read(Decoder::new(), Encoder::new(), &events);
    }
});
