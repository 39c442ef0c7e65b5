//! What can be read can be written, and then reads the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::xml::{decode, parse, stringify};
    if let Ok(root) = decode(&bytes::Bytes::copy_from_slice(data)) {
        let text = stringify(&root, 0).expect("what was read can be written");
        assert_eq!(parse(&text), Ok(root));
    }
});
