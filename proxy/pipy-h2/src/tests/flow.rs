//! Flow control in both directions (RFC 9113 §5.2 and §6.9), turns, and back-pressure.

use bytes::Bytes;
use pipy_http::{BodyLength, ResponseHead};

use super::peer::*;
use crate::ErrorCode as C;
use crate::{Config, Event, Kind, Limits, Pressure, ResetCause, Role, SendError, StreamId};

/// A server with these streams answered with 200, the bodies still to be sent.
fn answering(config: Config, before: &[u8], streams: &[u32]) -> (Hand, Vec<StreamId>) {
    let mut hand = Hand::with(config, Role::Server);
    hand.good(before);
    for &stream in streams {
        hand.get(stream, true);
    }
    let ids: Vec<StreamId> = hand
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Request { stream, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    for &id in &ids {
        hand.connection.send_response(id, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
    }
    hand.output();
    (hand, ids)
}

fn queue(hand: &mut Hand, stream: StreamId, bytes: usize) -> Pressure {
    hand.connection.send_data(stream, vec![b'x'; bytes].into()).unwrap()
}

/// (stream, bytes, whether it ends) of each DATA frame.
fn sent(hand: &mut Hand) -> Vec<(u32, usize, bool)> {
    let data = hand.output().into_iter().filter(|frame| frame.kind == Kind::DATA);
    data.map(|frame| (frame.stream, frame.payload.len(), frame.flags & 1 != 0)).collect()
}

#[test]
fn a_body_stops_at_the_window_of_its_stream_and_goes_on_by_update() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 10)]), &[1]);
    assert_eq!(queue(&mut hand, ids[0], 25), Pressure::GoOn);
    hand.connection.send_end(ids[0], None).unwrap();
    assert_eq!(sent(&mut hand), [(1, 10, false)]);
    assert_eq!(sent(&mut hand), []);
    hand.good(&window_update(1, 5));
    assert_eq!(sent(&mut hand), [(1, 5, false)]);
    hand.good(&window_update(1, 100));
    assert_eq!(sent(&mut hand), [(1, 10, true)]);
    assert!(hand.connection.is_idle());
}

#[test]
fn all_streams_stop_at_the_window_of_the_connection() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 1 << 20)]), &[1, 3]);
    for &id in &ids {
        let _ = queue(&mut hand, id, 50_000);
    }
    let total: usize = sent(&mut hand).iter().map(|(_, len, _)| len).sum();
    assert_eq!(total, 65_535);
    hand.good(&window_update(0, 7));
    assert_eq!(sent(&mut hand).iter().map(|(_, len, _)| len).sum::<usize>(), 7);
    hand.good(&window_update(0, 1 << 20));
    assert_eq!(sent(&mut hand).iter().map(|(_, len, _)| len).sum::<usize>(), 100_000 - 65_542);
}

#[test]
fn ends_and_trailers_need_no_window() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 0)]), &[1, 3]);
    let mut trailers = pipy_http::Headers::new();
    trailers.append("grpc-status", "0").unwrap();
    hand.connection.send_end(ids[0], None).unwrap();
    hand.connection.send_end(ids[1], Some(Box::new(trailers))).unwrap();
    let output = hand.output();
    let kinds: Vec<(u8, u8, u32)> =
        output.iter().map(|frame| (frame.kind.0, frame.flags, frame.stream)).collect();
    assert_eq!(kinds, [(0, 1, 1), (1, 5, 3)]);
    // Also while another stream has used up the window of the connection.
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 1 << 20)]), &[1, 3]);
    let _ = queue(&mut hand, ids[0], 100_000);
    sent(&mut hand);
    hand.connection.send_end(ids[1], None).unwrap();
    assert_eq!(sent(&mut hand), [(3, 0, true)]);
}

#[test]
fn section_6_9_2_settings_move_the_windows_of_all_streams_also_below_zero() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 100)]), &[1, 3]);
    let _ = queue(&mut hand, ids[0], 1000);
    assert_eq!(sent(&mut hand), [(1, 100, false)]);
    hand.good(&settings(&[(4, 40)]));
    // Stream 1 is at -60 now, stream 3 at 40.
    let _ = queue(&mut hand, ids[1], 1000);
    assert_eq!(sent(&mut hand), [(3, 40, false)]);
    hand.good(&window_update(1, 60));
    assert_eq!(sent(&mut hand), []);
    hand.good(&window_update(1, 1));
    assert_eq!(sent(&mut hand), [(1, 1, false)]);
    // Opening by settings wakes them without an update.
    hand.good(&settings(&[(4, 50)]));
    assert_eq!(sent(&mut hand), [(1, 10, false), (3, 10, false)]);
}

#[test]
fn windows_apart_let_no_stream_use_up_what_the_others_need() {
    let config = Config::default();
    let apart = config.window_apart(100);
    assert!(apart >= 2 * 100 * config.stream_window);
    assert_eq!(Config { stream_window: 1 << 30, ..config }.window_apart(100), (1 << 31) - 1);
}

#[test]
fn streams_take_turns_by_some_frames() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 1 << 20)]), &[1, 3, 5]);
    hand.good(&window_update(0, 1 << 20));
    for (&id, bytes) in ids.iter().zip([100_000, 20_000, 10]) {
        let _ = queue(&mut hand, id, bytes);
        hand.connection.send_end(id, None).unwrap();
    }
    let frame = (1, 16_384, false);
    assert_eq!(
        sent(&mut hand),
        [
            frame,
            frame,
            frame,
            frame,
            (3, 16_384, false),
            (3, 3_616, true),
            (5, 10, true),
            frame,
            frame,
            (1, 1_696, true),
        ]
    );
}

#[test]
fn a_socket_that_takes_little_serves_all_streams() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 1 << 20)]), &[1, 3]);
    hand.good(&window_update(0, 1 << 20));
    for id in ids {
        let _ = queue(&mut hand, id, 100_000);
    }
    let mut pieces = Vec::new();
    for _ in 0..4 {
        hand.connection.poll_output(&mut pieces, 1);
    }
    let order: Vec<u32> = frames(&pieces.concat()).iter().map(|frame| frame.stream).collect();
    assert_eq!(order, [1, 3, 1, 3]);
}

#[test]
fn output_stops_at_about_what_the_socket_takes() {
    let (mut hand, ids) = answering(Config::default(), &settings(&[(4, 1 << 20)]), &[1]);
    let _ = queue(&mut hand, ids[0], 60_000);
    let mut pieces = Vec::new();
    assert_eq!(hand.connection.poll_output(&mut pieces, 1), 16_384 + 9);
    assert_eq!(hand.connection.poll_output(&mut pieces, 20_000), 2 * (16_384 + 9));
    assert_eq!(hand.connection.poll_output(&mut pieces, 0), 0);
}

#[test]
fn large_pieces_leave_as_they_are_and_small_ones_share_a_frame() {
    let (mut hand, ids) = answering(Config::default(), &[], &[1]);
    let large = Bytes::from(vec![b'l'; 10_000]);
    for piece in
        [Bytes::from_static(b"a"), Bytes::from_static(b"bc"), large.clone(), Bytes::from_static(b"d")]
    {
        let _ = hand.connection.send_data(ids[0], piece).unwrap();
    }
    let mut pieces = Vec::new();
    hand.connection.poll_output(&mut pieces, usize::MAX);
    assert!(pieces.iter().any(|piece| piece.as_ptr() == large.as_ptr() && piece.len() == large.len()));
    let frames = frames(&pieces.concat());
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].payload, [b"abc", &large[..]].concat());
    assert_eq!(frames[1].payload, b"d");
}

#[test]
fn callers_are_told_to_wait_and_when_to_go_on() {
    let limits = Limits { send_queue_bytes_high: 1000, send_queue_bytes_max: 3000, ..Limits::default() };
    let (mut hand, ids) = answering(Config { limits, ..Config::default() }, &settings(&[(4, 0)]), &[1]);
    assert_eq!(queue(&mut hand, ids[0], 1000), Pressure::GoOn);
    assert_eq!(queue(&mut hand, ids[0], 1), Pressure::Wait);
    assert_eq!(queue(&mut hand, ids[0], 1999), Pressure::Wait);
    assert_eq!(hand.connection.send_data(ids[0], "x".into()), Err(SendError::QueueFull { limit: 3000 }));
    assert_eq!(hand.connection.queued(ids[0]), 3000);
    hand.good(&window_update(1, 2499));
    sent(&mut hand);
    assert_eq!(hand.events(), []);
    hand.good(&window_update(1, 1));
    sent(&mut hand);
    assert_eq!(hand.events(), [Event::Writable { stream: ids[0] }]);
    assert_eq!(queue(&mut hand, ids[0], 1), Pressure::GoOn);
}

#[test]
fn who_gives_more_although_it_was_told_to_wait_is_still_told_when_to_go_on() {
    let limits = Limits { send_queue_bytes_high: 1000, ..Limits::default() };
    let (mut hand, ids) = answering(Config { limits, ..Config::default() }, &settings(&[(4, 0)]), &[1]);
    assert_eq!(queue(&mut hand, ids[0], 1200), Pressure::Wait);
    // Below the upper mark, above the lower one.
    hand.good(&window_update(1, 400));
    sent(&mut hand);
    assert_eq!(queue(&mut hand, ids[0], 1), Pressure::Wait);
    hand.good(&window_update(1, 400));
    sent(&mut hand);
    assert_eq!(hand.events(), [Event::Writable { stream: ids[0] }]);
}

#[test]
fn an_abandoned_stream_is_reset_without_an_error_when_our_message_is_out() {
    let mut hand = Hand::server();
    hand.good(&settings(&[(4, 0)])).get(1, false);
    let stream = hand.events()[0].stream().unwrap();
    hand.connection.send_response(stream, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
    hand.output();
    assert_eq!(queue(&mut hand, stream, 10), Pressure::GoOn);
    hand.connection.send_end(stream, None).unwrap();
    hand.connection.abandon(stream);
    // The window is shut: nothing is out yet.
    sent(&mut hand);
    assert_eq!(hand.connection.streams(), 1);
    hand.good(&window_update(1, 10));
    let frames = hand.output();
    let kinds: Vec<Kind> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::DATA, Kind::RST_STREAM]);
    assert_eq!((frames[1].word(0), hand.connection.streams()), (0, 0));
    // What the peer still had under way is ignored, and its window given back.
    hand.good(&data(1, true, b"late"));
    assert_eq!(hand.connection.unreleased(), 0);
}

// What the peer may send.

fn small_windows() -> Config {
    Config { stream_window: 100, connection_window: 65_535, ..Config::default() }
}

#[test]
fn a_peer_that_exceeds_the_window_of_a_stream_loses_it() {
    let mut hand = Hand::with(small_windows(), Role::Server);
    hand.request(1, false, POST).unwrap();
    hand.good(&data(1, false, &[0; 100]));
    assert_eq!(hand.reset(), None);
    hand.good(&data(1, false, &[0; 1]));
    assert_eq!(hand.reset(), Some((1, C::FLOW_CONTROL_ERROR)));
}

#[test]
fn a_peer_that_exceeds_the_window_of_the_connection_loses_it_all() {
    let config = Config { connection_window: 65_535, stream_window: 1 << 20, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    hand.request(1, false, POST).unwrap();
    for _ in 0..3 {
        hand.good(&data(1, false, &[0; 16_384]));
    }
    hand.good(&data(1, false, &[0; 16_383]));
    assert!(hand.send(&data(1, false, &[0; 1])).is_err());
    assert_eq!(hand.goaway(), Some(C::FLOW_CONTROL_ERROR));
}

#[test]
fn a_smaller_window_of_ours_holds_once_it_is_acknowledged() {
    let mut connection = crate::Connection::server(small_windows());
    let start = [&crate::input::PREFACE[..], &crate::testing::frame(4, 0, 0, &[])].concat();
    connection.receive(start.into()).unwrap();
    let mut hand = Hand { connection };
    hand.request(1, false, POST).unwrap();
    hand.good(&data(1, false, &[0; 101]));
    assert_eq!(hand.reset(), None, "the peer may not have heard of it");
    hand.good(&crate::testing::frame(4, 1, 0, &[]));
    hand.good(&data(1, false, &[0; 1]));
    assert_eq!(hand.reset(), Some((1, C::FLOW_CONTROL_ERROR)));
}

#[test]
fn consumed_bytes_are_given_back_by_half_windows() {
    let mut hand = Hand::with(small_windows(), Role::Server);
    hand.request(1, false, POST).unwrap();
    hand.good(&data(1, false, &[0; 100]));
    let stream = hand.events()[0].stream().unwrap();
    hand.connection.release(stream, 49);
    assert_eq!(hand.output(), []);
    hand.connection.release(stream, 1);
    let output = hand.output();
    assert_eq!((output.len(), output[0].kind, output[0].word(0)), (1, Kind::WINDOW_UPDATE, 50));
    assert_eq!(hand.connection.unreleased(), 50);
    // A caller that counts twice opens nothing: 100 is all there ever was.
    hand.connection.release(stream, 1_000_000);
    assert_eq!(hand.output()[0].word(0), 50);
    hand.connection.release(stream, 1_000_000);
    assert_eq!(hand.output(), []);
}

#[test]
fn padding_is_given_back_at_once() {
    let mut hand = Hand::with(small_windows(), Role::Server);
    hand.request(1, false, POST).unwrap();
    // Half a window: that much is open however updates are gathered.
    let mut padded = vec![39];
    padded.extend([0; 49]);
    for _ in 0..20 {
        hand.good(&crate::testing::frame(0, 8, 1, &padded));
        let ids: Vec<StreamId> = hand
            .events()
            .iter()
            .filter_map(|event| match event {
                Event::Data { stream, data } if data.len() == 10 => Some(*stream),
                _ => None,
            })
            .collect();
        ids.into_iter().for_each(|id| hand.connection.release(id, 10));
    }
    assert_eq!(hand.reset(), None);
    assert_eq!(hand.connection.unreleased(), 0);
}

#[test]
fn data_that_nobody_will_see_does_not_use_up_the_connection() {
    let config = Config { connection_window: 65_535, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    let mut id = 1;
    for round in 0..40 {
        hand.request(id, false, POST).unwrap();
        hand.good(&data(id, false, &[0; 10_000]));
        let stream = hand.events()[0].stream().unwrap();
        match round % 2 {
            // Seen and consumed after the stream has gone.
            0 => {
                hand.connection.reset(stream, C::CANCEL);
                hand.connection.release(stream, 10_000);
            }
            // Under way when we reset; never shown.
            _ => {
                hand.connection.release(stream, 10_000);
                hand.connection.reset(stream, C::CANCEL);
                hand.good(&data(id, false, &[0; 10_000]));
            }
        }
        assert_eq!(hand.events(), []);
        assert_eq!(hand.connection.unreleased(), 0);
        id += 2;
    }
}

#[test]
fn a_reset_in_the_middle_of_a_frame_drops_its_rest() {
    let mut hand = Hand::server();
    hand.request(1, false, POST).unwrap();
    let frame = data(1, true, &[7; 1000]);
    hand.good(&frame[..100]);
    let stream = hand.events()[0].stream().unwrap();
    hand.connection.reset(stream, C::CANCEL);
    hand.good(&frame[100..]);
    hand.connection.release(stream, 91);
    assert_eq!((hand.events(), hand.connection.unreleased()), (vec![], 0));
}

#[test]
fn events_of_a_stream_that_the_caller_resets_are_dropped_and_paid_back() {
    let mut hand = Hand::server();
    hand.get(1, true);
    hand.request(3, false, POST).unwrap();
    let ids: Vec<_> = hand.events().iter().filter_map(Event::stream).collect();
    hand.good(&data(3, true, &[0; 500]));
    hand.get(5, true);
    hand.connection.reset(*ids.last().unwrap(), C::CANCEL);
    assert_eq!(hand.connection.unreleased(), 0);
    assert!(hand.events().iter().all(|event| event.stream().unwrap().get() == 5));
}

#[test]
fn a_stream_that_fails_in_the_middle_says_why_after_what_it_gave() {
    let mut hand = Hand::with(small_windows(), Role::Server);
    hand.request(1, false, POST).unwrap();
    hand.events();
    hand.good(&data(1, false, &[0; 100]));
    hand.good(&data(1, false, &[0; 1]));
    let events = hand.events();
    assert!(matches!(events[0], Event::Data { .. }));
    let Event::Reset { code: C::FLOW_CONTROL_ERROR, cause: ResetCause::Error(error), .. } = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(error.to_string(), "DATA exceeds the flow-control window of the stream by 1 bytes");
}
