//! Requests, read three ways: what is accepted, what is refused, and what lies between requests.

use super::*;
use crate::testing::{bad_request, good_head, good_request, requests, requests_within};
use crate::{Method, Version};

fn data(bytes: &'static [u8]) -> RequestItem {
    RequestItem::Data(Bytes::from_static(bytes))
}

/// Shapes of a conversation without the heads, which other tests look at.
fn outline(items: &[RequestItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| match item {
            RequestItem::Head(head, length) => {
                let target = String::from_utf8_lossy(&head.target);
                format!("{} {target} {length:?}", head.method)
            }
            RequestItem::Data(data) => format!("data {}", data.escape_ascii()),
            RequestItem::End(None) => "end".into(),
            RequestItem::End(Some(trailers)) => format!("end {trailers:?}"),
        })
        .collect()
}

#[test]
fn a_get_is_head_and_end() {
    let items = good_request(b"GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-Thing:  a b \t\r\nempty:\r\n\r\n");
    let [RequestItem::Head(head, BodyLength::None), RequestItem::End(None)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target, b"/a?b=c");
    assert_eq!(head.version, Version::Http11);
    let headers: Vec<_> = head.headers.iter().collect();
    assert_eq!(headers, [(&b"Host"[..], &b"shop"[..]), (b"X-Thing", b"a b"), (b"empty", b"")]);
}

#[test]
fn bodies_are_framed_by_length_or_chunks() {
    let cases: [(&[u8], &[&str]); 8] = [
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            &["POST / Length(5)", "data hello", "end"],
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &["POST / Length(0)", "end"]),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi",
            &["GET / Length(2)", "data hi", "end"],
        ),
        (b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", &["POST / Length(2)", "data hi", "end"]),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &["POST / Chunked", "data hello", "end"],
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tCHUNKED \r\n\r\n0\r\n\r\n",
            &["POST / Chunked", "end"],
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
           2;x=\"y\"\r\nhe\r\n00003\r\nllo\r\n0;z\r\nX-Sum: 9\r\n\r\n",
            &["PUT / Chunked", "data hello", "end {\"X-Sum\": \"9\"}"],
        ),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n", &["CONNECT a:1 None", "end"]),
    ];
    for (bytes, expected) in cases {
        assert_eq!(outline(&good_request(bytes)), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn pipelined_requests_come_one_after_the_other() {
    let items = good_request(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none\
          \r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
          POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
          GET /4 HTTP/1.0\r\n\r\n",
    );
    assert_eq!(
        outline(&items),
        [
            "POST /1 Length(3)",
            "data one",
            "end",
            "GET /2 None",
            "end",
            "POST /3 Chunked",
            "data x",
            "end",
            "GET /4 None",
            "end",
        ]
    );
}

#[test]
fn a_pipelined_request_waits_in_the_buffer_until_asked_for() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let second = b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    decoder.push([&first[..], second].concat().into());
    assert!(matches!(decoder.next(), Ok(Some(RequestItem::Head(..)))));
    assert_eq!(decoder.next(), Ok(Some(RequestItem::End(None))));
    assert_eq!(decoder.buffered(), second.len());
    assert!(!decoder.is_idle());
    assert!(matches!(decoder.next(), Ok(Some(RequestItem::Head(head, _))) if head.target == b"/2"));
    assert!(!decoder.is_idle(), "in a message, though nothing is buffered");
    assert_eq!(decoder.next(), Ok(Some(RequestItem::End(None))));
    assert!(decoder.is_idle());
}

#[test]
fn nothing_is_read_after_the_last_request_of_a_connection() {
    for last in [&b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..], b"GET / HTTP/1.0\r\n\r\n"] {
        let (items, error) = requests(&[last, b"GARBAGE\0\n"].concat());
        assert_eq!(outline(&items), ["GET / None", "end"]);
        assert_eq!(error, None);
    }
    let mut decoder = RequestDecoder::new(Limits::default());
    decoder.push(Bytes::from_static(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    while decoder.next().unwrap().is_some() {}
    assert!(!decoder.is_closed() && decoder.is_idle());
    decoder.push(Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n"));
    while decoder.next().unwrap().is_some() {}
    assert!(decoder.is_closed() && !decoder.is_idle());
}

#[test]
fn one_empty_line_may_stand_before_each_request() {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let items = good_request(&[b"\r\n", &get[..], b"\r\n", get].concat());
    assert_eq!(outline(&items), ["GET / None", "end", "GET / None", "end"]);
    assert_eq!(good_request(b"\r\n"), []);
    for bad in [&b"\r\n\r\n"[..], b"\n", b"\r\r\n", b"\rG", b" ", b"\t\r\n"] {
        assert_eq!(bad_request(&[bad, get].concat()).status(), 400, "{}", bad.escape_ascii());
    }
}

#[test]
fn what_is_ambiguous_is_refused() {
    // Status, metric label, bytes after the first line and Host.
    let cases: [(u16, &str, &[u8]); 40] = [
        (400, "conflicting_framing", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "conflicting_framing", b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
        (400, "conflicting_framing", b"Transfer-Encoding: x\r\nContent-Length: x\r\n\r\n"),
        (400, "content_length", b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: 3, 3\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: +3\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: -1\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: 0x3\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: 3 \t3\r\n\r\nabc"),
        (400, "content_length", b"Content-Length:\r\n\r\nabc"),
        (400, "content_length", b"Content-Length: 18446744073709551616\r\n\r\n"),
        (501, "transfer_encoding", b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        (501, "transfer_encoding", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: chunked, gzip\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: gzip\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: identity\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: chunked;q=1\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: \"chunked\"\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: xchunked\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding: ,chunked\r\n\r\n"),
        (400, "transfer_encoding", b"Transfer-Encoding:\r\n\r\n"),
        (400, "line_end", b"Transfer-Encoding: chunked\n\r\n"),
        (400, "line_end", b"A: b\rTransfer-Encoding: chunked\r\n\r\n"),
        (400, "line_end", b"A: b\r\r\n\r\n"),
        (400, "line_end", b"A: b\n\n"),
        (400, "line_end", b"A\r: b\r\n\r\n"),
        (400, "header_name", b"Transfer-Encoding : chunked\r\n\r\n"),
        (400, "header_name", b"Transfer-Encoding\t: chunked\r\n\r\n"),
        (400, "header_name", b"Transfer\x0b-Encoding: chunked\r\n\r\n"),
        (400, "header_name", b": empty\r\n\r\n"),
        (400, "header_name", b"no colon\r\n\r\n"),
        (400, "header_name", b"nocolon\r\n\r\n"),
        (400, "header_name", b"caf\xc3\xa9: x\r\n\r\n"),
        (400, "header_fold", b"A: b\r\n c\r\n\r\n"),
        (400, "header_fold", b"A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n"),
        (400, "header_value", b"A: \x0bchunked\r\n\r\n"),
        (400, "header_value", b"A: a\0b\r\n\r\n"),
    ];
    for (status, label, bytes) in cases {
        let error = bad_request(&[b"POST / HTTP/1.1\r\nHost: a\r\n", bytes].concat());
        assert_eq!(
            (error.status(), error.metric_label()),
            (status, label),
            "{error}: {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn first_lines_are_refused_unless_they_are_exactly_right() {
    let cases: [(u16, &str, &[u8]); 36] = [
        (505, "version", b"GET /\r\n"),
        (505, "version", b"GET / HTTP/2.0\r\n"),
        (505, "version", b"GET / HTTP/1.2\r\n"),
        (505, "version", b"GET / HTTP/0.9\r\n"),
        (505, "version", b"GET / HTTP/3\r\n"),
        (505, "version", b"PRI * HTTP/2.0\r\n"),
        (400, "request_line", b"GET / http/1.1\r\n"),
        (400, "request_line", b"GET / HTTP/1.1 \r\n"),
        (400, "request_line", b"GET / HTTP/1.1\r\r\n"),
        (400, "request_line", b"GET  / HTTP/1.1\r\n"),
        (400, "request_line", b"GET /  HTTP/1.1\r\n"),
        (400, "request_line", b"GET /a b HTTP/1.1\r\n"),
        (400, "request_line", b"GET / HTTP/x\r\n"),
        (400, "request_line", b"GET / HTTP/\r\n"),
        (400, "request_line", b"GET \r\n"),
        (400, "method", b"GET\t/ HTTP/1.1\r\n"),
        (400, "method", b"GE(T / HTTP/1.1\r\n"),
        (400, "method", b"GET: / HTTP/1.1\r\n"),
        (501, "method", b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n"),
        (400, "target", b"GET /a#b HTTP/1.1\r\n"),
        (400, "target", b"GET /\xc3\xa9 HTTP/1.1\r\n"),
        (400, "target", b"GET /\x01 HTTP/1.1\r\n"),
        (400, "target", b"GET /\x7f HTTP/1.1\r\n"),
        (400, "target", b"GET /a\tb HTTP/1.1\r\n"),
        (400, "target", b"GET a HTTP/1.1\r\n"),
        (400, "target", b"GET a:80 HTTP/1.1\r\n"),
        (400, "target", b"GET * HTTP/1.1\r\n"),
        (400, "target", b"GET ?a HTTP/1.1\r\n"),
        (400, "target", b"GET ftp://a/ HTTP/1.1\r\n"),
        (400, "target", b"GET http:///a HTTP/1.1\r\n"),
        (400, "target", b"GET http://u@a/ HTTP/1.1\r\n"),
        (400, "target", b"CONNECT / HTTP/1.1\r\n"),
        (400, "target", b"CONNECT a HTTP/1.1\r\n"),
        (400, "target", b"CONNECT a:0 HTTP/1.1\r\n"),
        (400, "target", b"CONNECT http://a:1/ HTTP/1.1\r\n"),
        (400, "target", b"OPTIONS ** HTTP/1.1\r\n"),
    ];
    for (status, label, line) in cases {
        for rest in [&b""[..], b"Host: a\r\n\r\n"] {
            let error = bad_request(&[line, rest].concat());
            let found = (error.status(), error.metric_label());
            assert_eq!(found, (status, label), "{error}: {}", line.escape_ascii());
        }
    }
}

#[test]
fn hosts_are_checked() {
    for bad in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
        b"GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:2\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: b\r\n\r\n",
    ] {
        let error = bad_request(bad);
        let found = (error.status(), error.metric_label());
        assert_eq!(found, (400, "host"), "{error}: {}", bad.escape_ascii());
    }
    for good in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: A:80\r\n\r\n",
        b"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        good_head(good);
    }
}

#[test]
fn chunks_are_refused_unless_they_are_exactly_right() {
    let cases: [(&str, &[u8]); 27] = [
        ("chunk", b"\r\n"),
        ("chunk", b"g\r\n"),
        ("chunk", b"+1\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"-1\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"0x1\r\nx\r\n0\r\n\r\n"),
        ("chunk", b" 1\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"1 \r\nx\r\n0\r\n\r\n"),
        ("chunk", b"1 ;a\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"1\t\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"10000000000000000\r\n"),
        ("chunk", b"00000000000000001\r\nx\r\n0\r\n\r\n"),
        ("chunk", b";a\r\n"),
        ("chunk", b"1;a\0\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"1;a\rb\r\nx\r\n0\r\n\r\n"),
        ("chunk", b"1\rx\r\n0\r\n\r\n"),
        ("chunk", b"1\r\nxy\r\n0\r\n\r\n"),
        ("chunk", b"1\r\nx0\r\n\r\n"),
        ("chunk", b"1\r\nx\n0\r\n\r\n"),
        ("chunk", b"1\r\nx\rx\r\n\r\n"),
        ("line_end", b"1\nx\r\n0\r\n\r\n"),
        ("line_end", b"1;a\nx\r\n0\r\n\r\n"),
        ("line_end", b"0\r\n\n"),
        ("line_end", b"0\r\nA: b\n\r\n"),
        ("header_fold", b"0\r\n A: b\r\n\r\n"),
        ("header_name", b"0\r\nA : b\r\n\r\n"),
        ("trailer", b"0\r\nContent-Length: 1\r\n\r\n"),
        ("trailer", b"0\r\nX: y\r\ntransfer-encoding: chunked\r\n\r\n"),
    ];
    for (label, bytes) in cases {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let error = bad_request(&[&head[..], bytes].concat());
        let found = (error.status(), error.metric_label());
        assert_eq!(found, (400, label), "{error}: {}", bytes.escape_ascii());
    }
}

#[test]
fn bodies_and_codings_are_refused_where_there_can_be_none() {
    for bad in [
        &b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"[..],
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(bad_request(bad).metric_label(), "unexpected_body");
    }
    let error = bad_request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(error, HttpError::TransferEncodingInHttp10);
}

#[test]
fn a_connection_that_ends_inside_a_message_is_an_error_at_every_byte() {
    let whole = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3;e\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for end in 0..whole.len() {
        let (_, error) = requests(&whole[..end]);
        match end {
            // Nothing, or only the empty line: no request has begun.
            0 | 2 => assert_eq!(error, None, "{end}"),
            _ => assert!(matches!(error, Some(HttpError::Truncated { .. })), "{end}: {error:?}"),
        }
    }
    good_request(whole);
    let error = bad_request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcd");
    assert!(matches!(error, HttpError::Truncated { part: "a body of known length" }));
}

#[test]
fn requests_buffered_before_the_end_are_still_read() {
    let mut decoder = RequestDecoder::new(Limits::default());
    decoder.push(Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT"));
    decoder.finish();
    assert!(matches!(decoder.next(), Ok(Some(RequestItem::Head(..)))));
    assert_eq!(decoder.next(), Ok(Some(RequestItem::End(None))));
    assert_eq!(decoder.next(), Err(HttpError::Truncated { part: "a request head" }));
}

#[test]
fn each_limit_holds_to_the_byte() {
    let limits = Limits {
        head_bytes_max: 200,
        headers_max: 3,
        target_bytes_max: 60,
        trailer_bytes_max: 20,
        chunk_line_bytes_max: 12,
        chunk_extension_bytes_max: 15,
        interim_max: 1,
    };
    let label =
        |bytes: &[u8]| requests_within(limits, bytes).1.map(|error| (error.status(), error.metric_label()));
    let head = |filler: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(filler));
    let fits = 200 - head(0).len();
    assert_eq!(label(head(fits).as_bytes()), None);
    assert_eq!(label(head(fits + 1).as_bytes()), Some((431, "head_too_large")));

    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    assert_eq!(label(target(60).as_bytes()), None);
    assert_eq!(label(target(61).as_bytes()), Some((414, "target_too_long")));
    // Without an end in sight it is refused as well, before the head is full.
    assert_eq!(label(format!("GET /{}", "x".repeat(150)).as_bytes()), Some((414, "target_too_long")));

    let headers = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(count - 1));
    assert_eq!(label(headers(3).as_bytes()), None);
    assert_eq!(label(headers(4).as_bytes()), Some((431, "too_many_headers")));

    let chunked =
        |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    assert_eq!(label(chunked("1;34567890\r\nx\r\n0\r\n\r\n").as_bytes()), None);
    assert_eq!(label(chunked("1;345678901\r\nx\r\n0\r\n\r\n").as_bytes()), Some((400, "chunk")));
    assert_eq!(
        label(chunked("1;34567\r\nx\r\n1;345678\r\nx\r\n0;ab\r\n\r\n").as_bytes()),
        Some((400, "chunk"))
    );
    assert_eq!(label(chunked("1;34567\r\nx\r\n1;345678\r\nx\r\n0;a\r\n\r\n").as_bytes()), None);
    assert_eq!(label(chunked("0\r\nA: 45678901234567\r\n\r\n").as_bytes()), Some((431, "trailer")));
    assert_eq!(label(chunked("0\r\nA: 4567890123456\r\n\r\n").as_bytes()), None);
}

#[test]
fn a_bad_first_line_explains_a_bad_rest() {
    // The error must not depend on how the bytes were cut: `bad_request` compares.
    let error = bad_request(b"GET / HTTP/3\r\nHost: a\n\r\n");
    assert_eq!(error.metric_label(), "version");
    let long = format!("GET /{} HTTP/1.1\r\n{}", "x".repeat(20_000), "a: b\r\n".repeat(9_000));
    assert_eq!(bad_request(long.as_bytes()), HttpError::TargetTooLong { limit: 16 * 1024 });
}

#[test]
fn garbage_is_refused_at_its_first_byte_or_line() {
    for (bytes, label) in [
        (&b"\x16\x03\x01"[..], "request_line"),
        (b" GET", "request_line"),
        (b"hello world\r\n", "version"),
        (b"SSH-2.0-client\r\n", "request_line"),
    ] {
        let mut decoder = RequestDecoder::new(Limits::default());
        decoder.push(Bytes::copy_from_slice(bytes));
        // The connection is still open: no wait for a timeout.
        assert_eq!(decoder.next().unwrap_err().metric_label(), label, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_tunnel_gives_every_byte_after_the_head() {
    let connect = b"CONNECT a:1 HTTP/1.0\r\n\r\n";
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for head in [&connect[..], upgrade] {
        let mut decoder = RequestDecoder::new(Limits::default());
        decoder.push([head, b"\r\n\0first"].concat().into());
        assert!(matches!(decoder.next(), Ok(Some(RequestItem::Head(_, BodyLength::None)))));
        assert!(decoder.switch_to_tunnel().is_err(), "the request has not ended");
        assert_eq!(decoder.next(), Ok(Some(RequestItem::End(None))));
        decoder.switch_to_tunnel().unwrap();
        assert_eq!(decoder.next(), Ok(Some(data(b"\r\n\0first"))));
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(Bytes::from_static(b"one"));
        decoder.push(Bytes::from_static(b"two"));
        assert_eq!(decoder.buffered(), 6);
        assert_eq!(&decoder.take_rest()[..], b"onetwo");
        assert_eq!(decoder.buffered(), 0);
        decoder.finish();
        assert_eq!(decoder.next(), Ok(None), "a tunnel may end anywhere");
    }
}

#[test]
fn a_refused_connect_is_followed_by_the_next_request() {
    let items = good_request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(outline(&items), ["CONNECT a:1 None", "end", "GET / None", "end"]);
}

#[test]
fn body_data_is_a_slice_of_what_was_pushed() {
    let bytes = Bytes::from_static(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let body_at = bytes.slice(bytes.len() - 5..).as_ptr();
    let mut decoder = RequestDecoder::new(Limits::default());
    decoder.push(bytes);
    decoder.next().unwrap();
    let Ok(Some(RequestItem::Data(data))) = decoder.next() else { panic!("expected data") };
    assert_eq!(data.as_ptr(), body_at);
}

#[test]
fn an_idle_decoder_is_small_and_owns_no_heap() {
    assert!(size_of::<RequestDecoder>() <= 200, "{} bytes", size_of::<RequestDecoder>());
    let mut decoder = RequestDecoder::new(Limits::default());
    let request = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for byte in request {
        decoder.push(Bytes::copy_from_slice(&[*byte]));
    }
    while decoder.next().unwrap().is_some() {}
    assert!(decoder.is_idle());
    assert!(decoder.input.owns_no_heap());
}
