//! Responses, read three ways: framing by request, interim responses, tunnels, refusals.

use super::*;
use crate::testing::{bad_response, good_response, read_responses, responses, three_ways};

fn outline(items: &[ResponseItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| match item {
            ResponseItem::Interim(head) => format!("interim {}", head.status),
            ResponseItem::Head(head, length) => format!("{} {length:?}", head.status),
            ResponseItem::Data(data) => format!("data {}", data.escape_ascii()),
            ResponseItem::End(None) => "end".into(),
            ResponseItem::End(Some(trailers)) => format!("end {trailers:?}"),
        })
        .collect()
}

#[test]
fn a_response_is_head_data_end() {
    let items =
        good_response(Method::Get, b"HTTP/1.1 404 Not Here\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc");
    let [ResponseItem::Head(head, BodyLength::Length(3)), ResponseItem::Data(data), ResponseItem::End(None)] =
        &items[..]
    else {
        panic!("{items:?}");
    };
    assert_eq!(head.status, 404);
    assert_eq!(head.reason, &b"Not Here"[..]);
    assert_eq!(head.headers.get("server"), Some(&b"x"[..]));
    assert_eq!(&data[..], b"abc");
}

#[test]
fn the_request_decides_with_the_response_where_the_body_ends() {
    let cases: [(Method, &[u8], &[&str]); 18] = [
        (
            Method::Get,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            &["200 Length(2)", "data hi", "end"],
        ),
        (Method::Get, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &["200 Length(0)", "end"]),
        (Method::Get, b"HTTP/1.1 200 OK\r\n\r\nto the end", &["200 UntilClose", "data to the end", "end"]),
        (Method::Get, b"HTTP/1.1 200 OK\r\n\r\n", &["200 UntilClose", "end"]),
        (
            Method::Get,
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nx",
            &["200 UntilClose", "data x", "end"],
        ),
        (
            Method::Get,
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
            &["200 Chunked", "data x", "end {\"A\": \"b\"}"],
        ),
        (Method::Get, b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", &["999 Length(0)", "end"]),
        (Method::Head, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &["200 None", "end"]),
        (Method::Head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &["200 None", "end"]),
        (Method::Head, b"HTTP/1.1 404 Not Found\r\n\r\n", &["404 None", "end"]),
        (Method::Get, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", &["304 None", "end"]),
        (Method::Get, b"HTTP/1.1 204 No Content\r\n\r\n", &["204 None", "end"]),
        (Method::Get, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", &["204 None", "end"]),
        (
            Method::Get,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &["interim 100", "interim 103", "200 Length(0)", "end"],
        ),
        (Method::Connect, b"HTTP/1.1 200 OK\r\n\r\n\0tunnel", &["200 None", "end", "data \\x00tunnel"]),
        (
            Method::Connect,
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nxy",
            &["200 None", "end", "data xy"],
        ),
        (
            Method::Connect,
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            &["403 Length(2)", "data no", "end"],
        ),
        (Method::Post, b"HTTP/1.1 500 Oops: caf\xe9\r\nContent-Length: 0\r\n\r\n", &["500 Length(0)", "end"]),
    ];
    for (method, bytes, expected) in cases {
        assert_eq!(outline(&good_response(method, bytes)), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn pipelined_responses_are_framed_each_by_its_own_request() {
    let (items, error) = responses(
        &[Method::Head, Method::Get, Method::Get],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
          HTTP/1.1 204 No Content\r\n\r\n",
    );
    assert_eq!(error, None);
    assert_eq!(outline(&items), ["200 None", "end", "200 Length(5)", "data hello", "end", "204 None", "end"]);
}

#[test]
fn what_is_ambiguous_is_refused() {
    let cases: [(&str, &[u8]); 33] = [
        (
            "conflicting_framing",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "conflicting_framing",
            b"HTTP/1.1 204 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "conflicting_framing",
            b"HTTP/1.1 304 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("content_length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        ("content_length", b"HTTP/1.1 200 OK\r\nContent-Length: 3,3\r\n\r\nabc"),
        ("content_length", b"HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n"),
        ("transfer_encoding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("transfer_encoding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ("transfer_encoding", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("unexpected_body", b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"),
        ("unexpected_body", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("unexpected_body", b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc"),
        ("unexpected_body", b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("unexpected_upgrade", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        ("unsolicited", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("unsolicited", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"),
        ("version", b"HTTP/2.0 200 OK\r\n\r\n"),
        ("version", b"HTTP/0.9 200 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1 +20 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1  200 OK\r\n\r\n"),
        ("status_line", b"HTTP/1.1\r\n\r\n"),
        ("status_line", b"HTTP/1.1 200\tOK\r\n\r\n"),
        ("status_line", b"HTTP/1.1 200 O\x01K\r\n\r\n"),
        ("status_line", b"http/1.1 200 OK\r\n\r\n"),
        ("status_line", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("status_line", b"ICY 200 OK\r\n\r\n"),
        ("line_end", b"HTTP/1.1 200 O\rK\r\n\r\n"),
        ("line_end", b"HTTP/1.1 200 OK\n\n"),
        ("header_fold", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        ("trailer", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n"),
    ];
    for (label, bytes) in cases {
        let error = bad_response(Method::Get, bytes);
        assert_eq!(error.metric_label(), label, "{error}: {}", bytes.escape_ascii());
    }
}

#[test]
fn every_error_is_the_upstreams_fault() {
    let (_, error) = responses(&[Method::Get], b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n");
    let error = error.unwrap();
    assert_eq!(error.status(), 502);
    assert_eq!(
        error.to_string(),
        "upstream response is invalid: content-length \"x\" is not a decimal number of bytes"
    );
}

#[test]
fn a_response_cut_off_anywhere_is_an_error() {
    let whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n";
    for end in 0..whole.len() {
        let (_, error) = responses(&[Method::Get], &whole[..end]);
        let Some(HttpError::BadResponse(error)) = error else { panic!("accepted up to {end}") };
        assert!(matches!(*error, HttpError::Truncated { .. }), "{end}: {error}");
    }
    good_response(Method::Get, whole);
    let (_, error) = responses(&[Method::Get], b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc");
    assert_eq!(error.unwrap().metric_label(), "truncated");
}

#[test]
fn a_server_that_closes_while_nothing_is_owed_is_no_error() {
    assert_eq!(responses(&[], b""), (vec![], None));
}

#[test]
fn an_upgrade_that_was_asked_for_makes_a_tunnel() {
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ws\r\n\r\n\x81\x00HTTP/1.1 200";
    let (items, error) = three_ways(bytes, |pieces| {
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect_upgrade(&Method::Get);
        read_responses(decoder, pieces)
    });
    assert_eq!(error, None);
    assert_eq!(outline(&items), ["101 None", "end", "data \\x81\\x00HTTP/1.1 200"]);
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_response() {
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect_upgrade(&Method::Get);
    let (items, error) =
        read_responses(decoder, &[b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 1\r\n\r\nx"]);
    assert_eq!((outline(&items), error), (vec!["426 Length(1)".into(), "data x".into(), "end".into()], None));
}

#[test]
fn the_rest_of_a_tunnel_can_be_taken_at_once() {
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect(&Method::Connect);
    decoder.push(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\none"));
    decoder.push(Bytes::from_static(b"two"));
    assert!(matches!(decoder.next(), Ok(Some(ResponseItem::Head(..)))));
    assert!(!decoder.is_tunnel());
    assert_eq!(decoder.next(), Ok(Some(ResponseItem::End(None))));
    assert!(decoder.is_tunnel() && !decoder.is_idle());
    assert_eq!(&decoder.take_rest()[..], b"onetwo");
}

#[test]
fn a_connection_is_idle_only_when_nothing_is_owed_and_nothing_came() {
    let mut decoder = ResponseDecoder::new(Limits::default());
    assert!(decoder.is_idle());
    decoder.expect(&Method::Get);
    assert!(!decoder.is_idle());
    assert_eq!(decoder.outstanding(), 1);
    decoder.push(Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    decoder.next().unwrap();
    assert_eq!(decoder.outstanding(), 0);
    assert!(!decoder.is_idle(), "the end has not been read");
    assert_eq!(decoder.next(), Ok(Some(ResponseItem::End(None))));
    assert!(decoder.is_idle());
    decoder.push(Bytes::from_static(b"H"));
    assert!(!decoder.is_idle());
    assert_eq!(decoder.buffered(), 1);
    assert_eq!(decoder.next().unwrap_err().metric_label(), "unsolicited");
    assert!(!decoder.is_idle());
}

#[test]
fn a_connection_that_the_server_ends_is_closed() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(&Method::Get);
        decoder.push(Bytes::copy_from_slice(bytes));
        while decoder.next().unwrap().is_some() {}
        assert!(decoder.is_closed() && !decoder.is_idle(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn interim_responses_have_a_limit() {
    let read = |count: usize| {
        let bytes = [
            b"HTTP/1.1 102 Processing\r\n\r\n".repeat(count),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ]
        .concat();
        responses(&[Method::Get], &bytes).1
    };
    assert_eq!(read(16), None);
    assert_eq!(read(17).unwrap().metric_label(), "too_many_interim");
}

#[test]
fn interim_responses_are_counted_per_request() {
    let one = [
        b"HTTP/1.1 102 Processing\r\n\r\n".repeat(16),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ]
    .concat();
    let (items, error) = responses(&[Method::Get, Method::Get], &one.repeat(2));
    assert_eq!((items.len(), error), (36, None));
}

#[test]
fn a_peer_that_does_not_speak_http_is_refused_at_once() {
    for bytes in [&b"SSH-2.0"[..], b"\x15\x03\x03", b"HTTP/2", b"<html>", b"220 mail.example\r\n", b"h"] {
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(&Method::Get);
        decoder.push(Bytes::copy_from_slice(bytes));
        assert_eq!(decoder.next().unwrap_err().status(), 502, "{}", bytes.escape_ascii());
    }
}

#[test]
fn limits_hold_for_responses_too() {
    let long = [b"HTTP/1.1 200 OK\r\nA: ", &b"x".repeat(65_536)[..], b"\r\n\r\n"].concat();
    assert_eq!(bad_response(Method::Get, &long).metric_label(), "head_too_large");
    let many = [b"HTTP/1.1 200 OK\r\n", &b"A: b\r\n".repeat(129)[..], b"\r\n"].concat();
    assert_eq!(bad_response(Method::Get, &many).metric_label(), "too_many_headers");
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<ResponseDecoder>() <= 240, "{} bytes", size_of::<ResponseDecoder>());
    let mut decoder = ResponseDecoder::new(Limits::default());
    decoder.expect(&Method::Get);
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" {
        decoder.push(Bytes::copy_from_slice(&[*byte]));
    }
    while decoder.next().unwrap().is_some() {}
    assert!(decoder.is_idle() && decoder.input.owns_no_heap() && !decoder.expected.spilled());
}
