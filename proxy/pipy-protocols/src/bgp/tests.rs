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
        (message(28, "02 0000 0005 4002 02 03 01"), "type 3"),
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
