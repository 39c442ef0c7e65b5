//! Messages written, and read back.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testing::{bad_request, good_head, good_request, good_response};
use crate::{Method, RequestItem, ResponseItem};

fn request(method: Method, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(method, target);
    headers.iter().for_each(|(name, value)| head.headers.append(name, value).unwrap());
    head
}

fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    headers.iter().for_each(|(name, value)| head.headers.append(name, value).unwrap());
    head
}

fn reply(method: Method, version: Version, keep_alive: bool) -> ReplyTo {
    let mut head = RequestHead::new(method, "/");
    head.version = version;
    ReplyTo { keep_alive, ..ReplyTo::new(&head) }
}

fn written(head: &ResponseHead, body: BodyLength, to: ReplyTo) -> (String, BodyEncoder) {
    let mut out = Vec::new();
    let encoder = encode_response_head(head, body, to, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), encoder)
}

#[test]
fn request_framing_comes_from_the_body_and_never_from_the_headers() {
    let head = request(
        Method::Post,
        "/a?b",
        &[("Host", "h"), ("Content-Length", "999"), ("X", "y"), ("transfer-encoding", "chunked")],
    );
    for (body, framing) in [
        (BodyLength::None, ""),
        (BodyLength::Length(0), "content-length: 0\r\n"),
        (BodyLength::Length(u64::MAX), "content-length: 18446744073709551615\r\n"),
        (BodyLength::Chunked, "transfer-encoding: chunked\r\n"),
    ] {
        let mut out = b"before".to_vec();
        encode_request_head(&head, body, &mut out).unwrap();
        let expected = format!("beforePOST /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\n{framing}\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn a_request_of_http_1_0_goes_out_as_1_1_with_a_host() {
    let mut head = request(Method::Get, "/", &[("A", "b")]);
    head.version = Version::Http10;
    let mut out = Vec::new();
    encode_request_head(&head, BodyLength::None, &mut out).unwrap();
    assert_eq!(out, b"GET / HTTP/1.1\r\nhost: \r\nA: b\r\n\r\n");
    good_head(&out);
}

#[test]
fn what_would_break_a_first_line_is_refused_and_nothing_written() {
    let mut out = Vec::new();
    for target in ["", "a", "/a b", "/\r\nX: y", "/a#b", "*"] {
        let head = request(Method::Get, target, &[]);
        assert!(encode_request_head(&head, BodyLength::None, &mut out).is_err(), "{target:?}");
    }
    let head = request(Method::Get, "/", &[]);
    assert!(encode_request_head(&head, BodyLength::UntilClose, &mut out).is_err());
    let to = ReplyTo::unreadable();
    for (status, reason) in [(99, "x"), (1000, "x"), (0, ""), (200, "a\r\nb: c"), (200, "\0")] {
        let head =
            ResponseHead { status, reason: reason.as_bytes().to_vec().into(), ..ResponseHead::new(200) };
        let error = encode_response_head(&head, BodyLength::None, to, &mut out).unwrap_err();
        assert_eq!((error.status(), error.metric_label()), (500, "unencodable"));
    }
    assert!(out.is_empty());
}

#[test]
fn response_framing_fits_request_status_and_version() {
    use BodyLength::{Chunked, Length, None as Nothing, UntilClose};
    use Version::{Http10, Http11};
    let cases: [(Method, Version, u16, BodyLength, &str, Body); 22] = [
        (Method::Get, Http11, 200, Length(5), "content-length: 5\r\n", Body::Length(5)),
        (Method::Get, Http11, 200, Chunked, "transfer-encoding: chunked\r\n", Body::Chunked),
        (Method::Get, Http11, 200, UntilClose, "connection: close\r\n", Body::UntilClose),
        (Method::Get, Http11, 403, Nothing, "content-length: 0\r\n", Body::Length(0)),
        (
            Method::Get,
            Http10,
            200,
            Length(5),
            "content-length: 5\r\nconnection: keep-alive\r\n",
            Body::Length(5),
        ),
        (Method::Get, Http10, 200, Chunked, "connection: close\r\n", Body::UntilClose),
        (Method::Head, Http11, 200, Length(5), "content-length: 5\r\n", Body::None),
        (Method::Head, Http11, 200, Nothing, "", Body::None),
        (Method::Head, Http11, 200, Chunked, "", Body::None),
        (Method::Head, Http11, 200, UntilClose, "", Body::None),
        (Method::Get, Http11, 204, Nothing, "", Body::None),
        (Method::Get, Http11, 204, Length(0), "", Body::None),
        (Method::Get, Http11, 204, Chunked, "", Body::None),
        (Method::Get, Http11, 304, Nothing, "", Body::None),
        (Method::Get, Http11, 304, Length(7), "content-length: 7\r\n", Body::None),
        (Method::Get, Http11, 100, Nothing, "", Body::None),
        (Method::Get, Http10, 103, Length(0), "", Body::None),
        (Method::Get, Http11, 101, Nothing, "", Body::None),
        (Method::Connect, Http11, 200, Nothing, "", Body::None),
        (Method::Connect, Http10, 200, UntilClose, "", Body::None),
        (Method::Connect, Http11, 403, Nothing, "content-length: 0\r\n", Body::Length(0)),
        (Method::Connect, Http11, 403, Length(1), "content-length: 1\r\n", Body::Length(1)),
    ];
    for (method, version, status, body, framing, expected) in cases {
        let what = format!("{method} {version:?} {status} {body:?}");
        let head =
            response(status, &[("transfer-encoding", "chunked"), ("Connection", "x"), ("Keep-Alive", "y")]);
        let (text, encoder) = written(&head, body, reply(method, version, true));
        let head_line = format!("HTTP/1.1 {status} {}\r\n", crate::canonical_reason(status));
        let kept = if status == 101 { "Connection: x\r\nKeep-Alive: y\r\n" } else { "" };
        assert_eq!(text, format!("{head_line}{kept}{framing}\r\n"), "{what}");
        assert_eq!(encoder.0, expected, "{what}");
        assert_eq!(encoder.must_close(), expected == Body::UntilClose);
        assert_eq!(encoder.is_none(), expected == Body::None);
    }
}

#[test]
fn a_length_without_a_body_is_kept_when_it_is_one() {
    for (value, expected) in [("42", "content-length: 42\r\n"), ("x", ""), ("1, 1", "")] {
        for (method, status) in [(Method::Head, 200), (Method::Get, 304)] {
            let head = response(status, &[("Content-Length", value)]);
            let (text, _) = written(&head, BodyLength::None, reply(method, Version::Http11, true));
            assert!(text.ends_with(&format!("\r\n{expected}\r\n")), "{text}");
        }
    }
    let (text, _) =
        written(&response(204, &[("Content-Length", "42")]), BodyLength::None, ReplyTo::unreadable());
    assert!(!text.contains("ontent-"), "{text}");
}

#[test]
fn a_connection_that_will_close_says_so() {
    for version in [Version::Http10, Version::Http11] {
        let (text, _) =
            written(&response(200, &[]), BodyLength::Length(0), reply(Method::Get, version, false));
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let (text, _) = written(&response(400, &[]), BodyLength::Length(0), ReplyTo::unreadable());
    assert!(text.contains("connection: close\r\n"));
    let (text, _) =
        written(&response(100, &[]), BodyLength::None, reply(Method::Get, Version::Http11, false));
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n", "an interim response closes nothing");
}

#[test]
fn chunks_are_framed_and_never_empty() {
    let frame = |len| BodyEncoder(Body::Chunked).frame(len).unwrap();
    for (len, prefix) in [
        (1, "1\r\n"),
        (9, "9\r\n"),
        (10, "a\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (255, "ff\r\n"),
        (4096, "1000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(frame(len).prefix.as_slice(), prefix.as_bytes());
        assert_eq!(frame(len).suffix, b"\r\n");
        assert!(!frame(len).prefix.spilled());
    }
    assert_eq!((frame(0).prefix.len(), frame(0).suffix), (0, &b""[..]), "it would end the body");
}

#[test]
fn a_counted_body_has_exactly_the_bytes_announced() {
    let mut out = Vec::new();
    let mut encoder = BodyEncoder(Body::Length(5));
    encoder.encode(b"abc", &mut out).unwrap();
    assert_eq!(encoder.encode(b"def", &mut out), Err(HttpError::BodyTooLong { excess: 1 }));
    encoder.encode(b"de", &mut out).unwrap();
    encoder.end(None, &mut out).unwrap();
    assert_eq!(out, b"abcde");
    assert_eq!(BodyEncoder(Body::Length(2)).end(None, &mut out), Err(HttpError::BodyTooShort { missing: 2 }));
}

#[test]
fn a_message_without_a_body_drops_what_is_given() {
    let mut out = Vec::new();
    let mut encoder = BodyEncoder(Body::None);
    assert!(!encoder.frame(3).unwrap().write_data);
    encoder.encode(b"abc", &mut out).unwrap();
    encoder.end(None, &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn trailers_go_out_with_chunks_only_and_only_harmless_ones() {
    let mut trailers = Headers::new();
    for (name, value) in [("Content-Length", "1"), ("Cookie", "c"), ("grpc-status", "0"), ("Host", "h")] {
        trailers.append(name, value).unwrap();
    }
    let end = |body| {
        let mut out = Vec::new();
        BodyEncoder(body).end(Some(&trailers), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(end(Body::Chunked), "0\r\ngrpc-status: 0\r\n\r\n");
    assert_eq!(end(Body::UntilClose) + &end(Body::Length(0)) + &end(Body::None), "");
}

/// A smuggled second request, in every place a head can hold bytes.
#[test]
fn a_head_that_was_read_cannot_carry_a_second_one() {
    for bytes in [
        &b"GET /\x0d\x0aX: y HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x0d\x0d\x0aX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x85X: y\x0a\r\n\r\n",
    ] {
        bad_request(bytes);
    }
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}"
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = ("x-", token()).prop_map(|(prefix, name)| format!("{prefix}{name}"));
    let byte = prop_oneof![0x20..=0x7eu8, 0x80..=0xffu8, Just(b'\t')];
    prop::collection::vec((name, prop::collection::vec(byte, 0..40)), 0..20)
}

fn bodies() -> impl Strategy<Value = (BodyLength, Vec<Vec<u8>>)> {
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6);
    (any::<bool>(), chunks).prop_map(|(chunked, chunks)| {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        (if chunked { BodyLength::Chunked } else { BodyLength::Length(length) }, chunks)
    })
}

fn put_body(mut encoder: BodyEncoder, chunks: &[Vec<u8>], out: &mut Vec<u8>) {
    chunks.iter().for_each(|chunk| encoder.encode(chunk, out).unwrap());
    encoder.end(None, out).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_survive_the_wire(
        method in token(),
        path in "/[!-\"$->@-~]{0,30}(\\?[!-\"$-~]{0,20})?",
        fields in fields(),
        (length, chunks) in bodies(),
    ) {
        // These have targets or bodies of their own.
        prop_assume!(!["CONNECT", "TRACE", "OPTIONS"].contains(&&*method));
        let mut head = RequestHead::new(Method::from_bytes(method.as_bytes()).unwrap(), path);
        head.headers.append("Host", "shop:80").unwrap();
        for (name, value) in &fields {
            head.headers.append(name, value).unwrap();
        }
        let mut out = Vec::new();
        let encoder = encode_request_head(&head, length, &mut out).unwrap();
        put_body(encoder, &chunks, &mut out);

        let mut items = good_request(&out).into_iter();
        let Some(RequestItem::Head(mut found, found_length)) = items.next() else { panic!() };
        prop_assert_eq!(found_length, length);
        found.headers.remove("content-length");
        found.headers.remove("transfer-encoding");
        prop_assert_eq!(*found, head);
        let body = chunks.concat();
        if !body.is_empty() {
            prop_assert_eq!(items.next(), Some(RequestItem::Data(Bytes::from(body))));
        }
        prop_assert_eq!(items.next(), Some(RequestItem::End(None)));
        prop_assert_eq!(items.next(), None);
    }

    #[test]
    fn responses_survive_the_wire(
        status in 200..=999u16,
        fields in fields(),
        (length, chunks) in bodies(),
    ) {
        prop_assume!(![204, 304].contains(&status));
        let mut head = ResponseHead::new(status);
        for (name, value) in &fields {
            head.headers.append(name, value).unwrap();
        }
        let mut out = Vec::new();
        let encoder = encode_response_head(&head, length, reply(Method::Get, Version::Http11, true), &mut out).unwrap();
        put_body(encoder, &chunks, &mut out);

        let mut items = good_response(Method::Get, &out).into_iter();
        let Some(ResponseItem::Head(mut found, found_length)) = items.next() else { panic!() };
        prop_assert_eq!(found_length, length);
        found.headers.remove("content-length");
        found.headers.remove("transfer-encoding");
        prop_assert_eq!(*found, head);
        let body = chunks.concat();
        if !body.is_empty() {
            prop_assert_eq!(items.next(), Some(ResponseItem::Data(Bytes::from(body))));
        }
        prop_assert_eq!(items.next(), Some(ResponseItem::End(None)));
        prop_assert_eq!(items.next(), None);
    }
}
