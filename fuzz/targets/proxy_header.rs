//! A PROXY header ends where it ends, whatever follows; what was read is written so that it reads the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_filters::proxy_protocol::{Version, decode};
    let whole = decode(data);
    let end = match &whole {
        Ok(Some((_, end))) => *end,
        _ => data.len(),
    };
    assert!(end <= data.len());
    for len in 0..end.min(600) {
        match (decode(&data[..len]), &whole) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(early, *late, "after {len} bytes"),
            (early, late) => panic!("after {len} of {end} bytes {early:?}, then {late:?}"),
        }
    }
    let Ok(Some((header, _))) = whole else { return };
    assert_eq!(decode(&data[..end]), Ok(Some((header.clone(), end))));
    let mut written = Vec::new();
    header.encode(Version::V2, &mut written);
    let len = written.len();
    assert_eq!(decode(&written), Ok(Some((header, len))));
});
