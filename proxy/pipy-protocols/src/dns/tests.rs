//! What dnspython says, both ways; pointers that lie; records of unknown types.

use bytes::Bytes;
use proptest::prelude::*;

use super::{decode, encode};
use crate::testing::{capture, hex};
use crate::{Object, Value};

fn read(bytes: impl Into<Bytes>) -> Value {
    decode(&bytes.into()).unwrap()
}

fn refused(bytes: &str) -> String {
    decode(&hex(bytes).into()).unwrap_err().to_string()
}

#[test]
fn a_query_with_edns_is_read_and_written_byte_for_byte() {
    let bytes = capture("dns-query");
    let query = read(bytes.clone());
    assert_eq!((query.get("id"), query.get("rd")), (Some(&0x1234.into()), Some(&1.into())));
    assert_eq!((query.get("qr"), query.get("rcode")), (None, None), "what is 0 is left out");
    let question = Object::new().with("name", "www.example.com").with("type", "A");
    assert_eq!(query.get("question"), Some(&vec![question.into()].into()));
    let opt = &query.get("additional").unwrap().as_array().unwrap()[0];
    assert_eq!((opt.get("type"), opt.get("class")), (Some(&"OPT".into()), Some(&1232.into())));
    let option = Object::new().with("code", 8).with("data", "00011800c00002");
    assert_eq!(opt.get("rdata"), Some(&vec![option.into()].into()));
    assert_eq!(encode(&query).unwrap(), bytes);
}

#[test]
fn records_of_all_types_are_read_and_come_back_the_same() {
    let response = read(capture("dns-response"));
    let answer = response.get("answer").unwrap().as_array().unwrap();
    let rdata = |kind: &str| {
        answer
            .iter()
            .find(|record| record.get("type") == Some(&kind.into()))
            .unwrap()
            .get("rdata")
            .unwrap()
            .clone()
    };
    assert_eq!(rdata("A"), "192.0.2.1".into());
    assert_eq!(rdata("AAAA"), "2001:db8::1".into());
    assert_eq!(rdata("CNAME"), "other.example.com".into());
    assert_eq!(
        rdata("MX"),
        Object::new().with("preference", 10).with("exchange", "mail1.example.com").into()
    );
    assert_eq!(rdata("TXT"), vec!["hi pipy".into(), "second".into()].into());
    assert_eq!(rdata("SOA").get("minimum"), Some(&300.into()));
    assert_eq!(rdata("SRV").get("target"), Some(&"host.example.com".into()));
    assert_eq!(rdata("CAA").get("value"), Some(&"ca.example.net".into()));
    assert_eq!(rdata("NAPTR").get("replacement"), Some(&"_sip._udp.example.com".into()));
    let unknown = answer.iter().find(|record| record.get("type") == Some(&65280.into())).unwrap();
    assert_eq!(unknown.get("rdata"), Some(&"010203".into()));

    let written = encode(&response).unwrap();
    assert_eq!(read(written.clone()), response);
    assert!(written.len() <= capture("dns-response").len(), "names are compressed as well as by dnspython");
}

#[test]
fn the_answer_that_a_script_makes_is_what_a_resolver_reads() {
    let record = |address: &str| -> Value {
        Object::new()
            .with("name", "example.com")
            .with("type", "A")
            .with("ttl", 60)
            .with("rdata", address)
            .into()
    };
    let question = Object::new().with("name", "example.com").with("type", "A");
    let message = Object::new()
        .with("qr", 1)
        .with("rd", 1)
        .with("ra", 1)
        .with("aa", true)
        .with("id", 7)
        .with("question", vec![question.into()])
        .with("answer", vec![record("192.168.139.10"), record("192.168.139.11")]);
    let bytes = encode(&message.into()).unwrap();
    assert_eq!(
        bytes,
        hex("0007 8580 0001 0002 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001
        c00c 0001 0001 0000003c 0004 c0a88b0a c00c 0001 0001 0000003c 0004 c0a88b0b")
    );
}

#[test]
fn an_address_of_hexadecimal_digits_is_written_too() {
    let record = |rdata: &str| {
        let record = Object::new().with("name", "a").with("type", "aaaa").with("rdata", rdata);
        encode(&Object::new().with("answer", vec![record.into()]).into()).unwrap()
    };
    assert_eq!(record("20010db8000000000000000000000001"), record("2001:db8::1"));
}

#[test]
fn strange_names_keep_their_bytes() {
    let bytes = hex("0000 0000 0001 0000 0000 0000 03 612e62 02 5c20 01 ff 00 0001 0001");
    let message = read(bytes.clone());
    let name = message.get("question").unwrap().as_array().unwrap()[0].get("name").unwrap().clone();
    assert_eq!(name, r"a\.b.\\\032.\255".into());
    assert_eq!(encode(&message).unwrap(), bytes);
}

#[test]
fn pointers_that_lie_are_refused() {
    let header = "0000 0000 0001 0000 0000 0000";
    assert!(refused(&format!("{header} c00c 0001 0001")).contains("does not point back"), "itself");
    assert!(refused(&format!("{header} c030 0001 0001")).contains("does not point back"), "forwards");
    assert!(refused(&format!("{header} 01 61 c00c 0001 0001")).contains("does not point back"), "a loop");
    assert!(refused(&format!("{header} 40 0001 0001")).contains("unknown kind"));
    assert!(refused(&format!("{header} 3f 61")).contains("ends within a name"));
    let long = format!("{header} {} 00 0001 0001", format!("3f {}", "61".repeat(63)).repeat(4));
    assert!(refused(&long).contains("255 bytes"));
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(refused("00").contains("are expected"));
    assert!(refused("0000 0000 0001 0000 0000 0000").contains("ends within a name"));
    assert!(refused("0000 0000 0000 0000 0000 0000 00").contains("after the message"));
    let record = "0000 8000 0000 0001 0000 0000 00 0001 0001 00000000";
    assert!(refused(&format!("{record} 0005 0102030405")).contains("1 bytes too many"));
    assert!(refused(&format!("{record} 0003 010203")).contains("4 bytes are expected"));
    assert!(refused(&format!("{record} 0004 0102")).contains("exceeds the message"));
    for cut in 1..capture("dns-response").len() {
        assert!(decode(&Bytes::from(capture("dns-response")[..cut].to_vec())).is_err(), "{cut}");
    }
}

#[test]
fn scripts_are_told_which_record_is_wrong() {
    let wrong = |record: Object| {
        encode(&Object::new().with("answer", vec![record.into()]).into()).unwrap_err().to_string()
    };
    let a = |rdata: &str| Object::new().with("name", "a").with("type", "A").with("rdata", rdata);
    assert_eq!(wrong(a("1.2.3")), "cannot write DNS: answer[0]: rdata \"1.2.3\" is not an IPv4 address");
    assert!(wrong(Object::new().with("name", "a..b").with("type", "A")).contains("an empty label"));
    assert!(wrong(Object::new().with("name", "a").with("type", "WHAT")).contains("unknown type \"WHAT\""));
    assert!(wrong(Object::new().with("name", "x".repeat(64)).with("type", "A")).contains("63 bytes"));
    assert!(encode(&Value::Null).unwrap_err().to_string().contains("not null"));
}

#[test]
fn long_text_is_cut_into_strings() {
    let record = Object::new().with("name", "t").with("type", "TXT").with("rdata", "x".repeat(300));
    let message = read(encode(&Object::new().with("answer", vec![record.into()]).into()).unwrap());
    let rdata = message.get("answer").unwrap().as_array().unwrap()[0].get("rdata").unwrap().clone();
    assert_eq!(rdata, vec!["x".repeat(255).into(), "x".repeat(45).into()].into());
}

proptest! {
    #[test]
    fn names_come_back(labels in prop::collection::vec("[a-z.\\\\ é0-9-]{1,12}", 0..6)) {
        let name = labels.iter().map(|label| label.replace('\\', "\\\\").replace('.', "\\.")).collect::<Vec<_>>().join(".");
        let question = Object::new().with("name", name.clone()).with("type", "ANY");
        let message = Object::new().with("question", vec![question.into()]);
        let first = encode(&message.into()).unwrap();
        let again = read(first.clone());
        prop_assert_eq!(encode(&again).unwrap(), first);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into());
    }

    #[test]
    fn what_is_readable_is_writable(at in 0..424_usize, value: u8) {
        let mut bytes = capture("dns-response");
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(message) = decode(&bytes.into()) {
            prop_assert_eq!(read(encode(&message).unwrap()), message);
        }
    }
}
