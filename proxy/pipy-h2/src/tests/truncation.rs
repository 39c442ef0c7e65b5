//! The same conversation cut anywhere, and cut off at every byte.

use bytes::Bytes;

use super::peer::*;
use crate::testing::frame;
use crate::{Config, Connection, ConnectionError, Event};

/// What a server is sent: prefaces, three requests with all kinds of frames around them.
fn conversation() -> Vec<u8> {
    let fields = [POST, &[("content-length", "11"), ("x-a", "b")]].concat();
    let whole = block(GET);
    let (first, second) = whole.split_at(9);
    [
        crate::input::PREFACE.to_vec(),
        settings(&[(3, 100), (4, 65_535)]),
        window_update(0, 1000),
        headers(1, false, &fields),
        frame(2, 0, 5, &[0, 0, 0, 1, 7]),
        data(1, false, b"hello"),
        frame(4, 1, 0, &[]),
        frame(0, 8, 1, b"\x03 world\0\0\0"),
        frame(1, 0x09, 3, &[&[2][..], first, &[0; 2]].concat()),
        frame(9, 4, 3, second),
        frame(6, 0, 0, b"pingping"),
        frame(0xfa, 0, 3, b"unknown"),
        headers(1, true, &[("grpc-status", "0")]),
        headers(5, true, GET),
        frame(7, 0, 0, &[0; 8]),
    ]
    .concat()
}

/// Events with neighbouring data joined, and the output, of a server that is sent these pieces.
fn read(pieces: &[&[u8]]) -> (Vec<Event>, Vec<u8>, Result<(), ConnectionError>) {
    let mut connection = Connection::server(Config::default());
    let mut events: Vec<Event> = Vec::new();
    let mut result = Ok(());
    for piece in pieces {
        result = connection.receive(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.next_event() {
            match (events.last_mut(), event) {
                (Some(Event::Data { stream, data }), Event::Data { stream: same, data: more })
                    if *stream == same =>
                {
                    *data = [&data[..], &more].concat().into();
                }
                (_, event) => events.push(event),
            }
        }
        if result.is_err() {
            break;
        }
    }
    let mut output = Vec::new();
    connection.poll_output(&mut output, usize::MAX);
    (events, output.concat(), result.and_then(|()| connection.finish()))
}

#[test]
fn events_and_replies_do_not_depend_on_the_cuts() {
    let bytes = conversation();
    let whole = read(&[&bytes]);
    assert_eq!(whole.0.iter().filter(|event| matches!(event, Event::Request { .. })).count(), 3);
    assert!(whole.0.iter().any(|event| matches!(event, Event::Data { data, .. } if data == "hello world")));
    assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    for cut in 1..bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(read(&[a, b]), whole, "cut at {cut}");
    }
    for size in [2, 3, 5, 7, 11, 100] {
        assert_eq!(read(&bytes.chunks(size).collect::<Vec<_>>()), whole, "pieces of {size}");
    }
}

#[test]
fn errors_do_not_depend_on_the_cuts() {
    for bad in
        [frame(6, 0, 0, &[0; 7]), headers(2, true, GET), frame(1, 5, 7, &[0x80]), frame(0, 8, 1, &[9, 0])]
    {
        let bytes = [conversation(), bad].concat();
        let whole = read(&[&bytes]);
        assert!(whole.2.is_err());
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }
}

#[test]
fn what_is_cut_off_is_a_beginning_and_a_truncation() {
    let bytes = conversation();
    let (whole, ..) = read(&[&bytes]);
    for end in 0..bytes.len() {
        let (events, _, result) = read(&[&bytes[..end]]);
        assert!(
            matches!(result, Err(ConnectionError::Truncated { .. }) | Ok(())),
            "cut at {end}: {result:?}"
        );
        for (event, expected) in events.iter().zip(&whole) {
            match (event, expected) {
                (Event::Data { data, .. }, Event::Data { data: all, .. }) => assert!(all.starts_with(data)),
                _ => assert_eq!(event, expected, "cut at {end}"),
            }
        }
    }
}
