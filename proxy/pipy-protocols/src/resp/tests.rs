//! What redis-py and Redis say; numbers, which other proxies cut; inline commands; garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Encoder, decode, encode};
use crate::testing::{capture, heads, payloads, read, round_trip, survive, three_ways, write};
use crate::{Event, Object, Value};

fn bulk(text: &'static str) -> Value {
    Bytes::from(text).into()
}

#[test]
fn what_redis_py_says_is_read_and_written_byte_for_byte() {
    for version in [2, 3] {
        let events = round_trip(Decoder::new, Encoder::new(), &capture(&format!("resp-{version}-client")));
        assert!(payloads(&events).contains(&vec![bulk("INCRBY"), bulk("n"), bulk("5")].into()));
    }
}

#[test]
fn what_redis_answers_is_read() {
    let two = payloads(&three_ways(Decoder::new, &capture("resp-2-server")));
    assert!(two.contains(&Value::Int(5)) && two.contains(&Value::Int(-45)), "{two:?}");
    assert!(two.contains(&"OK".into()) && two.contains(&Value::Null));
    assert!(two.iter().any(|value| matches!(value, Value::Error(text) if text.starts_with("WRONGTYPE"))));
    let events = three_ways(Decoder::new, &capture("resp-3-server"));
    let three = payloads(&events);
    assert!(
        three
            .iter()
            .any(|value| matches!(value, Value::Map(pairs) if pairs.contains(&(bulk("a"), bulk("1")))))
    );
    assert!(three.iter().any(|value| matches!(value, Value::Set(values) if values.contains(&bulk("x")))));
    assert!(heads(&events).iter().any(|head| head.get("type") == Some(&"push".into())));
    round_trip(Decoder::new, Encoder::new(), &capture("resp-3-server"));
}

#[test]
fn integers_have_all_their_digits_and_their_sign() {
    for (text, number) in
        [(":123", 123), (":-45", -45), (":0", 0), (":+7", 7), (":-9223372036854775808", i64::MIN)]
    {
        assert_eq!(decode(format!("{text}\r\n").into()).unwrap(), [Value::Int(number)]);
    }
}

#[test]
fn words_of_version_3_are_values() {
    let text = "_\r\n#t\r\n,1.5\r\n,-inf\r\n(12345678901234567890\r\n=8\r\ntxt:some\r\n!9\r\nERR a\r\nb!\r\n|1\r\n+ttl\r\n:9\r\n%1\r\n+k\r\n~1\r\n:1\r\n";
    let values = payloads(&three_ways(Decoder::new, text.as_bytes()));
    let expected = [
        Value::Null,
        true.into(),
        1.5.into(),
        f64::NEG_INFINITY.into(),
        "12345678901234567890".into(),
        bulk("some"),
        Value::Error("ERR a\r\nb!".into()),
        Value::Map(vec![("k".into(), Value::Set(vec![1.into()]))]),
    ];
    assert_eq!(values, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_client_of_version_2_gets_what_it_can_read() {
    let value = Value::Map(vec![("k".into(), true.into()), ("n".into(), 1.5.into())]);
    assert_eq!(encode(&value).unwrap(), "*4\r\n+k\r\n:1\r\n+n\r\n$3\r\n1.5\r\n");
    assert_eq!(encode(&"two\r\nlines".into()).unwrap(), "$10\r\ntwo\r\nlines\r\n");
    assert_eq!(encode(&Value::Error("no\nno".into())).unwrap(), "-no no\r\n");
}

#[test]
fn people_may_type_commands() {
    let read = payloads(&three_ways(Decoder::new, b"\r\nSET k \"a \\\"b\\\"\\n\"  'c d'\nPING\r\n"));
    assert_eq!(
        read,
        [vec![bulk("SET"), bulk("k"), bulk("a \"b\"\n"), bulk("c d")].into(), vec![bulk("PING")].into()]
    );
}

#[test]
fn what_is_not_resp_is_refused() {
    let deep = "*1\r\n".repeat(100);
    let cases = [
        (":12x\r\n", "an integer"),
        (":\r\n", "an integer"),
        (":99999999999999999999\r\n", "an integer"),
        ("$-2\r\n", "a length of -2"),
        ("$3\r\nabcd\r\n", "does not end there"),
        ("+OK\n", "carriage return"),
        ("-a\rb\r\n", "carriage return within"),
        ("@foo\r\n", "starts no value"),
        ("*1\r\nPING\r\n", "starts no value"),
        ("#x\r\n", "starts no value"),
        (",1,5\r\n", "a double"),
        ("=3\r\nabc\r\n", "verbatim"),
        ("*1\r\n>1\r\n", "a push within"),
        ("PING \"a\r\n", "not closed"),
        ("$600000000\r\n", "exceeds the limit"),
        ("*2000000\r\n", "exceeds the limit"),
        (&deep, "exceeds the limit"),
        ("*1000000\r\n*1000000\r\n", "exceeds the limit"),
    ];
    for (text, reason) in cases {
        let error = read(Decoder::new(), &[text.as_bytes()]).unwrap_err();
        assert!(error.to_string().contains(reason), "{text:?}: {error}");
    }
    let endless = vec![b'+'; 70_000];
    assert_eq!(read(Decoder::new(), &[&endless]).unwrap_err().metric_label(), "too_large");
    assert_eq!(read(Decoder::new(), &[b"*2\r\n:1\r\n"]).unwrap_err().metric_label(), "truncated");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("NaN is not itself", |number| !number.is_nan()).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        "[^\r\n]{0,20}".prop_map(Value::String),
        "[^\r\n]{0,20}".prop_map(Value::Error),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner), 0..5).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn values_of_version_3_come_back(value in values()) {
        let head = Object::new().with("protocol", 3);
        let events = [Event::Start(head.into()), Event::end_with(value.clone())];
        let bytes = write(Encoder::new(), &events).unwrap();
        prop_assert_eq!(payloads(&three_ways(Decoder::new, &bytes)), [value]);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(text in "[*$:+\\-_#,(!=%~>|0-9a\r\n\"' ]{0,80}", cut in 1..20_usize) {
        survive(Decoder::new(), text.as_bytes(), cut);
    }
}
