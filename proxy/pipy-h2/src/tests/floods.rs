//! Floods: each is stopped by its own limit, with ENHANCE_YOUR_CALM and a word for the counter, and what
//! honest peers do is not.

use pipy_http::{BodyLength, ResponseHead};

use super::peer::*;
use crate::ErrorCode as C;
use crate::testing::frame;
use crate::{Config, Connection, ConnectionError, Event, Limits, Nuisance, Role};

/// Sends what `next` gives until the connection fails; how many it took, and why it failed.
fn until_calm(
    hand: &mut Hand,
    limit: usize,
    mut next: impl FnMut(u32) -> Vec<u8>,
) -> (usize, ConnectionError) {
    for count in 0..limit {
        let result = hand.send(&next(count as u32));
        if let Err(error) = result {
            assert_eq!(hand.goaway(), Some(C::ENHANCE_YOUR_CALM), "{error}");
            return (count, error);
        }
        // An honest peer would read; this one is not helped by it.
        hand.output();
        hand.events();
        assert!(hand.connection.memory() < 64 * 1024, "{}", hand.connection.memory());
    }
    panic!("{limit} were taken");
}

fn assert_flood(kind: Nuisance, burst: usize, next: impl FnMut(u32) -> Vec<u8>) {
    let mut hand = Hand::server();
    hand.request(1, false, POST).unwrap();
    let (count, error) = until_calm(&mut hand, burst * 2, next);
    assert_eq!(error, ConnectionError::Flood(kind));
    assert!((burst - 1..=burst + 1).contains(&count), "{count} of {burst}");
}

#[test]
fn rapid_reset_in_one_write() {
    assert_flood(Nuisance::Resets, 200, |count| {
        let stream = 3 + count * 2;
        [headers(stream, true, GET), rst(stream, C::CANCEL)].concat()
    });
}

#[test]
fn a_request_that_is_taken_back_at_once_is_never_seen() {
    let mut hand = Hand::server();
    hand.good(&[headers(1, true, GET), rst(1, C::CANCEL)].concat());
    assert_eq!((hand.events(), hand.connection.streams()), (vec![], 0));
    // Once the caller has seen it, it is told.
    hand.get(3, true).events();
    hand.good(&rst(3, C::CANCEL));
    assert!(matches!(&hand.events()[..], [Event::Reset { code: C::CANCEL, .. }]));
}

#[test]
fn made_you_reset() {
    // Each of these makes us reset the stream, which frees its place.
    assert_flood(Nuisance::StreamErrors, 100, |count| {
        let stream = 3 + count * 2;
        [headers(stream, false, GET), window_update(stream, 0)].concat()
    });
    assert_flood(Nuisance::StreamErrors, 100, |count| headers(3 + count * 2, true, &[("Bad", "1")]));
    assert_flood(Nuisance::StreamErrors, 100, |count| {
        let stream = 3 + count * 2;
        [headers(stream, true, GET), data(stream, true, b"")].concat()
    });
}

#[test]
fn more_streams_than_allowed_for_ever() {
    let config = Config { max_concurrent_streams: 5, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    let (count, error) = until_calm(&mut hand, 1000, |count| headers(1 + count * 2, true, GET));
    assert_eq!((count, error), (105, ConnectionError::Flood(Nuisance::StreamErrors)));
}

#[test]
fn small_frames_that_serve_nobody() {
    assert_flood(Nuisance::Settings, 50, |_| settings(&[(4, 1)]));
    assert_flood(Nuisance::Pings, 100, |_| frame(6, 0, 0, &[0; 8]));
    assert_flood(Nuisance::Pings, 100, |_| frame(6, 1, 0, &[0; 8]));
    assert_flood(Nuisance::EmptyFrames, 100, |_| data(1, false, b""));
    assert_flood(Nuisance::EmptyFrames, 100, |_| frame(0, 8, 1, b"\x02\0\0"));
    assert_flood(Nuisance::WindowUpdates, 1000, |_| window_update(0, 1));
    assert_flood(Nuisance::WindowUpdates, 1000, |_| window_update(1, 1));
    assert_flood(Nuisance::Priorities, 500, |_| frame(2, 0, 99, &[0; 5]));
    assert_flood(Nuisance::Ignored, 100, |_| frame(0xbb, 0, 0, b"grease"));
    assert_flood(Nuisance::Ignored, 100, |_| frame(7, 0, 0, &[0; 8]));
    assert_flood(Nuisance::StreamErrors, 100, |_| data(1, true, b""));
}

#[test]
fn continuations_without_end() {
    let mut hand = Hand::server();
    hand.good(&frame(1, 1, 1, &[0]));
    let (count, error) = until_calm(&mut hand, 100, |_| frame(9, 0, 1, b"x"));
    assert_eq!((count, error), (16, ConnectionError::TooManyContinuations { limit: 16 }));
}

#[test]
fn a_header_block_without_end() {
    let mut hand = Hand::server();
    hand.good(&frame(1, 1, 1, &[0; 16_384]));
    hand.connection.config.max_frame_size = 16_384;
    for _ in 0..3 {
        hand.good(&frame(9, 0, 1, &[0; 16_384]));
    }
    assert!(hand.connection.memory() < 160 * 1024);
    let error = hand.send(&frame(9, 0, 1, &[0; 1])).unwrap_err();
    assert_eq!(error, ConnectionError::HeaderBlockTooLarge { limit: 65_536 });
    assert_eq!(hand.goaway(), Some(C::ENHANCE_YOUR_CALM));
}

#[test]
fn a_small_block_with_a_large_list() {
    let mut hand = Hand::server();
    // An entry of some 4,000 bytes, and sixteen thousand references: 64 MB of headers in 20 KB.
    let mut bomb = block(GET);
    bomb.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'v'; 4000]);
    bomb.extend([0xbe; 12_000]);
    hand.good(&frame(1, 5, 1, &bomb));
    assert!(
        matches!(&hand.events()[..], [Event::Refused { error, .. }] if error.metric_label() == "head_too_large")
    );
    assert!(hand.connection.memory() < 64 * 1024);
    // The next request is read as if nothing had been.
    hand.get(3, true);
    assert!(matches!(&hand.events()[..], [Event::Request { .. }, Event::End { .. }]));
}

#[test]
fn replies_that_the_peer_does_not_read() {
    let limits = Limits { reply_bytes_max: 1000, ..Limits::default() };
    let mut hand = Hand::with(Config { limits, ..Config::default() }, Role::Server);
    let ping = frame(6, 0, 0, &[0; 8]);
    let mut sent = 0;
    while hand.connection.wants_more_input() {
        hand.good(&ping);
        sent += 1;
    }
    assert_eq!(sent, 500 / 17 + 1, "the caller should stop reading at half of it");
    let error = (0..100).find_map(|_| hand.send(&ping).err()).unwrap();
    assert_eq!(error, ConnectionError::RepliesUnread { limit: 1000 });
    assert_eq!(error.code(), C::ENHANCE_YOUR_CALM);
}

#[test]
fn a_peer_that_never_opens_its_window_costs_no_more_than_the_queues() {
    let limits = Limits { send_queue_bytes_max: 10_000, ..Limits::default() };
    let mut hand = Hand::with(Config { limits, ..Config::default() }, Role::Server);
    hand.good(&settings(&[(4, 0)]));
    let mut held = 0;
    for stream in (1..201).step_by(2) {
        hand.get(stream, true);
        let id = hand.events()[0].stream().unwrap();
        hand.connection.send_response(id, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
        while hand.connection.send_data(id, vec![0; 1000].into()).is_ok() {}
        held += hand.connection.queued(id);
    }
    assert_eq!(held, 100 * 10_000);
    hand.good(&headers(201, true, GET));
    assert!(matches!(&hand.events()[..], [Event::Refused { .. }]), "and no more streams than allowed");
}

#[test]
fn an_honest_client_that_cancels_every_other_request_goes_on_for_ever() {
    let mut hand = Hand::server();
    for round in 0..5_000u32 {
        let (served, cancelled) = (1 + round * 4, 3 + round * 4);
        hand.get(served, true).get(cancelled, true);
        let id = hand.events()[0].stream().unwrap();
        hand.connection.send_response(id, &ResponseHead::new(204), BodyLength::None).unwrap();
        hand.good(&rst(cancelled, C::CANCEL));
        hand.good(&frame(6, 0, 0, &[0; 8]));
        hand.output();
        hand.events();
    }
    assert_eq!(hand.connection.streams(), 0);
}

#[test]
fn a_watcher_that_cancels_everything_slowly_goes_on_too() {
    let mut hand = Hand::server();
    for round in 0..2_000u32 {
        hand.get(1 + round * 2, true).events();
        hand.good(&rst(1 + round * 2, C::CANCEL));
        hand.output();
        if round % 20 == 19 {
            hand.connection.tick();
        }
    }
}

#[test]
fn a_long_download_with_an_update_per_frame_goes_on() {
    let mut pair = Pair::new();
    let mut head = pipy_http::RequestHead::new(pipy_http::Method::Get, "/");
    head.headers.append("host", "shop").unwrap();
    let stream = pair.client.send_request(&head, crate::Scheme::Http, BodyLength::None).unwrap();
    let asked = pair.server_events()[0].stream().unwrap();
    pair.server.send_response(asked, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
    for _ in 0..5_000 {
        let _ = pair.server.send_data(asked, vec![1; 1000].into()).unwrap();
        for event in pair.client_events() {
            if let Event::Data { data, .. } = event {
                pair.client.release(stream, data.len());
                // As eager as a peer can be.
                pair.server
                    .receive([window_update(0, 1), window_update(stream.get(), 1)].concat().into())
                    .unwrap();
            }
        }
    }
}

#[test]
fn an_idle_connection_holds_little() {
    let mut fresh = Connection::server(Config::default());
    fresh.poll_output(&mut Vec::new(), usize::MAX);
    assert!(fresh.memory() <= 1200, "{}", fresh.memory());
    let mut hand = Hand::server();
    for round in 0..100u32 {
        let stream = 1 + round * 2;
        let fields = [GET, &[("user-agent", "curl/8.0"), ("accept", "*/*")]].concat();
        hand.request(stream, true, &fields).unwrap();
        let id = hand.events()[0].stream().unwrap();
        let mut response = ResponseHead::new(200);
        response.headers.append("server", "fsm").unwrap();
        hand.connection.send_response(id, &response, BodyLength::Length(2)).unwrap();
        let _ = hand.connection.send_data(id, "ok".into()).unwrap();
        hand.connection.send_end(id, None).unwrap();
        hand.output();
    }
    assert!(hand.connection.is_idle());
    assert!(hand.connection.memory() <= 4096, "{}", hand.connection.memory());
}
