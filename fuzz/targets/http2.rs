//! Neither side of HTTP/2 panics, and each fails for good once it has failed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_h2::{Config, Connection};
    let Some((cut, data)) = data.split_first() else { return };
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for is_server in [true, false] {
        let mut connection = if is_server {
            Connection::server(Config::default())
        } else {
            Connection::client(Config::default())
        };
        let start = if is_server { PREFACE } else { &PREFACE[24..] };
        let mut failed = connection.receive(bytes::Bytes::copy_from_slice(start)).is_err();
        let mut output = Vec::new();
        for piece in data.chunks(usize::from(*cut).max(1)) {
            let result = connection.receive(bytes::Bytes::copy_from_slice(piece));
            assert!(!failed || result.is_err());
            failed = result.is_err();
            while let Some(event) = connection.next_event() {
                if let pipy_h2::Event::Data { stream, data } = event {
                    connection.release(stream, data.len());
                }
            }
            connection.poll_output(&mut output, usize::MAX);
            output.clear();
        }
    }
});
