//! Parts mean the same however the body is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = pipy_fuzz::read_both_ways(|| pipy_protocols::multipart::Decoder::new("b"), data);
});
