//! What can be read can be written, and then reads the same; references cannot fill the memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::hessian::{Options, decode, encode};
    let body = bytes::Bytes::copy_from_slice(data);
    let _ = decode(&body, Options { plain_maps: true });
    if let Ok(values) = decode(&body, Options::default()) {
        if let Ok(written) = encode(&values.clone().into()) {
            let again = decode(&written, Options::default()).expect("what we wrote");
            assert_eq!(format!("{again:?}"), format!("{values:?}"));
        }
    }
});
