//! What Apache Thrift for Python writes, in all protocols and framings; cuts; garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Encoder};
use crate::testing::{capture, heads, hex, payloads, read, round_trip, survive, three_ways, write};
use crate::{Event, Object, Value};

#[test]
fn what_thrift_itself_writes_is_read_and_written_byte_for_byte() {
    let mut all = Vec::new();
    for protocol in ["binary", "old", "compact"] {
        for framing in ["", "-framed"] {
            let bytes = capture(&format!("thrift-{protocol}{framing}"));
            let events = round_trip(Decoder::new, Encoder::new(), &bytes);
            assert_eq!(heads(&events)[0].get("framed"), Some(&(!framing.is_empty()).into()));
            let call = payloads(&events).remove(0);
            assert_eq!(call.get("protocol"), Some(&protocol.into()));
            all.push(call);
        }
    }
    let fields = |call: &Value| call.get("fields").unwrap().as_array().unwrap().to_vec();
    let call = &all[0];
    assert_eq!((call.get("name"), call.get("type")), (Some(&"getUser".into()), Some(&"call".into())));
    assert_eq!(call.get("seqID"), Some(&77.into()));
    let value = |index: usize| fields(call)[index].get("value").unwrap().clone();
    let numbers: Vec<Value> = (0..7).map(value).collect();
    assert_eq!(
        numbers,
        [
            true.into(),
            false.into(),
            (-5).into(),
            (-300).into(),
            70000.into(),
            Value::Int(-(1 << 40)),
            1.5.into()
        ]
    );
    assert_eq!(value(7), Bytes::from("héllo").into());
    assert_eq!(value(9).get("elements").unwrap().as_array().unwrap().len(), 20);
    let inner = Object::new()
        .with("elementType", "BOOL")
        .with("elements", vec![true.into(), false.into(), true.into()]);
    let pair = Value::Array(vec![Bytes::from("k").into(), inner.into()]);
    assert_eq!(value(11).get("pairs"), Some(&vec![pair].into()));
    // All protocols say the same, but for the types of an empty map, which the compact one leaves out.
    assert!(all.iter().all(|other| fields(other)[..12] == fields(call)[..12]));
}

#[test]
fn what_is_not_thrift_is_refused() {
    let cases = [
        ("ff", "starts no message"),
        ("80 02", "starts no message"),
        ("47 45 54 20 2f", "exceeds the limit"),
        ("80010005 00000001 61 00000000 00", "type 5"),
        ("80010001 ffffffff", "negative length"),
        ("80010001 00000001 61 00000000 07 0001", "unknown type 7"),
        ("80010001 00000001 61 00000000 0f 0001 0c ffffffff", "negative length"),
        ("8222 00 01 61 00", "version 2"),
        ("8221 ffffffffffffffffffff", "ten bytes"),
        ("0000000f 80010001 00000001 61 00000000 00 00", "within its frame"),
        ("00000008 80010001 00000001", "takes 1 bytes"),
    ];
    for (bytes, reason) in cases {
        let error = read(Decoder::new(), &[&hex(bytes)]).unwrap_err();
        assert!(error.to_string().contains(reason), "{bytes}: {error}");
    }
    let deep = [hex("80010001 00000001 61 00000000"), hex("0c0001").repeat(200)].concat();
    assert!(read(Decoder::new(), &[&deep]).unwrap_err().to_string().contains("deep"));
    let lists = [hex("8221 00 01 61 19"), vec![0x19; 300], vec![0x13, 1, 0]].concat();
    assert!(read(Decoder::new(), &[&lists]).unwrap_err().to_string().contains("depth"));
    for cut in 1..capture("thrift-compact").len() {
        let error = read(Decoder::new(), &[&capture("thrift-compact")[..cut]]).unwrap_err();
        assert_eq!(error.metric_label(), "truncated", "{cut}");
    }
}

#[test]
fn many_small_values_cost_no_more_memory_than_the_limit() {
    let bytes = [hex("8221 00 01 61 19 f1 8080c001"), vec![1; 3 << 20], vec![0]].concat();
    assert_eq!(read(Decoder::new(), &[&bytes]).unwrap_err().metric_label(), "too_large");
}

#[test]
fn scripts_are_told_which_field_is_wrong() {
    let field = Object::new().with("id", 3).with("type", "I8").with("value", 300);
    let message = Object::new().with("name", "a").with("fields", vec![field.into()]);
    let events = [Event::Start(Value::Null), Event::end_with(message.into())];
    let error = write(Encoder::new(), &events).unwrap_err();
    assert_eq!(error.to_string(), "cannot write Thrift: field 3: an I8 is a number, or out of range");
}

fn values() -> impl Strategy<Value = (&'static str, Value)> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|value| ("BOOL", value.into())),
        any::<i8>().prop_map(|value| ("I8", value.into())),
        any::<i16>().prop_map(|value| ("I16", value.into())),
        any::<i32>().prop_map(|value| ("I32", value.into())),
        any::<i64>().prop_map(|value| ("I64", value.into())),
        (-1e9..1e9_f64).prop_map(|value| ("DOUBLE", value.into())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|value| ("BINARY", Value::Bytes(value.into()))),
        Just(("UUID", "00112233-4455-6677-8899-aabbccddeeff".into())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            (inner.clone(), 1..40_usize, prop::sample::select(vec!["LIST", "SET"])).prop_map(
                |((of, value), count, kind)| {
                    (kind, Object::new().with("elementType", of).with("elements", vec![value; count]).into())
                }
            ),
            (inner.clone(), inner.clone()).prop_map(|((key, left), (of, right))| {
                let pairs: Vec<Value> = vec![Value::Array(vec![left, right])];
                ("MAP", Object::new().with("keyType", key).with("valueType", of).with("pairs", pairs).into())
            }),
            prop::collection::vec((any::<i16>(), inner), 0..4)
                .prop_map(|fields| ("STRUCT", struct_of(fields))),
        ]
    })
}

fn struct_of(fields: Vec<(i16, (&'static str, Value))>) -> Value {
    let field = |(id, (of, value))| Object::new().with("id", id).with("type", of).with("value", value).into();
    fields.into_iter().map(field).collect::<Vec<Value>>().into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn messages_come_back(
        fields in prop::collection::vec((any::<i16>(), values()), 0..4), protocol in prop::sample::select(vec!["binary", "compact", "old"]),
        framed: bool, sequence: i32, name in "[a-z]{1,9}",
    ) {
        let message = Object::new().with("protocol", protocol).with("type", "reply").with("seqID", sequence)
            .with("name", name).with("fields", struct_of(fields));
        let head = Object::new().with("framed", framed);
        let events = vec![Event::Start(head.into()), Event::end_with(message.into())];
        let bytes = write(Encoder::new(), &events).unwrap();
        prop_assert_eq!(three_ways(Decoder::new, &bytes), events);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1..20_usize, start in 0..4_usize) {
        let starts = [hex("8001000100000001610000000000"), hex("8221000161"), hex("00000001610100000000"), vec![]];
        survive(Decoder::new(), &[&starts[start][..], &bytes].concat(), cut);
    }
}
