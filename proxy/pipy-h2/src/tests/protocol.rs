//! Frames and states, section by section of RFC 9113: what is accepted, and which error answers the rest.

use super::peer::*;
use crate::ErrorCode as C;
use crate::testing::frame;
use crate::{Config, ConnectionError, Event, Role};

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing is wrong.
    Fine,
    Reset(u32, C),
    GoAway(C),
}
use Answer::*;

fn answer(hand: &mut Hand, bytes: &[u8]) -> Answer {
    hand.output();
    let result = hand.send(bytes);
    let output = hand.output();
    let code = |kind, at| {
        output
            .iter()
            .find(|frame| frame.kind == crate::Kind(kind))
            .map(|frame| (frame.stream, C(frame.word(at))))
    };
    match (result, code(7, 4), code(3, 0)) {
        (Err(error), Some((0, code)), _) => {
            assert_eq!(error.code(), code, "{error}");
            GoAway(code)
        }
        (Ok(()), None, Some((stream, code))) => Reset(stream, code),
        (Ok(()), None, None) => Fine,
        other => panic!("{other:?}"),
    }
}

/// A server with stream 1 open, 3 half-closed (remote), 5 closed by both, 7 reset by the client,
/// 9 reset by us, and 11 idle.
fn busy() -> Hand {
    let mut hand = Hand::server();
    hand.get(1, false).get(3, true).get(5, true).get(7, false).get(9, false);
    let ids: Vec<_> = hand.events().iter().filter_map(Event::stream).collect();
    let (five, nine) = (ids[3], *ids.last().unwrap());
    assert_eq!((five.get(), nine.get()), (5, 9));
    hand.connection
        .send_response(five, &pipy_http::ResponseHead::new(204), pipy_http::BodyLength::None)
        .unwrap();
    hand.good(&rst(7, C::CANCEL));
    hand.connection.reset(nine, C::INTERNAL_ERROR);
    hand.output();
    hand.events();
    assert_eq!(hand.connection.streams(), 2);
    hand
}

fn check(cases: &[(&str, Vec<u8>, Answer)]) {
    for (name, bytes, expected) in cases {
        let mut hand = busy();
        assert_eq!(answer(&mut hand, bytes), *expected, "{name}");
        // The others are not touched by an error of one stream.
        if !matches!(expected, GoAway(_)) {
            assert_eq!(answer(&mut hand, &headers(101, true, GET)), Fine, "after {name}");
        }
    }
}

#[test]
fn section_4_frame_sizes() {
    check(&[
        ("16,384 bytes are allowed", data(1, false, &[0; 16_384]), Fine),
        ("one more is not", data(1, false, &[0; 16_385]), GoAway(C::FRAME_SIZE_ERROR)),
        ("unknown kinds are ignored", frame(0x42, 0xff, 77, b"grease"), Fine),
        ("unknown kinds are bounded too", frame(0x42, 0, 0, &[0; 16_385]), GoAway(C::FRAME_SIZE_ERROR)),
        ("undefined flags are ignored", frame(6, 0xfe, 0, &[0; 8]), Fine),
    ]);
}

#[test]
fn section_5_1_states() {
    let get = |stream| headers(stream, true, GET);
    check(&[
        ("data on an idle stream", data(11, true, b"x"), GoAway(C::PROTOCOL_ERROR)),
        ("reset of an idle stream", rst(11, C::CANCEL), GoAway(C::PROTOCOL_ERROR)),
        ("window of an idle stream", window_update(11, 1), GoAway(C::PROTOCOL_ERROR)),
        ("data after the end", data(3, true, b"x"), Reset(3, C::STREAM_CLOSED)),
        ("headers after the end", get(3), Reset(3, C::STREAM_CLOSED)),
        ("window after the end", window_update(3, 1), Fine),
        ("reset after the end", rst(3, C::CANCEL), Fine),
        ("data on a closed stream", data(5, true, b"x"), Reset(5, C::STREAM_CLOSED)),
        ("headers on a closed stream", get(5), GoAway(C::STREAM_CLOSED)),
        ("window of a closed stream", window_update(5, 1), Fine),
        ("reset of a closed stream", rst(5, C::CANCEL), Fine),
        ("data after the client's reset", data(7, true, b"x"), Reset(7, C::STREAM_CLOSED)),
        ("headers after the client's reset", get(7), GoAway(C::STREAM_CLOSED)),
        ("data under way when we reset", data(9, false, b"x"), Fine),
        ("trailers under way when we reset", headers(9, true, &[("a", "b")]), Fine),
        ("reset that crosses ours", rst(9, C::CANCEL), Fine),
    ]);
}

#[test]
fn section_5_1_1_identifiers() {
    let get = |stream| headers(stream, true, GET);
    check(&[
        ("numbers may be passed over", get(99), Fine),
        ("even ones are not the client's", get(12), GoAway(C::PROTOCOL_ERROR)),
        ("stream 0 has no requests", get(0), GoAway(C::PROTOCOL_ERROR)),
    ]);
    let mut hand = busy();
    hand.get(21, true);
    assert_eq!(answer(&mut hand, &get(19)), GoAway(C::PROTOCOL_ERROR));
}

#[test]
fn section_5_1_2_streams_at_once() {
    let config = Config { max_concurrent_streams: 2, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    hand.get(1, false).get(3, false);
    assert_eq!(answer(&mut hand, &headers(5, true, GET)), Reset(5, C::REFUSED_STREAM));
    let events = hand.events();
    assert!(matches!(events.last(), Some(Event::Refused { stream, .. }) if stream.get() == 5));
    // What the refused block put into the table is there all the same.
    hand.good(&rst(1, C::CANCEL));
    assert_eq!(answer(&mut hand, &headers(7, true, GET)), Fine);
}

#[test]
fn a_refused_block_still_reaches_the_table() {
    let config = Config { max_concurrent_streams: 0, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    let mut refused = block(GET);
    refused.extend([0x40, 1, b'x', 1, b'y']);
    hand.good(&frame(1, 5, 1, &refused));
    hand.connection.config.max_concurrent_streams = 1;
    let mut taken = block(GET);
    taken.push(0xbe);
    hand.good(&frame(1, 5, 3, &taken));
    let events = hand.events();
    assert!(matches!(&events[1], Event::Request { head, .. } if head.headers.get("x") == Some(b"y")));
}

#[test]
fn section_6_1_data() {
    let padded = |stream, payload: &[u8]| frame(0, 8, stream, payload);
    check(&[
        ("on stream 0", data(0, false, b"x"), GoAway(C::PROTOCOL_ERROR)),
        ("padding", padded(1, b"\x03data\0\0\0"), Fine),
        ("padding alone", padded(1, b"\x02\0\0"), Fine),
        ("padding that fills the frame", padded(1, b"\x02\0"), GoAway(C::PROTOCOL_ERROR)),
        ("no room for the length", padded(1, b""), GoAway(C::FRAME_SIZE_ERROR)),
    ]);
}

#[test]
fn section_6_2_headers() {
    let mut priority = vec![0, 0, 0, 0, 16];
    priority.extend(block(GET));
    let mut itself = vec![0x80, 0, 0, 11, 16];
    itself.extend(block(GET));
    let mut padded = vec![4];
    padded.extend(block(GET));
    padded.extend([0; 4]);
    let mut both = vec![1, 0, 0, 0, 1, 16];
    both.extend(block(GET));
    both.push(0);
    check(&[
        ("with a priority", frame(1, 0x25, 11, &priority), Fine),
        ("depending on itself", frame(1, 0x25, 11, &itself), Reset(11, C::PROTOCOL_ERROR)),
        ("with padding", frame(1, 0x0d, 11, &padded), Fine),
        ("with both", frame(1, 0x2d, 11, &both), Fine),
        ("too much padding", frame(1, 0x0d, 11, &[3, 0, 0]), GoAway(C::PROTOCOL_ERROR)),
        ("no room for the priority", frame(1, 0x25, 11, &[0; 4]), GoAway(C::FRAME_SIZE_ERROR)),
        ("no room for the padding", frame(1, 0x0d, 11, &[]), GoAway(C::FRAME_SIZE_ERROR)),
        ("bad compression", frame(1, 5, 11, &[0x80]), GoAway(C::COMPRESSION_ERROR)),
        ("a block that ends within a field", frame(1, 5, 11, &[0x40, 5]), GoAway(C::COMPRESSION_ERROR)),
    ]);
}

#[test]
fn sections_6_3_and_6_4_priority_and_rst_stream() {
    check(&[
        ("priority of an idle stream", frame(2, 0, 11, &[0; 5]), Fine),
        ("priority of a closed stream", frame(2, 0, 5, &[0; 5]), Fine),
        ("priority on stream 0", frame(2, 0, 0, &[0; 5]), GoAway(C::PROTOCOL_ERROR)),
        ("priority of four bytes", frame(2, 0, 1, &[0; 4]), Reset(1, C::FRAME_SIZE_ERROR)),
        ("the same on an idle stream", frame(2, 0, 11, &[0; 4]), GoAway(C::FRAME_SIZE_ERROR)),
        ("priority over itself", frame(2, 0, 1, &[0, 0, 0, 1, 0]), Reset(1, C::PROTOCOL_ERROR)),
        ("reset on stream 0", rst(0, C::CANCEL), GoAway(C::PROTOCOL_ERROR)),
        ("reset of three bytes", frame(3, 0, 1, &[0; 3]), GoAway(C::FRAME_SIZE_ERROR)),
        ("reset of five bytes", frame(3, 0, 1, &[0; 5]), GoAway(C::FRAME_SIZE_ERROR)),
        ("reset with an unknown code", rst(1, C(0xdead)), Fine),
    ]);
}

#[test]
fn section_6_5_settings() {
    check(&[
        ("unknown ones", settings(&[(0x99, 1)]), Fine),
        ("none", settings(&[]), Fine),
        ("on a stream", frame(4, 0, 1, &[]), GoAway(C::PROTOCOL_ERROR)),
        ("of five bytes", frame(4, 0, 0, &[0; 5]), GoAway(C::FRAME_SIZE_ERROR)),
        ("an acknowledgement with content", frame(4, 1, 0, &[0; 6]), GoAway(C::FRAME_SIZE_ERROR)),
        ("an acknowledgement of nothing", frame(4, 1, 0, &[]), GoAway(C::PROTOCOL_ERROR)),
        ("a window over the maximum", settings(&[(4, 1 << 31)]), GoAway(C::FLOW_CONTROL_ERROR)),
        ("a small frame size", settings(&[(5, 16_383)]), GoAway(C::PROTOCOL_ERROR)),
        ("push of two", settings(&[(2, 2)]), GoAway(C::PROTOCOL_ERROR)),
    ]);
}

#[test]
fn settings_are_acknowledged_one_by_one_and_in_order() {
    let mut hand = Hand::server();
    hand.good(&[settings(&[(4, 1)]), settings(&[(3, 5)])].concat());
    let acks = hand.output();
    assert_eq!(acks.len(), 2);
    assert!(acks.iter().all(|ack| (ack.kind.0, ack.flags, ack.payload.len()) == (4, 1, 0)));
    assert_eq!(hand.connection.peer_settings().max_concurrent_streams, Some(5));
}

#[test]
fn a_smaller_table_of_ours_binds_the_peer_once_it_has_acknowledged_it() {
    let config = Config { header_table_size: 100, ..Config::default() };
    let plain = block(GET);
    let follows = [&[0x20][..], &plain].concat();
    let mut hand = Hand::with(config, Role::Server);
    assert_eq!(answer(&mut hand, &frame(1, 5, 1, &plain)), GoAway(C::COMPRESSION_ERROR));
    let mut hand = Hand::with(config, Role::Server);
    assert_eq!(answer(&mut hand, &frame(1, 5, 1, &follows)), Fine);
    assert_eq!(answer(&mut hand, &frame(1, 5, 3, &plain)), Fine);
    // Before that it may still use the default of 4,096.
    let mut connection = crate::Connection::server(config);
    connection.receive([&crate::input::PREFACE[..], &settings(&[])].concat().into()).unwrap();
    assert_eq!(connection.receive(frame(1, 5, 1, &plain).into()), Ok(()));
}

#[test]
fn sections_6_6_to_6_8_push_ping_goaway() {
    check(&[
        ("push promise", frame(5, 4, 1, &[0, 0, 0, 2]), GoAway(C::PROTOCOL_ERROR)),
        ("ping on a stream", frame(6, 0, 1, &[0; 8]), GoAway(C::PROTOCOL_ERROR)),
        ("ping of seven bytes", frame(6, 0, 0, &[0; 7]), GoAway(C::FRAME_SIZE_ERROR)),
        ("an answer to no ping", frame(6, 1, 0, &[0; 8]), Fine),
        ("goaway on a stream", frame(7, 0, 1, &[0; 8]), GoAway(C::PROTOCOL_ERROR)),
        ("goaway of seven bytes", frame(7, 0, 0, &[0; 7]), GoAway(C::FRAME_SIZE_ERROR)),
        ("goaway with words", frame(7, 0, 0, b"\0\0\0\0\0\0\0\0bye"), Fine),
    ]);
    let mut hand = Hand::server();
    hand.good(&frame(6, 0, 0, b"12345678"));
    let pong = &hand.output()[0];
    assert_eq!((pong.kind.0, pong.flags, &pong.payload[..]), (6, 1, &b"12345678"[..]));
}

#[test]
fn section_6_9_window_update() {
    let max = (1u32 << 31) - 1;
    check(&[
        ("of the connection", window_update(0, 1), Fine),
        ("of nothing, for the connection", window_update(0, 0), GoAway(C::PROTOCOL_ERROR)),
        ("of nothing, for a stream", window_update(1, 0), Reset(1, C::PROTOCOL_ERROR)),
        ("the reserved bit is ignored", window_update(1, 1 << 31), Reset(1, C::PROTOCOL_ERROR)),
        ("over the maximum, for the connection", window_update(0, max), GoAway(C::FLOW_CONTROL_ERROR)),
        ("over the maximum, for a stream", window_update(1, max), Reset(1, C::FLOW_CONTROL_ERROR)),
        ("of three bytes", frame(8, 0, 0, &[0; 3]), GoAway(C::FRAME_SIZE_ERROR)),
    ]);
    // By settings it is the connection's fault (§6.9.2).
    let mut hand = busy();
    assert_eq!(answer(&mut hand, &window_update(1, max - 65_535)), Fine);
    assert_eq!(answer(&mut hand, &settings(&[(4, 65_536)])), GoAway(C::FLOW_CONTROL_ERROR));
}

#[test]
fn section_6_10_continuation() {
    let whole = block(GET);
    let (a, b) = whole.split_at(7);
    let begin = frame(1, 1, 11, a);
    let next = |bytes: Vec<u8>| [begin.clone(), bytes].concat();
    check(&[
        ("two pieces", next(frame(9, 4, 11, b)), Fine),
        ("an empty one between", next([frame(9, 0, 11, b""), frame(9, 4, 11, b)].concat()), Fine),
        ("of another stream", next(frame(9, 4, 13, b)), GoAway(C::PROTOCOL_ERROR)),
        ("data between", next(data(1, false, b"x")), GoAway(C::PROTOCOL_ERROR)),
        ("ping between", next(frame(6, 0, 0, &[0; 8])), GoAway(C::PROTOCOL_ERROR)),
        ("an unknown frame between", next(frame(0x55, 0, 0, &[])), GoAway(C::PROTOCOL_ERROR)),
        ("headers between", next(headers(13, true, GET)), GoAway(C::PROTOCOL_ERROR)),
        ("of nothing", frame(9, 4, 1, b), GoAway(C::PROTOCOL_ERROR)),
        (
            "after the end of the block",
            [headers(11, true, GET), frame(9, 4, 11, b"")].concat(),
            GoAway(C::PROTOCOL_ERROR),
        ),
        ("on stream 0", frame(9, 4, 0, b""), GoAway(C::PROTOCOL_ERROR)),
    ]);
    let mut hand = Hand::server();
    hand.good(&next(frame(9, 4, 11, b)));
    // The end of the stream was said at the beginning of the block.
    assert!(matches!(&hand.events()[..], [Event::Request { .. }, Event::End { .. }]));
}

#[test]
fn section_3_4_prefaces() {
    let client = |bytes: &[u8]| {
        let mut connection = crate::Connection::server(Config::default());
        connection.receive(bytes.to_vec().into())
    };
    let preface = crate::input::PREFACE;
    assert_eq!(client(b"GET / HTTP/1.1\r\n"), Err(ConnectionError::BadPreface));
    assert_eq!(client(b"\x16\x03\x01"), Err(ConnectionError::BadPreface));
    for (kind, first) in [(6, frame(6, 0, 0, &[0; 8])), (1, headers(1, true, GET)), (0, data(1, true, b""))] {
        let found = crate::Kind(kind);
        assert_eq!(client(&[&preface[..], &first].concat()), Err(ConnectionError::NoSettings { found }));
    }
    let ack = [&preface[..], &frame(4, 1, 0, &[])].concat();
    assert!(matches!(client(&ack), Err(ConnectionError::NoSettings { .. })));
    assert_eq!(client(&[&preface[..], &frame(4, 0, 0, &[])].concat()), Ok(()));
    // A server's begins with SETTINGS as well.
    let mut connection = crate::Connection::client(Config::default());
    assert!(connection.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice().into()).is_err());
}

#[test]
fn a_failed_connection_repeats_its_error_and_writes_one_goaway() {
    let mut hand = busy();
    let error = hand.send(&frame(6, 0, 0, &[0; 7])).unwrap_err();
    assert_eq!(hand.send(&frame(6, 0, 0, &[0; 8])), Err(error.clone()));
    assert_eq!(hand.connection.finish(), Err(error.clone()));
    assert_eq!(hand.connection.error(), Some(&error));
    let goaway = hand.output();
    assert_eq!(goaway.len(), 1);
    assert_eq!(&goaway[0].payload[8..], error.to_string().as_bytes());
    assert_eq!(goaway[0].word(0), 9, "the last stream that was looked at");
    assert!(hand.output().is_empty() && hand.connection.is_done() && !hand.connection.wants_more_input());
    // Streams are told one by one.
    let told: Vec<u32> = hand.events().iter().filter_map(Event::stream).map(crate::StreamId::get).collect();
    assert_eq!(told, [1, 3]);
}

#[test]
fn servers_cannot_push_to_a_client_nor_open_streams() {
    let promise = frame(5, 4, 1, &[0, 0, 0, 2, 0x88]);
    assert_eq!(Hand::client().send(&promise).map_err(|error| error.code()), Err(C::PROTOCOL_ERROR));
    let response = |stream| headers(stream, true, &[(":status", "200")]);
    for stream in [1, 2] {
        assert_eq!(
            Hand::client().send(&response(stream)).map_err(|error| error.code()),
            Err(C::PROTOCOL_ERROR)
        );
    }
}
