//! What stays and what goes between two hops.

use super::*;

fn stripped(fields: &[(&str, &str)], keep_upgrade: bool) -> Vec<(String, String)> {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
    strip_hop_by_hop(&mut headers, keep_upgrade);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn hop_by_hop_fields_go_and_others_stay() {
    let found = stripped(
        &[
            ("Host", "a"),
            ("Connection", "keep-alive, X-Private"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "gzip"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("x-private", "1"),
            ("X-Private", "2"),
            ("Trailer", "X-Sum"),
            ("X-Public", "3"),
        ],
        false,
    );
    assert_eq!(found, pairs(&[("Host", "a"), ("Trailer", "X-Sum"), ("X-Public", "3")]));
}

#[test]
fn a_connection_header_cannot_remove_end_to_end_fields() {
    let protected = [
        "host",
        "Authorization",
        "content-length",
        "Content-Type",
        "cookie",
        "x-forwarded-for",
        "X-Forwarded-Client-Cert",
        "x-real-ip",
        "if-match",
        "via",
        "X-Request-Id",
        "traceparent",
        "x-b3-traceid",
        "serviceidentity",
        "cache-control",
        "accept",
        "Accept-Encoding",
    ];
    let named = protected.join(" , ");
    let mut fields: Vec<(&str, &str)> = protected.iter().map(|name| (*name, "1")).collect();
    let expected = pairs(&fields);
    fields.push(("Connection", &named));
    assert_eq!(stripped(&fields, false), expected);
}

#[test]
fn several_connection_headers_count_together() {
    let found = stripped(
        &[("Connection", "a"), ("connection", ", B ,close"), ("A", "1"), ("b", "2"), ("c", "3")],
        false,
    );
    assert_eq!(found, pairs(&[("c", "3")]));
}

#[test]
fn an_upgrade_stays_when_it_is_wanted_with_a_connection_header_of_our_own() {
    let fields = [
        ("Connection", "Upgrade, X-Secret-Hop"),
        ("Upgrade", "websocket"),
        ("X-Secret-Hop", "1"),
        ("A", "b"),
    ];
    assert_eq!(
        stripped(&fields, true),
        pairs(&[("Upgrade", "websocket"), ("A", "b"), ("connection", "upgrade")])
    );
    assert_eq!(stripped(&[("A", "b")], true), pairs(&[("A", "b")]), "nothing to keep");
}

#[test]
fn te_trailers_travels_for_grpc() {
    assert_eq!(
        stripped(&[("TE", "gzip, Trailers"), ("Connection", "te"), ("A", "b")], false),
        pairs(&[("A", "b"), ("te", "trailers"), ("connection", "te")])
    );
    assert_eq!(
        stripped(&[("te", "trailers"), ("Upgrade", "x"), ("Connection", "upgrade")], true),
        pairs(&[("Upgrade", "x"), ("te", "trailers"), ("connection", "upgrade, te")])
    );
}

#[test]
fn names_of_any_length_in_a_connection_header_are_honoured() {
    let long = format!("X-{}", "l".repeat(200));
    let found = stripped(&[("Connection", &long), (&long, "1"), ("A", "b")], false);
    assert_eq!(found, pairs(&[("A", "b")]));
}
