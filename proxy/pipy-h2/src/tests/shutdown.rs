//! Ends of connections: graceful ones in two steps (RFC 9113 §6.8), the peer's, and of the socket.

use pipy_http::{BodyLength, Method, RequestHead, ResponseHead};

use super::peer::*;
use crate::ErrorCode as C;
use crate::testing::frame;
use crate::{ConnectionError, Event, ResetCause, Scheme, SendError, StreamId};

fn request() -> RequestHead {
    let mut head = RequestHead::new(Method::Get, "/");
    head.headers.append("host", "shop").unwrap();
    head
}

fn ask(pair: &mut Pair) -> StreamId {
    pair.client.send_request(&request(), Scheme::Http, BodyLength::None).unwrap()
}

fn answer(pair: &mut Pair, stream: StreamId) {
    pair.server.send_response(stream, &ResponseHead::new(204), BodyLength::None).unwrap();
}

#[test]
fn a_server_that_leaves_serves_what_was_under_way() {
    let mut hand = Hand::server();
    hand.get(1, true);
    hand.connection.shutdown();
    let output = hand.output();
    assert_eq!((output[0].kind.0, output[0].word(0), output[0].word(4)), (7, (1 << 31) - 1, 0));
    assert_eq!(output[1].kind.0, 6);
    // Sent before the client saw the GOAWAY: served.
    hand.get(3, true);
    hand.good(&frame(6, 1, 0, &output[1].payload));
    let output = hand.output();
    assert_eq!((output[0].kind.0, output[0].word(0)), (7, 3));
    // Sent afterwards: not looked at, nor answered, and no offence.
    hand.good(&headers(5, false, GET)).good(&data(5, true, b"late")).good(&rst(5, C::CANCEL));
    assert_eq!(hand.output(), []);
    let streams: Vec<StreamId> = hand
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Request { stream, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    assert_eq!(streams.len(), 2);
    for stream in streams {
        assert!(!hand.connection.is_done());
        hand.connection.send_response(stream, &ResponseHead::new(204), BodyLength::None).unwrap();
    }
    assert!(hand.connection.is_done());
}

#[test]
fn a_client_hears_that_its_server_leaves_and_opens_nothing_more() {
    let mut pair = Pair::new();
    let first = ask(&mut pair);
    let asked = pair.server_events()[0].stream().unwrap();
    pair.server.shutdown();
    let events = pair.client_events();
    assert!(
        events.iter().all(|event| matches!(event, Event::GoAway { code: C::NO_ERROR, .. })),
        "{events:?}"
    );
    assert_eq!(pair.client.available_streams(), 0);
    assert_eq!(
        pair.client.send_request(&request(), Scheme::Http, BodyLength::None),
        Err(SendError::GoingAway)
    );
    assert!(!pair.client.is_done());
    answer(&mut pair, asked);
    assert!(matches!(pair.client_events().last(), Some(Event::End { stream, .. }) if *stream == first));
    assert!(pair.client.is_done() && pair.server.is_done());
}

#[test]
fn streams_above_the_last_one_may_be_sent_again() {
    let mut hand = Hand::client();
    for _ in 0..3 {
        hand.connection.send_request(&request(), Scheme::Http, BodyLength::None).unwrap();
    }
    hand.good(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0xb, b'!']));
    let events = hand.events();
    assert!(
        matches!(&events[0], Event::GoAway { last_stream: 1, code: C::ENHANCE_YOUR_CALM, debug } if debug == "!")
    );
    let unseen: Vec<u32> = events[1..]
        .iter()
        .map(|event| {
            assert!(event.is_unprocessed(), "{event:?}");
            event.stream().unwrap().get()
        })
        .collect();
    assert_eq!(unseen, [3, 5]);
    // The last stream cannot be raised again.
    let error = hand.send(&frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])).unwrap_err();
    assert_eq!(error, ConnectionError::GoAwayRaised { before: 1, after: 3 });
}

#[test]
fn a_refused_stream_may_be_sent_again_and_a_cancelled_one_not() {
    for (code, unprocessed) in [(C::REFUSED_STREAM, true), (C::CANCEL, false), (C::INTERNAL_ERROR, false)] {
        let mut hand = Hand::client();
        hand.connection.send_request(&request(), Scheme::Http, BodyLength::None).unwrap();
        hand.good(&rst(1, code));
        let events = hand.events();
        assert!(matches!(&events[..], [Event::Reset { cause: ResetCause::Peer, .. }]));
        assert_eq!(events[0].is_unprocessed(), unprocessed, "{code}");
    }
}

#[test]
fn a_client_leaves_at_once() {
    let mut pair = Pair::new();
    ask(&mut pair);
    let asked = pair.server_events()[0].stream().unwrap();
    pair.client.shutdown();
    assert!(matches!(&pair.server_events()[..], [Event::GoAway { last_stream: 0, code: C::NO_ERROR, .. }]));
    answer(&mut pair, asked);
    pair.talk();
    assert!(pair.client.is_done());
    assert_eq!(pair.client.finish(), Ok(()));
}

#[test]
fn shutting_down_twice_or_after_a_failure_says_nothing_more() {
    let mut hand = Hand::server();
    hand.connection.shutdown();
    hand.output();
    hand.connection.shutdown();
    assert_eq!(hand.output(), []);
    hand.connection.leave_now();
    hand.connection.leave_now();
    assert_eq!(hand.output().len(), 1);
    assert!(hand.connection.is_done());
}

#[test]
fn the_end_of_the_socket_is_clean_between_messages_only() {
    let mut hand = Hand::server();
    assert_eq!(hand.connection.finish(), Ok(()));

    let mut hand = Hand::server();
    hand.get(1, true).events();
    assert_eq!(hand.connection.finish(), Err(ConnectionError::Truncated { part: "a stream" }));
    assert!(matches!(&hand.events()[..], [Event::Reset { cause: ResetCause::ConnectionEnded, .. }]));

    let mut hand = Hand::server();
    hand.good(&frame(1, 1, 1, b""));
    assert_eq!(hand.connection.finish(), Err(ConnectionError::Truncated { part: "a header block" }));
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let mut pair = Pair::new();
    pair.client.ping(*b"round 42");
    pair.talk();
    assert_eq!(pair.client_events(), [Event::Pong { payload: *b"round 42" }]);
}

#[test]
fn identifiers_end_before_they_would_begin_anew() {
    let mut hand = Hand::client();
    hand.connection.next_local_id = (1 << 31) - 1;
    assert!(hand.connection.send_request(&request(), Scheme::Http, BodyLength::None).is_ok());
    let result = hand.connection.send_request(&request(), Scheme::Http, BodyLength::None);
    assert_eq!(result, Err(SendError::StreamIdsExhausted));
    assert_eq!(hand.connection.available_streams(), 0);
}
