//! What a ClientHello says, and which protocol first bytes are of, is never unsaid by the bytes that follow.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_filters::{client_hello, detect};
    let Some((cut, data)) = data.split_first() else { return };
    let (whole, spoken) = (format!("{:?}", client_hello(data)), detect(data));
    for len in (0..data.len()).step_by(usize::from(*cut).max(1)) {
        let part = &data[..len];
        match client_hello(part) {
            Ok(None) => {}
            said => assert_eq!(format!("{said:?}"), whole, "after {len} bytes"),
        }
        if let Some(early) = detect(part) {
            assert_eq!(Some(early), spoken, "after {len} bytes");
        }
    }
});
