//! Messages as routers send them, three ways; lengths that lie.

use proptest::prelude::*;

use super::{Decoder, Encoder};
use crate::testing::{hex, payloads, read, round_trip, survive, write};
use crate::{Event, Object, Value};

const MARKER: &str = "ffffffffffffffffffffffffffffffff";

fn message(length: usize, rest: &str) -> Vec<u8> {
    hex(&format!("{MARKER} {length:04x} {rest}"))
}

#[test]
fn an_open_with_capabilities_is_read_and_written() {
    let bytes =
        message(53, "01 04 fe09 00b4 c0a8000f 18 0206 0104 00010001 0202 0200 0206 4104 0000fe09 02 02 4600");
    let bytes = [&bytes[..], &message(19, "04")].concat();
    let all = payloads(&round_trip(|| Decoder::new(false), Encoder::new(false), &bytes));
    let body = all[0].get("body").unwrap();
    assert_eq!(all[0].get("type"), Some(&"OPEN".into()));
    assert_eq!(
        (body.get("myAS"), body.get("identifier")),
        (Some(&65033.into()), Some(&"192.168.0.15".into()))
    );
    let capabilities = body.get("capabilities").unwrap();
    assert_eq!(capabilities.get("65"), Some(&bytes::Bytes::from_static(&[0, 0, 0xfe, 9]).into()));
    assert_eq!(all[1], Object::new().with("type", "KEEPALIVE").with("body", Value::Null).into());
}

#[test]
fn an_update_is_read_and_written_with_short_and_long_as_numbers() {
    let attributes =
        "400101 00 4002 0a 02 02 fe09 fe0a 01 01 0001 400304 0a000001 800404 00000005 400600 e0ff01 07";
    let short = message(70, &format!("02 0003 10 0a01 0026 {attributes} 18 c0a801 08 0a"));
    let all = payloads(&round_trip(|| Decoder::new(false), Encoder::new(false), &short));
    let body = all[0].get("body").unwrap();
    assert_eq!(body.get("withdrawnRoutes"), Some(&vec!["10.1.0.0/16".into()].into()));
    assert_eq!(body.get("destinations"), Some(&vec!["192.168.1.0/24".into(), "10.0.0.0/8".into()].into()));
    let path = &body.get("pathAttributes").unwrap().as_array().unwrap()[1];
    let segment = Object::new().with("type", "AS_SEQUENCE").with("path", vec![65033.into(), 65034.into()]);
    let set = Object::new().with("type", "AS_SET").with("path", vec![1.into()]);
    assert_eq!(path.get("value"), Some(&vec![segment.into(), set.into()].into()));

    let events = [Event::Start(Value::Null), Event::end_with(all[0].clone())];
    let long = write(Encoder::new(true), &events).unwrap();
    assert_eq!(payloads(&read(Decoder::new(true), &[&long]).unwrap()), all);
}

#[test]
fn routes_of_ipv6_are_read_and_written() {
    let reach = "800e 21 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 30 fd0900010002";
    let unreach = "800f 08 0002 01 20 20010db9";
    let bytes = message(70, &format!("02 0000 002f {reach} {unreach}"));
    let all = payloads(&round_trip(|| Decoder::new(true), Encoder::new(true), &bytes));
    let attributes = all[0].get("body").unwrap().get("pathAttributes").unwrap().as_array().unwrap();
    let reached = Object::new()
        .with("afi", 2)
        .with("safi", 1)
        .with("nextHop", "2001:db8::1")
        .with("destinations", vec!["2001:db8::/32".into(), "fd09:1:2::/48".into()]);
    assert_eq!(attributes[0].get("value"), Some(&reached.into()));
    let gone =
        Object::new().with("afi", 2).with("safi", 1).with("withdrawnRoutes", vec!["2001:db9::/32".into()]);
    assert_eq!(attributes[1].get("value"), Some(&gone.into()));
    // A family that is not known here stays as it is: L2VPN, EVPN.
    let bytes = message(32, "02 0000 0009 800e 06 0019 46 01 07 00");
    let all = payloads(&round_trip(|| Decoder::new(true), Encoder::new(true), &bytes));
    let attributes = all[0].get("body").unwrap().get("pathAttributes").unwrap().as_array().unwrap();
    assert_eq!(attributes[0].get("value").and_then(Value::to_bytes).map(|bytes| bytes.len()), Some(6));
}

#[test]
fn communities_and_what_reflectors_add_are_read_and_written() {
    let attributes = "c008 08 fde8 0001 ffff ff01 c020 0c 0000fde8 00000001 00000002 8009 04 0a000001 800a 08 0a000002 0a000003";
    let bytes = message(67, &format!("02 0000 002c {attributes}"));
    let all = payloads(&round_trip(|| Decoder::new(true), Encoder::new(true), &bytes));
    let attributes = all[0].get("body").unwrap().get("pathAttributes").unwrap().as_array().unwrap();
    let values = [
        vec!["65000:1".into(), "65535:65281".into()].into(),
        vec!["65000:1:2".into()].into(),
        "10.0.0.1".into(),
        vec!["10.0.0.2".into(), "10.0.0.3".into()].into(),
    ];
    assert!(attributes.iter().map(|attribute| attribute.get("value").unwrap()).eq(values.iter()));
}

fn written(kind: &str, body: Object, as4: bool) -> Vec<u8> {
    let payload = Object::new().with("type", kind).with("body", body);
    write(Encoder::new(as4), &[Event::Start(Value::Null), Event::end_with(payload.into())]).unwrap()
}

#[test]
fn long_as_numbers_reach_who_knows_short_ones_only() {
    let path = |path: Vec<Value>| Object::new().with("name", "AS_PATH").with("value", vec![path.into()]);
    let body = |numbers| Object::new().with("pathAttributes", vec![path(numbers).into()]);
    let bytes = written("UPDATE", body(vec![4_200_000_001_u32.into(), 65001.into()]), false);
    let sent = payloads(&read(Decoder::new(false), &[&bytes]).unwrap());
    let attributes = sent[0].get("body").unwrap().get("pathAttributes").unwrap().as_array().unwrap();
    let numbers = |at: usize| {
        let segment = &attributes[at].get("value").unwrap().as_array().unwrap()[0];
        segment.get("path").unwrap().as_array().unwrap().to_vec()
    };
    assert_eq!(numbers(0), [23456.into(), 65001.into()]);
    assert_eq!(attributes[1].get("name"), Some(&"AS4_PATH".into()));
    assert_eq!(numbers(1), [4_200_000_001_u32.into(), 65001.into()]);
    let bytes = written("UPDATE", body(vec![65002.into()]), false);
    let sent = payloads(&read(Decoder::new(false), &[&bytes]).unwrap());
    assert_eq!(sent[0].get("body").unwrap().get("pathAttributes").unwrap().as_array().unwrap().len(), 1);
    // The OPEN says the number, too.
    let open = Object::new().with("myAS", 4_200_000_001_u32).with("identifier", "10.0.0.1");
    let sent = payloads(&read(Decoder::new(false), &[&written("OPEN", open, false)]).unwrap());
    let capabilities = sent[0].get("body").unwrap().get("capabilities").unwrap();
    assert_eq!(
        capabilities.get("65"),
        Some(&bytes::Bytes::copy_from_slice(&4_200_000_001_u32.to_be_bytes()).into())
    );
}

#[test]
fn the_shapes_that_scripts_use_are_understood() {
    let capabilities =
        Object::new().with("1", vec![bytes::Bytes::from_static(&[0, 1, 0, 1]).into()]).with("2", Value::Null);
    let open = Object::new()
        .with("myAS", 65001)
        .with("identifier", "10.0.0.1")
        .with("parameters", Object::new().with("Capabilities", capabilities));
    let sent = payloads(&read(Decoder::new(false), &[&written("OPEN", open, false)]).unwrap());
    let found = sent[0].get("body").unwrap().get("capabilities").unwrap();
    assert_eq!(found.get("2"), Some(&bytes::Bytes::new().into()));
    assert!(found.get("1").is_some());
    let set = Object::new().with("65003", true);
    let attributes: Vec<Value> = vec![
        Object::new()
            .with("name", "AS_PATH")
            .with("value", vec![vec![65001.into()].into(), set.into()])
            .into(),
        Object::new().with("name", "AGGREGATOR").with("value", vec![65001.into(), "10.0.0.1".into()]).into(),
    ];
    let bytes = written("UPDATE", Object::new().with("pathAttributes", attributes), false);
    assert_eq!(bytes[23..], hex("4002 08 0201fde9 0101fdeb c007 06 fde90a000001"));
}

#[test]
fn what_no_peer_understands_is_refused() {
    let attribute = |name: &'static str, value: Value| {
        Object::new()
            .with("pathAttributes", vec![Object::new().with("name", name).with("value", value).into()])
    };
    for (body, reason) in [
        (attribute("COMMUNITIES", vec!["65000".into()].into()), "no community of 2 numbers"),
        (attribute("COMMUNITIES", vec!["65536:1".into()].into()), "no community of 2 numbers"),
        (attribute("MP_REACH_NLRI", Object::new().with("nextHop", "here").into()), "nextHop \"here\""),
        (
            attribute(
                "MP_UNREACH_NLRI",
                Object::new().with("withdrawnRoutes", vec!["10.0.0.0/8".into()]).into(),
            ),
            "2001:db8::/32",
        ),
        (attribute("ORIGINATOR_ID", "2001:db8::1".into()), "not an IPv4 address"),
        (attribute("SOMETHING", Value::Null), "no attribute"),
    ] {
        let payload = Object::new().with("type", "UPDATE").with("body", body);
        let events = [Event::Start(Value::Null), Event::end_with(payload.into())];
        let error = write(Encoder::new(false), &events).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let cases = [
        (hex("00"), "marker"),
        (message(18, "04"), "18 bytes"),
        (message(5000, "04"), "5000 bytes"),
        (message(19, "09"), "type 9"),
        (message(20, "04 00"), "too many"),
        (message(23, "02 00ff 0000"), "withdrawn routes takes"),
        (message(25, "02 0002 21 00 0000"), "33 bits"),
        (message(29, "01 04 0001 0000 01020304 05"), "parameters takes"),
        (message(28, "02 0000 0005 4002 02 05 01"), "type 5"),
    ];
    for (bytes, reason) in cases {
        let error = read(Decoder::new(false), &[&bytes]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let wrong = Object::new()
        .with("type", "UPDATE")
        .with("body", Object::new().with("destinations", vec!["10/8".into()]));
    let error =
        write(Encoder::new(false), &[Event::Start(Value::Null), Event::end_with(wrong.into())]).unwrap_err();
    assert!(error.to_string().contains("\"10/8\" is no prefix"), "{error}");
}

proptest! {
    #[test]
    fn garbage_is_refused_and_nothing_panics(kind in 0..6_u8, body in prop::collection::vec(any::<u8>(), 0..60), cut in 1..30_usize) {
        let bytes = [hex(MARKER), (19 + body.len() as u16).to_be_bytes().to_vec(), vec![kind], body].concat();
        survive(Decoder::new(true), &bytes, cut);
        survive(Decoder::new(false), &bytes, cut);
    }
}
