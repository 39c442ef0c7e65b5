//! Whether HTTP/1 is refused does not depend on the cuts; memory stays within the limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_http::{Limits, Method, RequestDecoder, ResponseDecoder};
    let Some((cut, data)) = data.split_first() else { return };
    let requests = |cut: usize| {
        let mut decoder = RequestDecoder::new(Limits::default());
        let mut heads = Vec::new();
        for piece in data.chunks(cut.max(1)) {
            decoder.push(bytes::Bytes::copy_from_slice(piece));
            loop {
                match decoder.next() {
                    Ok(Some(pipy_http::RequestItem::Head(head, length))) => {
                        heads.push(format!("{head:?} {length:?}"))
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return (heads, Some(error)),
                }
            }
        }
        (heads, None)
    };
    let (whole, pieces) = (requests(usize::MAX), requests(usize::from(*cut)));
    assert_eq!(whole.0, pieces.0);
    assert_eq!(whole.1.is_some(), pieces.1.is_some());
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect(&Method::Get);
    decoder.expect(&Method::Head);
    for piece in data.chunks(usize::from(*cut).max(1)) {
        decoder.push(bytes::Bytes::copy_from_slice(piece));
        while let Ok(Some(_)) = decoder.next() {}
    }
});
