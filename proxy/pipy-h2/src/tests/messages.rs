//! What a message may be (RFC 9113 §8), in tables: header by header, request and response.

use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead, Version};

use super::peer::*;
use crate::ErrorCode as C;
use crate::{Config, Event, ResetCause, Role, Scheme, StreamError};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// What becomes of one request with these fields: its head, or the word for what is wrong.
fn read(
    ends: bool,
    fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
) -> Result<(RequestHead, BodyLength), &'static str> {
    let mut hand = Hand::server();
    hand.good(&headers(1, ends, fields));
    match &hand.events()[..] {
        [Event::Request { head, body, .. }, ..] => Ok((RequestHead::clone(head), *body)),
        [Event::Refused { error, .. }] => {
            assert_eq!(hand.reset(), Some((1, C::PROTOCOL_ERROR)), "{error}");
            assert_eq!(hand.connection.streams(), 0);
            Err(error.metric_label())
        }
        other => panic!("{other:?}"),
    }
}

/// GET / with other fields after its own.
fn with<'a>(more: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    [GET, more].concat()
}

/// A request of these pseudo-headers, `-` standing for one that is missing.
fn pseudo<'a>(
    method: &'a str,
    scheme: &'a str,
    path: &'a str,
    authority: &'a str,
) -> Vec<(&'a str, &'a str)> {
    [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
        .into_iter()
        .filter(|(_, value)| *value != "-")
        .collect()
}

#[test]
fn a_request_becomes_the_head_that_http_1_would_have() {
    let fields =
        with(&[("accept", "*/*"), ("x-a", ""), ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")]);
    let (head, body) = read(true, &fields).unwrap();
    let mut expected = RequestHead::new(Method::Get, "/");
    (expected.version, expected.scheme) = (Version::Http2, Some(Scheme::Http));
    for (name, value) in
        [("host", "shop"), ("accept", "*/*"), ("x-a", ""), ("te", "trailers"), ("cookie", "a=1; b=2")]
    {
        expected.headers.append(name, value).unwrap();
    }
    assert_eq!((head, body), (expected, BodyLength::None));
}

#[test]
fn lengths_are_those_of_the_frame_and_the_field() {
    let length =
        |ends, value| read(ends, &[POST, &[("content-length", value)]].concat()).map(|(_, body)| body);
    assert_eq!(read(false, POST).unwrap().1, BodyLength::Chunked);
    assert_eq!(read(true, POST).unwrap().1, BodyLength::None);
    assert_eq!(length(false, "5"), Ok(BodyLength::Length(5)));
    assert_eq!(length(false, "0"), Ok(BodyLength::Length(0)));
    assert_eq!(length(true, "0"), Ok(BodyLength::Length(0)));
    for bad in ["", "+1", "-1", "0x1", "1,1", "1 1", "18446744073709551616", "a"] {
        assert_eq!(length(false, bad), Err("content_length"), "{bad}");
    }
    assert_eq!(length(true, "5"), Err("content_length"));
    let twice = [POST, &[("content-length", "5"), ("content-length", "5")]].concat();
    assert_eq!(read(false, &twice), Err("content_length"));
}

#[test]
fn section_8_2_1_names_and_values() {
    for name in ["Accept", "aCcept", "x-Ä", "a b", "a:b", "", "a\r\nb", "a\0", "x\u{e9}", "(a)"] {
        assert_eq!(read(true, &with(&[(name, "v")])), Err("header_name"), "{name:?}");
    }
    for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\x7f", "\x1b[0m"] {
        assert_eq!(read(true, &with(&[("x", value)])), Err("header_value"), "{value:?}");
    }
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert_eq!(read(true, &with(&[("x", value)])), Err("header_value"), "{value:?}");
    }
    for value in ["", "a b\tc", "caf\u{e9}"] {
        assert!(read(true, &with(&[("x", value)])).is_ok(), "{value:?}");
    }
    // Bytes that are no text pass: they are opaque (RFC 9110 §5.5).
    let opaque: Vec<(Vec<u8>, Vec<u8>)> = GET
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .chain([(b"x".to_vec(), vec![0xff, 0xfe])])
        .collect();
    assert_eq!(read(true, &opaque).unwrap().0.headers.get("x"), Some(&[0xff, 0xfe][..]));
}

#[test]
fn section_8_2_2_nothing_of_a_http_1_connection() {
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("te", "trailers;q=0.5"),
        ("te", ""),
    ] {
        assert_eq!(read(true, &with(&[(name, value)])), Err("connection_header"), "{name}: {value}");
    }
    assert!(read(true, &with(&[("te", "Trailers")])).is_ok());
}

#[test]
fn section_8_3_pseudo_headers_are_first_once_known_and_complete() {
    let bad: &[(&str, Vec<(&str, &str)>)] = &[
        ("after a field", [&[("accept", "*/*")], GET].concat()),
        ("the last after a field", [&GET[..3], &[("a", "b")], &GET[3..]].concat()),
        ("twice a method", with(&[(":method", "GET")])),
        ("twice a path", with(&[(":path", "/")])),
        ("twice a scheme", with(&[(":scheme", "http")])),
        ("twice an authority", with(&[(":authority", "shop")])),
        ("unknown", with(&[(":version", "2")])),
        ("empty name", with(&[(":", "")])),
        ("upper case", with(&[(":Method", "GET")])),
        ("of responses", with(&[(":status", "200")])),
        ("extended connect, which is off", [&[(":protocol", "websocket")], GET].concat()),
        ("no method", pseudo("-", "http", "/", "shop")),
        ("no scheme", pseudo("GET", "-", "/", "shop")),
        ("no path", pseudo("GET", "http", "-", "shop")),
        ("none at all", vec![("accept", "*/*")]),
        ("another scheme", pseudo("GET", "ftp", "/", "shop")),
        ("empty scheme", pseudo("GET", "", "/", "shop")),
        ("a blank around", pseudo("GET", "http", "/", " shop")),
        ("connect with a path", pseudo("CONNECT", "-", "/", "shop:80")),
        ("connect with a scheme", pseudo("CONNECT", "http", "-", "shop:80")),
        ("connect without an authority", pseudo("CONNECT", "-", "-", "-")),
    ];
    for (name, fields) in bad {
        assert_eq!(read(true, fields), Err("pseudo_header"), "{name}");
    }
}

#[test]
fn section_8_3_1_paths_and_methods() {
    for path in
        ["", "index", "*", "http://shop/", "?a", "/a b", "/a\tb", "/a\r\nHost: x", "/a#b", "/\u{e9}", "/\x7f"]
    {
        assert_eq!(read(true, &pseudo("GET", "http", path, "shop")), Err("pseudo_header"), "{path:?}");
    }
    for path in ["/", "/a/../b?c=d", "//a", "/%2e", "/a|b^\"<>"] {
        let (head, _) = read(true, &pseudo("GET", "https", path, "shop")).unwrap();
        assert_eq!(head.target, path.as_bytes());
    }
    assert_eq!(read(true, &pseudo("OPTIONS", "http", "*", "shop")).unwrap().0.path(), b"*");
    for method in ["", "GE T", "GET\r\n", "G(T", "G\u{e9}T"] {
        assert_eq!(read(true, &pseudo(method, "http", "/", "shop")), Err("method"), "{method:?}");
    }
    assert_eq!(read(true, &pseudo("PROPFIND", "http", "/", "shop")).unwrap().0.method.as_str(), "PROPFIND");
    assert_eq!(read(false, &pseudo("TRACE", "http", "/", "shop")), Err("unexpected_body"));
    let long = format!("/{}", "a".repeat(16 * 1024));
    assert_eq!(read(true, &pseudo("GET", "http", &long, "shop")), Err("target_too_long"));
}

#[test]
fn section_8_3_1_authority_and_host_are_one() {
    let read = |scheme: &'static str, authority, host: Option<&'static str>| {
        let mut fields = pseudo("GET", scheme, "/", authority);
        fields.extend(host.map(|host| ("host", host)));
        read(true, &fields).map(|(head, _)| {
            head.headers.get_all("host").map(|host| host.escape_ascii().to_string()).collect::<Vec<_>>()
        })
    };
    let one = |host: &str| Ok(vec![host.to_owned()]);
    assert_eq!(read("http", "shop:8080", None), one("shop:8080"));
    assert_eq!(read("http", "-", Some("shop")), one("shop"));
    assert_eq!(read("http", "shop", Some("SHOP:80")), one("shop"));
    assert_eq!(read("https", "shop:443", Some("shop")), one("shop:443"));
    for (scheme, authority, host) in [
        ("http", "-", None),
        ("http", "", None),
        ("http", "-", Some("")),
        ("http", "user@shop", None),
        ("http", "shop/", None),
        ("http", "shop:", None),
        ("http", "shop:65536", None),
        ("http", "a,b", None),
        ("http", "-", Some("a b")),
        ("http", "shop", Some("other")),
        ("http", "shop", Some("")),
        ("http", "shop", Some("shop:443")),
        ("https", "shop", Some("shop:80")),
        ("http", "shop:8080", Some("shop:8080:80")),
    ] {
        assert_eq!(read(scheme, authority, host), Err("host"), "{authority:?} {host:?}");
    }
    assert_eq!(super::messages::read(true, &with(&[("host", "shop"), ("host", "shop")])), Err("host"));
}

#[test]
fn section_8_5_connect() {
    let connect = |authority: &'static str, more: Fields<'static>| {
        read(false, &[&[(":method", "CONNECT"), (":authority", authority)], more].concat())
    };
    let (head, body) = connect("shop:443", &[("content-length", "0")]).unwrap();
    assert_eq!((head.method, &head.target[..], body), (Method::Connect, &b"shop:443"[..], BodyLength::None));
    assert!(connect("shop:443", &[("host", "shop")]).is_ok());
    for bad in ["shop", "shop:0", "shop:", "[::1]", "http://shop:1", "user@shop:1"] {
        assert_eq!(connect(bad, &[]), Err("host"), "{bad}");
    }
    assert_eq!(connect("shop:443", &[("host", "other:443")]), Err("host"));
    assert_eq!(connect("shop:443", &[("content-length", "1")]), Err("unexpected_body"));
}

#[test]
fn extended_connect_is_a_get_with_upgrade_when_it_is_on() {
    let config = Config { extended_connect: true, ..Config::default() };
    let mut hand = Hand::with(config, Role::Server);
    let fields = [
        &[(":method", "CONNECT"), (":protocol", "websocket")],
        &GET[1..],
        &[("sec-websocket-version", "13")],
    ]
    .concat();
    hand.request(1, false, &fields).unwrap();
    let Event::Request { stream, head, scheme: Scheme::Http, body: BodyLength::None } =
        hand.events().remove(0)
    else {
        panic!()
    };
    assert!(head.is_upgrade() && head.path() == b"/" && head.method == Method::Get);
    assert!(hand.connection.send_response(stream, &ResponseHead::new(200), BodyLength::None).is_err());
    hand.connection.send_response(stream, &ResponseHead::new(101), BodyLength::None).unwrap();
    hand.good(&data(1, false, b"frame"));
    assert!(matches!(&hand.events()[..], [Event::Data { data, .. }] if data == "frame"));
    // With GET it means nothing, and is refused.
    hand.request(3, true, &[&[(":protocol", "websocket")], GET].concat()).unwrap();
    assert!(matches!(&hand.events()[..], [Event::Refused { .. }]));
}

#[test]
fn limits_of_a_head() {
    let many = |count: usize| [GET.to_vec(), vec![("x", "y"); count]].concat();
    assert!(read(true, &many(127)).is_ok());
    assert_eq!(read(true, &many(128)), Err("too_many_headers"));
    // Crumbs are one field in the end, and were split to be small.
    assert!(read(true, &[GET.to_vec(), vec![("cookie", "a=b"); 1000]].concat()).is_ok());
}

#[test]
fn a_list_over_its_limit_is_answered_with_431() {
    let config = Config { header_list_bytes_max: 1000, ..Config::default() };
    for ends in [true, false] {
        let mut hand = Hand::with(config, Role::Server);
        hand.request(1, ends, &with(&[("x", &"v".repeat(1000))])).unwrap();
        let output = hand.output();
        assert_eq!((output[0].kind.0, output[0].flags), (1, 5));
        // The names of :status and content-length by their indices.
        assert_eq!(output[0].payload, b"\x48\x03431\x0f\x0d\x010");
        assert_eq!(output.len(), if ends { 1 } else { 2 });
        assert!(
            matches!(&hand.events()[..], [Event::Refused { error, .. }] if error.metric_label() == "head_too_large")
        );
    }
}

// Bodies and trailers (§8.1, §8.1.1).

fn after(fields: Fields<'_>, frames: &[Vec<u8>]) -> (Vec<Event>, Option<C>) {
    let mut hand = Hand::server();
    hand.request(1, false, fields).unwrap();
    let mut events = hand.events();
    hand.good(&frames.concat());
    events.extend(hand.events());
    (events, hand.reset().map(|(_, code)| code))
}

fn fault((events, code): (Vec<Event>, Option<C>)) -> &'static str {
    match (events.last(), code) {
        (Some(Event::Reset { code, cause: ResetCause::Error(error), .. }), Some(sent)) => {
            assert_eq!(*code, sent);
            error.metric_label()
        }
        (_, None) => "",
        other => panic!("{other:?}"),
    }
}

#[test]
fn section_8_1_1_bodies_have_the_length_announced() {
    let five: Vec<(&str, &str)> = [POST, &[("content-length", "5")]].concat();
    for (name, frames, expected) in [
        ("as announced", vec![data(1, false, b"123"), data(1, true, b"45")], ""),
        ("with trailers", vec![data(1, false, b"12345"), headers(1, true, &[("a", "b")])], ""),
        ("with an empty end", vec![data(1, false, b"12345"), data(1, true, b"")], ""),
        ("shorter", vec![data(1, true, b"1234")], "content_length"),
        (
            "shorter, with trailers",
            vec![data(1, false, b"1"), headers(1, true, &[("a", "b")])],
            "content_length",
        ),
        ("longer", vec![data(1, true, b"123456")], "content_length"),
        ("longer in the end", vec![data(1, false, b"12345"), data(1, true, b"6")], "content_length"),
    ] {
        assert_eq!(fault(after(&five, &frames)), expected, "{name}");
    }
}

#[test]
fn section_8_1_trailers() {
    let trailers = |fields: Fields<'_>| headers(1, true, fields);
    for (name, frames, expected) in [
        ("after data", vec![data(1, false, b"x"), trailers(&[("grpc-status", "0")])], ""),
        ("without data", vec![trailers(&[("grpc-status", "0")])], ""),
        ("without an end", vec![headers(1, false, &[("a", "b")])], "message_order"),
        ("with a pseudo-header", vec![trailers(&[(":path", "/")])], "pseudo_header"),
        ("with a status", vec![trailers(&[(":status", "200")])], "pseudo_header"),
        ("with a length", vec![trailers(&[("content-length", "0")])], "trailer"),
        ("with a host", vec![trailers(&[("host", "a")])], "trailer"),
        ("with a coding", vec![trailers(&[("transfer-encoding", "chunked")])], "trailer"),
        ("in upper case", vec![trailers(&[("A", "b")])], "header_name"),
        ("with a line end", vec![trailers(&[("a", "b\r\nc: d")])], "header_value"),
    ] {
        assert_eq!(fault(after(POST, &frames)), expected, "{name}");
    }
    let (events, _) = after(POST, &[trailers(&[("authorization", "x"), ("grpc-status", "0"), ("via", "y")])]);
    let Some(Event::End { trailers: Some(found), .. }) = events.last() else { panic!("{events:?}") };
    let mut expected = Headers::new();
    expected.append("grpc-status", "0").unwrap();
    assert_eq!(**found, expected);
}

#[test]
fn a_tunnel_has_no_trailers() {
    let fields = [(":method", "CONNECT"), (":authority", "shop:443")];
    assert_eq!(
        fault(after(&fields, &[data(1, false, b"x"), headers(1, true, &[("a", "b")])])),
        "message_order"
    );
    assert_eq!(fault(after(&fields, &[data(1, true, b"x")])), "");
}

// Responses (§8.3.2), as a client reads them.

/// What a client makes of these frames in answer to a request with that method: the events.
fn answered(method: Method, frames: &[Vec<u8>]) -> Vec<Event> {
    let mut hand = Hand::client();
    let mut head = RequestHead::new(method, "/");
    if head.method == Method::Connect {
        head.target = b"shop:443".to_vec();
    }
    head.headers.append("Host", "shop").unwrap();
    hand.connection.send_request(&head, Scheme::Http, BodyLength::None).unwrap();
    hand.good(&frames.concat());
    hand.events()
}

fn response_fault(method: Method, frames: &[Vec<u8>]) -> &'static str {
    match answered(method, frames).last() {
        Some(Event::Reset { cause: ResetCause::Error(error), code, .. }) => {
            let calm = matches!(**error, StreamError::TooManyInterim { .. });
            assert_eq!(*code, if calm { C::ENHANCE_YOUR_CALM } else { C::PROTOCOL_ERROR });
            error.metric_label()
        }
        _ => "",
    }
}

#[test]
fn section_8_3_2_responses() {
    let one = |ends, fields: Fields<'_>| vec![headers(1, ends, fields)];
    let ok: Fields<'_> = &[(":status", "200")];
    let status = |value| one(true, &[(":status", value)]);
    for (name, frames, expected) in [
        ("with an end", one(true, ok), ""),
        ("three digits beyond the registered ones", status("999"), ""),
        ("two digits", status("20"), "pseudo_header"),
        ("four digits", status("2000"), "pseudo_header"),
        ("with a sign", status("+20"), "pseudo_header"),
        ("below 100", status("099"), "pseudo_header"),
        ("none", one(true, &[("a", "b")]), "pseudo_header"),
        ("twice", one(true, &[(":status", "200"), (":status", "200")]), "pseudo_header"),
        ("of requests", one(true, &[(":status", "200"), (":path", "/")]), "pseudo_header"),
        ("switching protocols", status("101"), "unexpected_upgrade"),
        ("te", one(true, &[(":status", "200"), ("te", "trailers")]), "connection_header"),
        ("connection", one(true, &[(":status", "200"), ("connection", "close")]), "connection_header"),
        ("data first", vec![data(1, true, b"x")], "message_order"),
        ("nothing at all", vec![data(1, true, b"")], "message_order"),
        ("an interim one that ends", status("103"), "message_order"),
        (
            "only interim ones",
            vec![headers(1, false, &[(":status", "103")]), data(1, true, b"")],
            "message_order",
        ),
        ("too many interim ones", vec![headers(1, false, &[(":status", "103")]); 17], "too_many_interim"),
        ("204 with a length", one(false, &[(":status", "204"), ("content-length", "1")]), "unexpected_body"),
        (
            "204 with data",
            vec![headers(1, false, &[(":status", "204")]), data(1, true, b"x")],
            "unexpected_body",
        ),
        ("304 with a length", one(true, &[(":status", "304"), ("content-length", "9")]), ""),
        (
            "304 with data",
            vec![headers(1, false, &[(":status", "304")]), data(1, true, b"x")],
            "unexpected_body",
        ),
        ("a length and no data", one(true, &[(":status", "200"), ("content-length", "9")]), "content_length"),
    ] {
        assert_eq!(response_fault(Method::Get, &frames), expected, "{name}");
    }
    let length = [headers(1, false, &[(":status", "200"), ("content-length", "9")]), data(1, true, b"")];
    assert_eq!(response_fault(Method::Head, &length), "");
    assert_eq!(response_fault(Method::Head, &[length[0].clone(), data(1, true, b"x")]), "unexpected_body");
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let events = answered(
        Method::Get,
        &[
            headers(1, false, &[(":status", "100")]),
            headers(1, false, &[(":status", "103"), ("link", "</a>")]),
            headers(1, false, &[(":status", "200"), ("content-length", "2")]),
            data(1, true, b"ok"),
        ],
    );
    let statuses: Vec<u16> = events
        .iter()
        .filter_map(|event| match event {
            Event::Interim { head, .. } => Some(head.status),
            Event::Response { head, body: BodyLength::Length(2), .. } => Some(head.status),
            _ => None,
        })
        .collect();
    assert_eq!(statuses, [100, 103, 200]);
    assert!(matches!(events.last(), Some(Event::End { trailers: None, .. })));
}

#[test]
fn a_connect_that_is_accepted_has_no_length() {
    let tunnel =
        [headers(1, false, &[(":status", "200"), ("content-length", "3")]), data(1, false, b"longer")];
    let events = answered(Method::Connect, &tunnel);
    let Event::Response { head, body: BodyLength::None, .. } = &events[0] else { panic!("{events:?}") };
    assert!(!head.headers.contains("content-length"));
    assert!(matches!(&events[1], Event::Data { data, .. } if data == "longer"));
    // One that is not has a body.
    let refused = [headers(1, false, &[(":status", "403"), ("content-length", "2")]), data(1, true, b"no")];
    assert!(matches!(answered(Method::Connect, &refused).last(), Some(Event::End { .. })));
}
