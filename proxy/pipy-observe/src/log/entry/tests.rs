//! Lines as they are written, and that no input can break them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn written(entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    let mut pen = Pen::new();
    pen.line(entry, &mut out);
    let once = out.len();
    pen.line(entry, &mut out);
    assert_eq!(out[..once], out[once..], "a line that comes again is the same");
    out.truncate(once);
    String::from_utf8(out).expect("a line is UTF-8")
}

#[test]
fn a_full_entry_is_written_field_by_field() {
    let entry = Entry {
        unix_ms: 1_767_225_599_042,
        direction: Direction::Inbound,
        protocol: "http",
        source: Some("spiffe://cluster.local/ns/bookthief/sa/bookthief"),
        destination: Some("spiffe://cluster.local/ns/bookstore/sa/bookstore-v1"),
        peer: Some("10.244.0.7:41234".parse().expect("an address")),
        original_destination: Some("[fd00::1]:14001".parse().expect("an address")),
        host: Some(b"bookstore.bookstore:14001"),
        method: Some(b"GET"),
        path: Some(b"/books-bought?id=\"1\"\n"),
        status: Some(403),
        grpc_status: Some(7),
        decision: Decision::Denied,
        reason: Some("no TrafficTarget allows this identity"),
        origin: Some("TrafficTarget/bookstore/bookstore-v1"),
        rule_origin: Some("HTTPRouteGroup/bookstore/routes#buy-a-book"),
        split_origin: Some("TrafficSplit/bookstore/split"),
        service: Some("bookstore/bookstore"),
        cluster: Some("bookstore/bookstore-v1|14001|local"),
        upstream: Some("127.0.0.1:14001".parse().expect("an address")),
        request_bytes: Some(0),
        response_bytes: Some(13),
        duration_us: Some(u64::MAX),
        connection_id: Some(7),
        request_id: Some(b"4bf92f35"),
        trace_id: Some(b"463ac35c9f6413ad48485a3953bb6124"),
        span_id: Some(b"a2fb4a1d1a96d312"),
        pod: Some("bookstore/bookstore-v1-0"),
    };
    let expected = concat!(
        r#"{"time":"2025-12-31T23:59:59.042Z","direction":"inbound","protocol":"http","#,
        r#""source":"spiffe://cluster.local/ns/bookthief/sa/bookthief","#,
        r#""destination":"spiffe://cluster.local/ns/bookstore/sa/bookstore-v1","#,
        r#""peer":"10.244.0.7:41234","original_destination":"[fd00::1]:14001","#,
        r#""host":"bookstore.bookstore:14001","method":"GET","path":"/books-bought?id=\"1\"\n","#,
        r#""status":403,"grpc_status":7,"decision":"denied","reason":"no TrafficTarget allows this identity","#,
        r#""origin":"TrafficTarget/bookstore/bookstore-v1","#,
        r#""rule_origin":"HTTPRouteGroup/bookstore/routes#buy-a-book","#,
        r#""split_origin":"TrafficSplit/bookstore/split","service":"bookstore/bookstore","#,
        r#""cluster":"bookstore/bookstore-v1|14001|local","upstream":"127.0.0.1:14001","#,
        r#""request_bytes":0,"response_bytes":13,"duration_us":18446744073709551615,"#,
        r#""connection_id":7,"request_id":"4bf92f35","trace_id":"463ac35c9f6413ad48485a3953bb6124","#,
        r#""span_id":"a2fb4a1d1a96d312","pod":"bookstore/bookstore-v1-0"}"#,
        "\n"
    );
    assert_eq!(written(&entry), expected);
}

#[test]
fn absent_and_empty_fields_are_left_out() {
    let entry = Entry { protocol: "tcp", source: Some(""), path: Some(b""), ..Entry::default() };
    assert_eq!(
        written(&entry),
        concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","direction":"outbound","protocol":"tcp","decision":"allowed"}"#,
            "\n"
        )
    );
}

#[test]
fn every_number_of_an_address_is_written_as_it_is() {
    for number in 0..=255_u8 {
        let peer = SocketAddr::from(([number, 255 - number, number, number / 2], 1));
        let line = written(&Entry { peer: Some(peer), ..Entry::default() });
        assert!(line.contains(&format!(r#","peer":"{peer}","#)), "{line}");
    }
}

#[test]
fn lines_that_take_turns_do_not_mix() {
    let mut pen = Pen::new();
    let named = |i: usize| format!("spiffe://cluster.local/ns/ns-{}/sa/sa-{}", i % 7, i % 50);
    for i in 0..2000 {
        let (source, origin) = (named(i), format!("TrafficTarget/ns/{}", i % 61));
        let entry = Entry {
            source: Some(&source),
            destination: (i % 3 > 0).then_some("spiffe://cluster.local/ns/a/sa/b"),
            decision: if i % 5 == 0 { Decision::Denied } else { Decision::Allowed },
            origin: Some(&origin),
            rule_origin: (i % 2 > 0).then_some(&origin),
            ..Entry::default()
        };
        let mut out = Vec::new();
        pen.line(&entry, &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), written(&entry));
    }
}

#[test]
fn every_decision_has_its_word() {
    let words =
        [Decision::Allowed, Decision::Denied, Decision::Failed, Decision::Passthrough].map(Decision::as_str);
    assert_eq!(words, ["allowed", "denied", "failed", "passthrough"]);
}

proptest! {
    #[test]
    fn any_bytes_make_one_valid_line(
        path in proptest::collection::vec(any::<u8>(), 1..6000),
        host in proptest::collection::vec(any::<u8>(), 1..100),
        reason in ".*",
        source in "\\PC*",
    ) {
        let entry = Entry {
            protocol: "http",
            host: Some(&host),
            path: Some(&path),
            reason: Some(&reason),
            source: Some(&source),
            ..Entry::default()
        };
        let line = written(&entry);

        prop_assert_eq!(line.bytes().filter(|b| *b < 0x20).count(), 1, "only the newline at its end");
        let value: Value = serde_json::from_str(line.trim_end_matches('\n')).expect("it is JSON");
        prop_assert_eq!(value["decision"].as_str(), Some("allowed"), "nothing overwrote what follows the path");
        let known = ["time", "direction", "protocol", "source", "host", "path", "decision", "reason"];
        for key in value.as_object().expect("it is an object").keys() {
            prop_assert!(known.contains(&key.as_str()), "{} was forged", key);
        }
        if path.len() <= json::FIELD_BYTES_MAX {
            let lossy = String::from_utf8_lossy(&path).into_owned();
            prop_assert_eq!(value["path"].as_str(), Some(lossy.as_str()));
        }
    }

    #[test]
    fn text_that_is_short_enough_comes_back_as_it_was(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}|[\u{80}-\u{2070}]{0,200}") {
        let mut out = vec![b'"'];
        json::rest_of_string(text.as_bytes(), &mut out);
        let back: String = serde_json::from_slice(&out).expect("it is a JSON string");
        prop_assert_eq!(back, text);
    }
}
