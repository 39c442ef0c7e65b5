//! What can be read can be written, and then reads the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(message) = pipy_protocols::dns::decode(&bytes::Bytes::copy_from_slice(data)) {
        let written = pipy_protocols::dns::encode(&message).expect("what was read can be written");
        assert_eq!(pipy_protocols::dns::decode(&written), Ok(message));
    }
});
