//! Records of either side are read or refused; memory stays bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::fastcgi::{Requests, Responses};
    let mut items = Vec::new();
    let mut requests = Requests::new();
    let _ =
        data.chunks(7).try_for_each(|piece| requests.push(bytes::Bytes::copy_from_slice(piece), &mut items));
    let mut responses = Responses::new();
    responses.expect(1);
    let _ =
        data.chunks(7).try_for_each(|piece| responses.push(bytes::Bytes::copy_from_slice(piece), &mut items));
});
