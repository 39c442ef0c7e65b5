//! What real clients and a real broker say, read and written; what no one may say, refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Encoder};
use crate::testing::{capture, heads, hex, payloads, read, round_trip, survive, three_ways, write};
use crate::{Event, Object, Value};

fn types(events: &[Event]) -> Vec<String> {
    heads(events).iter().map(|head| head.get("type").unwrap().as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_paho_and_mosquitto_say_is_read_and_written_byte_for_byte() {
    for level in [3_u8, 4, 5] {
        let client = capture(&format!("mqtt-{level}-client"));
        let events = round_trip(Decoder::new, Encoder::new(), &client);
        assert_eq!(types(&events)[..2], ["CONNECT", "SUBSCRIBE"]);
        assert!(types(&events).contains(&"PUBREL".to_owned()));
        assert_eq!(types(&events).last().unwrap(), "DISCONNECT");
        assert_eq!(heads(&events)[0].get("protocolLevel"), Some(&i64::from(level).into()));

        let server = capture(&format!("mqtt-{level}-server"));
        let events = round_trip(Decoder::new, Encoder::new(), &server);
        assert_eq!(types(&events)[..2], ["CONNACK", "SUBACK"]);
        assert!(types(&events).contains(&"PUBCOMP".to_owned()));
    }
}

#[test]
fn connect_says_who_is_there_in_head_and_payload() {
    let events = three_ways(Decoder::new, &capture("mqtt-4-client"));
    let (head, payload) = (heads(&events)[0], &payloads(&events)[0]);
    assert_eq!(head.get("clientID"), Some(&"sensor-1".into()));
    assert_eq!(head.get("username"), Some(&"alice".into()));
    assert_eq!(head.get("password"), Some(&"s3cret".into()));
    assert_eq!(payload.get("username"), Some(&"alice".into()));
    assert_eq!(payload.get("password"), Some(&Bytes::from("s3cret").into()));
    let will = payload.get("will").unwrap();
    assert_eq!(will.get("topic"), Some(&"will/1".into()));
    assert_eq!(will.get("payload"), Some(&Bytes::from("bye").into()));
    assert_eq!((will.get("qos"), will.get("retain")), (Some(&1.into()), Some(&true.into())));
}

#[test]
fn publish_of_level_5_has_its_properties() {
    let events = three_ways(Decoder::new, &capture("mqtt-5-client"));
    let publish = heads(&events).into_iter().find(|head| head.get("qos") == Some(&2.into())).unwrap();
    let properties = publish.get("properties").unwrap();
    assert_eq!(publish.get("topicName"), Some(&"room/2".into()));
    assert_eq!(properties.get("topicAlias"), Some(&3.into()));
    assert_eq!(properties.get("correlationData"), Some(&Bytes::from_static(&[0, 255]).into()));
    let pair = Object::new().with("name", "k").with("value", "v");
    assert_eq!(properties.get("userProperty"), Some(&vec![pair.into()].into()));
}

#[test]
fn a_large_body_passes_before_it_is_complete() {
    let mut decoder = Decoder::with_level(4);
    let mut events = Vec::new();
    let start = hex("30 ff ff ff 7f 00 01 61 01 02 03");
    crate::Decoder::push(&mut decoder, start.into(), &mut events).unwrap();
    assert_eq!(heads(&events)[0].get("topicName"), Some(&"a".into()));
    assert_eq!(events[1], Event::Data(Bytes::from_static(&[1, 2, 3])));
}

#[test]
fn a_refusal_of_a_script_is_said_in_the_words_of_the_client() {
    let head = |kind: &str, reason: i64| {
        Event::Start(
            Object::new().with("type", kind).with("reasonCode", reason).with("sessionPresent", true).into(),
        )
    };
    let connack = [head("CONNACK", 134), Event::END];
    assert_eq!(write(Encoder::with_level(4), &connack).unwrap(), hex("20 02 00 04"));
    assert_eq!(write(Encoder::with_level(5), &connack).unwrap(), hex("20 03 00 86 00"));
    let suback = [head("SUBACK", 135), Event::END];
    assert_eq!(write(Encoder::with_level(4), &suback).unwrap(), hex("90 03 00 00 80"));
    assert_eq!(write(Encoder::with_level(5), &suback).unwrap(), hex("90 04 00 00 00 87"));
}

#[test]
fn what_the_standard_forbids_is_refused_where_it_stands() {
    let cases = [
        ("00 00", "starts no packet"),
        ("36 00", "starts no packet"),
        ("80 00", "starts no packet"),
        ("c1 00", "starts no packet"),
        ("38 00", "starts no packet"),
        ("c0 80 80 80 80 00", "more than four bytes"),
        ("c0 80 00", "longer than needed"),
        ("c0 01 00", "too many"),
        ("30 01 00", "without a topic"),
        ("30 02 00 05", "exceeds the packet"),
        ("30 03 00 01 23", "wildcard"),
        ("30 02 00 00", "without a topic"),
        ("30 03 00 01 00", "NUL"),
        ("30 03 00 01 ff", "UTF-8"),
        ("32 05 00 01 61 00 00", "identifier of 0"),
        ("82 02 00 01", "without entries"),
        ("82 06 00 01 00 01 61 03", "options"),
        ("82 06 00 01 00 01 61 04", "options"),
        ("82 05 00 01 00 00 00", "empty topic filter"),
        ("10 06 00 04 4d 51 54 54", "level"),
        ("10 07 00 04 4d 51 54 54 07", "level 7"),
        ("10 0c 00 04 4d 51 54 54 04 40 00 00 00 00", "contradict"),
        ("10 0c 00 04 4d 51 54 54 04 01 00 00 00 00", "contradict"),
        ("10 0d 00 04 4d 51 54 54 04 02 00 00 00 00 00", "too many"),
        ("10 0d 00 04 4d 51 54 54 05 02 00 00 02 01 00", "does not belong"),
        ("f0 00", "AUTH in MQTT 3.1.1"),
        ("20 02 00 40", "code 0x40 with flags 0"),
        ("20 02 01 05", "code 0x05 with flags 1"),
        ("90 03 00 01 30", "code 0x30 of SUBACK"),
    ];
    for (bytes, reason) in cases {
        let error = read(Decoder::new(), &[&hex(bytes)]).unwrap_err();
        assert!(error.to_string().contains(reason), "{bytes}: {error}");
    }
    let twice = hex("10 17 00 04 4d 51 54 54 05 02 00 00 0a 11 00 00 00 01 11 00 00 00 01 00 00");
    assert!(read(Decoder::new(), &[&twice]).unwrap_err().to_string().contains("twice"));
}

#[test]
fn a_packet_that_would_fill_the_memory_is_refused_at_its_header() {
    let error = read(Decoder::new(), &[&hex("82 ff ff ff 7f")]).unwrap_err();
    assert_eq!(error.metric_label(), "too_large");
}

#[test]
fn a_stream_that_ends_within_a_packet_is_truncated() {
    let all = capture("mqtt-5-client");
    for cut in 1..20 {
        let error = read(Decoder::new(), &[&all[..cut]]).unwrap_err();
        assert_eq!(error.metric_label(), "truncated", "{cut}");
    }
}

#[test]
fn scripts_are_told_what_cannot_be_said() {
    let cases = [
        (Object::new(), "no type"),
        (Object::new().with("type", "HELLO"), "no packet type \"HELLO\""),
        (
            Object::new().with("type", "PUBLISH").with("topicName", "a").with("qos", 1),
            "needs a packetIdentifier",
        ),
        (Object::new().with("type", "PUBLISH").with("topicName", "a").with("qos", 3), "no qos 3"),
        (Object::new().with("type", "PUBLISH").with("topicName", "a/#"), "topicName"),
        (Object::new().with("type", "SUBSCRIBE").with("packetIdentifier", 1), "without topicFilters"),
        (Object::new().with("type", "PINGREQ").with("protocolLevel", 9), "no protocolLevel 9"),
        (
            Object::new()
                .with("type", "PUBLISH")
                .with("protocolLevel", 5)
                .with("topicName", "a")
                .with("properties", Object::new().with("maximumQoS", 1)),
            "PUBLISH cannot have maximumQoS",
        ),
    ];
    for (head, reason) in cases {
        let error = write(Encoder::new(), &[Event::Start(head.into()), Event::END]).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.is_peers_fault());
    }
}

proptest! {
    #[test]
    fn publishes_come_back_as_they_went(
        topic in "[a-z/é]{1,40}", body in prop::collection::vec(any::<u8>(), 0..600),
        qos in 0..3_i64, retain: bool, id in 1..=65535_i64, expiry: Option<u32>, level in 4..=5_i64,
    ) {
        let mut head = Object::new().with("type", "PUBLISH").with("protocolLevel", level)
            .with("qos", qos).with("dup", false).with("retain", retain).with("topicName", topic);
        if qos > 0 {
            head.set("packetIdentifier", id);
        }
        if level == 5 {
            let mut properties = Object::new();
            if let Some(expiry) = expiry {
                properties.set("messageExpiryInterval", expiry);
            }
            head.set("properties", properties);
        }
        let mut events = vec![Event::Start(head.into())];
        if !body.is_empty() {
            events.push(Event::Data(body.into()));
        }
        events.push(Event::END);
        let level = u8::try_from(level).unwrap();
        let bytes = write(Encoder::new(), &events).unwrap();
        prop_assert_eq!(three_ways(|| Decoder::with_level(level), &bytes), events);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1..40_usize) {
        survive(Decoder::new(), &bytes, cut);
        survive(Decoder::with_level(5), &bytes, cut);
    }

    #[test]
    fn damaged_packets_do_no_harm(at in 0..303_usize, value: u8) {
        let mut bytes = capture("mqtt-5-client");
        let at = at % bytes.len();
        bytes[at] = value;
        // Whatever is still readable can also be written.
        if let Ok(events) = read(Decoder::new(), &[&bytes]) {
            prop_assert!(write(Encoder::new(), &events).is_ok());
        }
    }
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    let head = Object::new().with("type", "CONNECT").with("username", Value::Bool(true));
    let error = write(Encoder::new(), &[Event::Start(head.into()), Event::END]).unwrap_err();
    assert!(error.to_string().contains("username is a boolean"), "{error}");
}
