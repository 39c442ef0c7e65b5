//! What a real client and server frame; masks, fragments, control frames in between; what RFC 6455 forbids.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Encoder};
use crate::testing::{capture, heads, hex, payloads, read, survive, three_ways, write};
use crate::{Event, Object, Value};

fn head(opcode: i64, masked: bool) -> Value {
    Object::new().with("opcode", opcode).with("masked", masked).into()
}

#[test]
fn what_real_peers_say_is_read() {
    for (side, masked) in [("client", true), ("server", false)] {
        let events = three_ways_but_last(&capture(&format!("websocket-{side}")));
        let opcodes: Vec<i64> =
            heads(&events).iter().map(|head| head.get("opcode").unwrap().as_int().unwrap()).collect();
        assert_eq!(opcodes, [1, 2, 1, 9, 10, 8], "the ping comes after the message that it came within");
        assert_eq!(events[..3], [Event::Start(head(1, masked)), Event::Data("héllo".into()), Event::END]);
        assert_eq!(events[7], Event::Data("fragmented".into()));
        let close = Object::new().with("code", 1001).with("reason", "bye");
        assert_eq!(payloads(&events).last(), Some(&close.into()));
    }
}

/// A close is the last frame, so nothing can trail.
fn three_ways_but_last(bytes: &[u8]) -> Vec<Event> {
    let whole = read(Decoder::new(), &[bytes]).unwrap();
    assert_eq!(read(Decoder::new(), &bytes.chunks(1).collect::<Vec<_>>()).unwrap(), whole);
    whole
}

#[test]
fn what_was_read_is_written_the_same() {
    let bytes = capture("websocket-server");
    let events = read(Decoder::new(), &[&bytes]).unwrap();
    let again = write(Encoder::new(|| [1, 2, 3, 4]), &events).unwrap();
    assert_eq!(read(Decoder::new(), &[&again]).unwrap(), events);
}

#[test]
fn a_long_message_leaves_in_fragments_and_a_short_one_as_a_frame() {
    let data = |text: &'static str| Event::Data(text.into());
    let short = [Event::Start(head(1, false)), data("a"), Event::END];
    assert_eq!(write(Encoder::new(|| [0; 4]), &short).unwrap(), hex("81 01 61"));
    let long = [Event::Start(head(1, true)), data("a"), data("b"), data("c"), Event::END];
    assert_eq!(
        write(Encoder::new(|| [1; 4]), &long).unwrap(),
        hex("01 81 01010101 60 00 81 01010101 63 80 81 01010101 62")
    );
    let ping = [Event::Start(head(9, false)), data("a"), data("b"), Event::END];
    assert_eq!(write(Encoder::new(|| [0; 4]), &ping).unwrap(), hex("89 02 6162"));
}

#[test]
fn a_script_closes_with_a_code() {
    let payload = Object::new().with("code", 1008).with("reason", "no");
    let close = [Event::Start(head(8, false)), Event::end_with(payload.into())];
    assert_eq!(write(Encoder::new(|| [0; 4]), &close).unwrap(), hex("88 04 03f0 6e6f"));
    let wrong = [Event::Start(head(8, false)), Event::end_with(Object::new().with("code", 1005).into())];
    assert!(write(Encoder::new(|| [0; 4]), &wrong).is_err());
    assert!(write(Encoder::new(|| [0; 4]), &[Event::Start(head(3, false))]).is_err());
}

#[test]
fn what_the_standard_forbids_is_refused() {
    let cases = [
        ("83 00", "opcode 3"),
        ("a1 00", "reserved"),
        ("c9 00", "reserved"),
        ("09 00", "control frame"),
        ("89 7e", "control frame"),
        ("80 00", "without a message"),
        ("01 00 01 00", "within a message"),
        ("82 7e 0001 00", "shortest"),
        ("82 7f 000000000000ffff", "shortest"),
        ("82 7f 8000000000000000", "shortest"),
        ("81 02 c328", "UTF-8"),
        ("81 01 c3", "within a character"),
        ("01 01 c3 80 01 28", "UTF-8"),
        ("88 01 03", "one byte"),
        ("88 02 03ed", "code 1005"),
        ("88 02 03e7", "code 999"),
        ("88 03 03e8 ff", "UTF-8"),
        ("88 00 89 00", "after a close"),
    ];
    for (bytes, reason) in cases {
        let error = read(Decoder::new(), &[&hex(bytes)]).unwrap_err();
        assert!(error.to_string().contains(reason), "{bytes}: {error}");
    }
    let pings = format!("01 00 {}", "89 00".repeat(100));
    assert_eq!(read(Decoder::new(), &[&hex(&pings)]).unwrap_err().metric_label(), "too_large");
    assert_eq!(read(Decoder::new(), &[&hex("01 01 61")]).unwrap_err().metric_label(), "truncated");
}

#[test]
fn a_message_of_an_extension_passes_as_it_is() {
    let bytes = hex("c1 03 ff00ff 82 00");
    let events = three_ways(Decoder::new, &bytes);
    assert_eq!(heads(&events)[0].get("rsv1"), Some(&true.into()));
    assert_eq!(write(Encoder::new(|| [0; 4]), &events).unwrap(), bytes);
}

proptest! {
    #[test]
    fn messages_come_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..5), masked: bool, mask: [u8; 4]) {
        let mut events = vec![Event::Start(head(2, masked))];
        events.extend(pieces.iter().map(|piece| Event::Data(Bytes::from(piece.clone()))));
        events.push(Event::END);
        let bytes = write(Encoder::new(move || mask), &events).unwrap();
        prop_assert_eq!(three_ways(Decoder::new, &bytes), crate::testing::joined(events));
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1..20_usize) {
        survive(Decoder::new(), &bytes, cut);
    }
}
