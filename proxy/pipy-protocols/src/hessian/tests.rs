//! The examples of the specification; what a writer in another language writes; references; garbage.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Options, decode, encode};
use crate::testing::hex;
use crate::{Object, Value};

fn read(bytes: &[u8]) -> Vec<Value> {
    decode(&Bytes::copy_from_slice(bytes), Options::default()).unwrap()
}

fn refused(bytes: &str) -> String {
    decode(&hex(bytes).into(), Options::default()).unwrap_err().to_string()
}

#[test]
fn numbers_of_the_specification_are_read_and_written_in_their_shortest_form() {
    let shortest: [(&str, Value); 18] = [
        ("90", 0.into()),
        ("80", (-16).into()),
        ("bf", 47.into()),
        ("c800", Value::Int(0)),
        ("c000", (-2048).into()),
        ("c756", Value::Int(-0xaa)),
        ("cfff", 2047.into()),
        ("d00000", (-262_144).into()),
        ("d7ffff", 262_143.into()),
        ("4900040000", 262_144.into()),
        ("4c0000000080000000", Value::Int(0x8000_0000)),
        ("5b", 0.0.into()),
        ("5c", 1.0.into()),
        ("5d80", (-128.0).into()),
        ("5e8000", (-32768.0).into()),
        ("5f00002fda", 12.25.into()),
        ("4440091eb851eb8520", Value::Number(f64::from_bits(0x4009_1eb8_51eb_8520))),
        ("4480000000 00000000", (-0.0).into()),
    ];
    for (bytes, value) in shortest {
        assert_eq!(read(&hex(bytes))[0], value, "{bytes}");
        if bytes != "c800" {
            assert_eq!(encode(&value).unwrap(), hex(bytes), "{value:?}");
        }
    }
    for (bytes, value) in
        [("e0", 0), ("d8", -8), ("ef", 15), ("f0 00", -2048), ("38 00 00", -262_144), ("59 00 00 00 07", 7)]
    {
        assert_eq!(read(&hex(bytes)), [Value::Int(value)], "long {bytes}");
    }
    assert_eq!(
        read(&hex("4a 000000d04b9284b8 4b 00e3838f")),
        [Value::Date(894_621_091_000), Value::Date(894_621_060_000)]
    );
    assert_eq!(encode(&Value::Date(894_621_060_000)).unwrap(), hex("4b 00e3838f"));
}

#[test]
fn strings_count_units_of_16_bits() {
    let text = |text: &str| -> Value { text.into() };
    assert_eq!(
        read(&hex("05 68656c6c6f 01 c383 52 0002 6869 01 21")),
        [text("hello"), text("Ã"), text("hi!")]
    );
    // A pair as Java writes it, and as others do; halves in two chunks.
    let smile = text("😀");
    assert_eq!(read(&hex("02 eda0bd edb880"))[0], smile);
    assert_eq!(read(&hex("02 f09f9880"))[0], smile);
    assert_eq!(read(&hex("52 0001 eda0bd 01 edb880"))[0], smile);
    assert_eq!(encode(&smile).unwrap(), hex("02 eda0bd edb880"));
    assert!(refused("01 eda0bd").contains("not Unicode"));
    assert!(refused("01 f09f9880").contains("exceeds its string"));
    assert!(refused("01 c3").contains("a string takes 1 bytes"));
}

#[test]
fn lists_maps_and_objects_say_what_they_are() {
    let read_one = |bytes: &str| read(&hex(bytes)).pop().unwrap();
    assert_eq!(read_one("7a 91 92"), vec![1.into(), 2.into()].into());
    assert_eq!(read_one("57 91 92 5a"), vec![1.into(), 2.into()].into());
    let typed =
        Object::new().with("kind", "list").with("type", "[int").with("elements", vec![0.into(), 1.into()]);
    assert_eq!(read_one("72 04 5b696e74 90 91"), typed.clone().into());
    assert_eq!(read_one("56 04 5b696e74 92 90 91"), typed.clone().into());
    assert_eq!(read_one("55 04 5b696e74 90 91 5a"), typed.into());

    let map = read_one("48 91 03 666565 03 6b6579 92 5a");
    let pair = |key: Value, value: Value| Value::Array(vec![key, value]);
    let elements = vec![pair(1.into(), "fee".into()), pair("key".into(), 2.into())];
    assert_eq!(map, Object::new().with("kind", "map").with("elements", elements).into());
    let plain = decode(&hex("48 03 6b6579 92 5a").into(), Options { plain_maps: true }).unwrap();
    assert_eq!(plain, [Object::new().with("key", 2).into()]);

    // Two objects of one class, the second without its definition; types by number.
    let cars = read(&hex(
        "43 0b 6578616d706c652e436172 92 05 636f6c6f72 05 6d6f64656c 60 03 726564 08 636f727665747465 60 05 677265656e 05 6369766963",
    ));
    let car = |color: &str, model: &str| {
        Object::new()
            .with("kind", "object")
            .with("type", "example.Car")
            .with("elements", Object::new().with("color", color).with("model", model))
            .into()
    };
    assert_eq!(cars, [car("red", "corvette"), car("green", "civic")]);
    assert_eq!(
        encode(&cars.into()).unwrap(),
        hex(
            "43 0b 6578616d706c652e436172 92 05 636f6c6f72 05 6d6f64656c 60 03 726564 08 636f727665747465 60 05 677265656e 05 6369766963"
        )
    );
    assert_eq!(read_one("71 00 91"), vec![1.into()].into(), "a type without a name is none");
    assert_eq!(read(&hex("70 01 61 70 90"))[0], read(&hex("70 01 61 70 90"))[1]);
}

#[test]
fn what_is_shared_is_copied_and_what_is_endless_is_refused() {
    let shared = read(&hex("79 91 51 90"));
    assert_eq!(shared, [Value::from(vec![1.into()]), vec![1.into()].into()]);
    assert!(refused("79 51 90").contains("refers to itself"));
    assert!(refused("51 90").contains("was not said before"));
    // Each list has the one before twice: 2^60 values in some 200 bytes.
    let mut bomb = hex("79 91");
    for index in 0..60_u8 {
        bomb.extend([0x7a, 0x51, 0xc8, index, 0x51, 0xc8, index]);
    }
    let error = decode(&bomb.into(), Options::default()).unwrap_err();
    assert_eq!(error.metric_label(), "too_large");
}

#[test]
fn what_no_writer_writes_is_refused() {
    let cases = [
        ("5a", "starts no value"),
        ("40", "starts no value"),
        ("49 00", "takes 4 bytes"),
        ("60", "class 0 was not defined"),
        ("70 90", "type 0 was not said"),
        ("58 8f", "length of a list is -1"),
        ("43 90", "not a string"),
        ("7a 91", "a value takes 1 bytes"),
        ("41 0001 00 90", "continues no binary"),
        ("52 0000 90", "continues no string"),
    ];
    for (bytes, reason) in cases {
        let error = refused(bytes);
        assert!(error.contains(reason), "{bytes}: {error}");
    }
    assert!(refused(&"57".repeat(100)).contains("depth exceeds"));
    assert!(
        refused("56 01 61 49 7fffffff").contains("a value takes"),
        "no room is reserved on a peer's word"
    );
}

#[test]
fn the_call_that_a_script_makes_is_a_row_of_values() {
    let attachments = Object::new()
        .with("kind", "map")
        .with("elements", vec![Value::Array(vec!["input".into(), "196".into()])]);
    let call: Value = vec!["2.0.2".into(), "Books".into(), attachments.into()].into();
    let bytes = encode(&call).unwrap();
    assert_eq!(bytes, hex("05 322e302e32 05 426f6f6b73 48 05 696e707574 03 313936 5a"));
    assert_eq!(Value::from(read(&bytes)), call);
    assert!(
        encode(&Object::new().with("kind", "tree").with("elements", vec![]).into())
            .unwrap_err()
            .to_string()
            .contains("\"tree\"")
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        (-300_000..300_000_i64).prop_map(Value::Int),
        any::<f64>().prop_filter("NaN is not itself", |number| !number.is_nan()).prop_map(Value::Number),
        (-3_000_000..3_000_000_i32).prop_map(|number| Value::Number(f64::from(number) / 1000.0)),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Date),
        (-100_000..100_000_i64).prop_map(|minutes| Value::Date(minutes * 60_000)),
        Just(Value::Null),
        any::<String>().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..1100).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(4, 40, 9, |inner| {
        let named = |kind: &'static str, name: String, elements: Value| {
            Value::from(Object::new().with("kind", kind).with("type", name).with("elements", elements))
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..10).prop_map(Value::Array),
            ("[a-c]", prop::collection::vec(inner.clone(), 0..10)).prop_map(move |(name, list)| named(
                "list",
                name,
                list.into()
            )),
            ("[a-c]", prop::collection::btree_map("[a-c]", inner.clone(), 0..3)).prop_map(
                move |(name, fields)| {
                    named("object", name, Object::from_pairs(fields.into_iter().collect()).into())
                }
            ),
            ("[a-c]", prop::collection::vec((inner.clone(), inner), 0..3)).prop_map(move |(name, pairs)| {
                named(
                    "map",
                    name,
                    pairs
                        .into_iter()
                        .map(|(key, value)| Value::Array(vec![key, value]))
                        .collect::<Vec<_>>()
                        .into(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn values_come_back(values in prop::collection::vec(values(), 0..4)) {
        let bytes = encode(&values.clone().into()).unwrap();
        prop_assert_eq!(read(&bytes), values);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into(), Options { plain_maps: true });
    }
}

#[test]
fn long_text_and_binaries_are_cut_into_chunks_and_put_together() {
    let text: Value = "é😀".repeat(40_000).into();
    let bytes: Value = Bytes::from(vec![7; 100_000]).into();
    let row = vec![text, bytes];
    assert_eq!(read(&encode(&row.clone().into()).unwrap()), row);
}
