//! Client against server: whole exchanges, and what a caller may do wrong.

use pipy_http::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead, Version};

use super::peer::*;
use crate::ErrorCode as C;
use crate::{Config, Event, ResetCause, Scheme, SendError, StreamId};

fn head(method: Method, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(method, target);
    head.headers.append("Host", "Shop:8080").unwrap();
    for (name, value) in fields {
        head.headers.append(name, value).unwrap();
    }
    head
}

fn trailers(fields: &[(&str, &str)]) -> Option<Box<Headers>> {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
    Some(Box::new(headers))
}

/// Sends a request without a body and gives both sides' name for its stream.
fn ask(pair: &mut Pair, head: &RequestHead) -> (StreamId, StreamId) {
    let stream = pair.client.send_request(head, Scheme::Http, BodyLength::None).unwrap();
    let asked = pair.server_events()[0].stream().unwrap();
    assert_eq!(stream, asked);
    (stream, asked)
}

fn response(events: &[Event]) -> &ResponseHead {
    match &events[0] {
        Event::Response { head, .. } => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_http_1_request_arrives_without_what_belonged_to_its_connection() {
    let mut pair = Pair::new();
    let fields = [
        ("Connection", "keep-alive, te"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("TE", "gzip, trailers"),
        ("HTTP2-Settings", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "999"),
        ("User-Agent", "curl"),
        ("Cookie", "a=b; c=d"),
    ];
    let head = head(Method::Post, "http://shop:8080/buy?x=1", &fields);
    let stream = pair.client.send_request(&head, Scheme::Https, BodyLength::Length(3)).unwrap();
    let _ = pair.client.send_data(stream, "one".into()).unwrap();
    pair.client.send_end(stream, None).unwrap();
    let events = pair.server_events();
    let Event::Request { head, scheme: Scheme::Https, body: BodyLength::Length(3), .. } = &events[0] else {
        panic!("{events:?}")
    };
    let mut expected = RequestHead::new(Method::Post, "/buy?x=1");
    (expected.version, expected.scheme) = (Version::Http2, Some(Scheme::Https));
    for (name, value) in [
        ("host", "shop:8080"),
        ("te", "trailers"),
        ("user-agent", "curl"),
        ("content-length", "3"),
        ("cookie", "a=b; c=d"),
    ] {
        expected.headers.append(name, value).unwrap();
    }
    assert_eq!(**head, expected);
    assert_eq!(
        events[1..],
        [Event::Data { stream, data: "one".into() }, Event::End { stream, trailers: None }]
    );
}

#[test]
fn a_grpc_call_of_both_ways_with_trailers() {
    let mut pair = Pair::new();
    let call =
        head(Method::Post, "/shop.Books/Buy", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let stream = pair.client.send_request(&call, Scheme::Http, BodyLength::Chunked).unwrap();
    let asked = pair.server_events()[0].stream().unwrap();
    let mut reply = ResponseHead::new(200);
    reply.headers.append("Content-Type", "application/grpc").unwrap();
    pair.server.send_response(asked, &reply, BodyLength::Chunked).unwrap();
    assert_eq!(response(&pair.client_events()).headers.get("content-type"), Some(&b"application/grpc"[..]));
    for turn in 0..10 {
        let message = format!("message {turn}");
        let _ = pair.client.send_data(stream, message.clone().into()).unwrap();
        assert_eq!(pair.server_events(), [Event::Data { stream: asked, data: message.clone().into() }]);
        let _ = pair.server.send_data(asked, message.clone().into()).unwrap();
        assert_eq!(pair.client_events(), [Event::Data { stream, data: message.into() }]);
    }
    pair.client.send_end(stream, None).unwrap();
    assert_eq!(pair.server_events(), [Event::End { stream: asked, trailers: None }]);
    pair.server.send_end(asked, trailers(&[("grpc-status", "0"), ("Grpc-Message", "")])).unwrap();
    let expected = trailers(&[("grpc-status", "0"), ("grpc-message", "")]);
    assert_eq!(pair.client_events(), [Event::End { stream, trailers: expected }]);
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_grpc_failure_is_a_head_alone() {
    let mut pair = Pair::new();
    let (stream, asked) = ask(&mut pair, &head(Method::Post, "/a/b", &[]));
    let mut reply = ResponseHead::new(200);
    reply.headers.append("grpc-status", "12").unwrap();
    pair.server.send_response(asked, &reply, BodyLength::None).unwrap();
    let events = pair.client_events();
    assert_eq!(response(&events).headers.get("grpc-status"), Some(&b"12"[..]));
    assert_eq!(events[1..], [Event::End { stream, trailers: None }]);
}

#[test]
fn trailers_that_may_not_pass_are_left_out() {
    let mut pair = Pair::new();
    let (stream, asked) = ask(&mut pair, &head(Method::Get, "/", &[]));
    pair.server.send_response(asked, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
    pair.server.send_end(asked, trailers(&[("Transfer-Encoding", "chunked"), ("Via", "x")])).unwrap();
    assert_eq!(pair.client_events()[1..], [Event::End { stream, trailers: None }]);
}

#[test]
fn responses_without_content_end_with_their_head_whatever_follows() {
    for (method, status, body, length) in [
        (Method::Head, 200, BodyLength::Length(5), Some("5")),
        (Method::Head, 200, BodyLength::Chunked, None),
        (Method::Get, 204, BodyLength::Length(5), None),
        (Method::Get, 304, BodyLength::Length(5), Some("5")),
        (Method::Get, 200, BodyLength::Length(0), Some("0")),
        (Method::Get, 200, BodyLength::None, None),
    ] {
        let mut pair = Pair::new();
        let (stream, asked) = ask(&mut pair, &head(method.clone(), "/", &[]));
        pair.server.send_response(asked, &ResponseHead::new(status), body).unwrap();
        let _ = pair.server.send_data(asked, "hello".into()).unwrap();
        pair.server.send_end(asked, trailers(&[("a", "b")])).unwrap();
        let events = pair.client_events();
        assert_eq!(response(&events).headers.get_str("content-length"), length, "{method} {status}");
        assert_eq!(events[1..], [Event::End { stream, trailers: None }], "{method} {status}");
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn the_length_of_a_response_to_head_may_come_from_its_headers() {
    let mut pair = Pair::new();
    let (_, asked) = ask(&mut pair, &head(Method::Head, "/", &[]));
    let mut reply = ResponseHead::new(200);
    reply.headers.append("content-length", "42").unwrap();
    pair.server.send_response(asked, &reply, BodyLength::None).unwrap();
    assert_eq!(response(&pair.client_events()).headers.get("content-length"), Some(&b"42"[..]));
}

#[test]
fn expectations_are_continued() {
    let mut pair = Pair::new();
    let request = head(Method::Post, "/", &[("expect", "100-continue")]);
    let stream = pair.client.send_request(&request, Scheme::Http, BodyLength::Length(2)).unwrap();
    let events = pair.server_events();
    assert!(matches!(&events[..], [Event::Request { head, .. }] if head.expects_continue()));
    pair.server.send_interim(stream, &ResponseHead::new(100)).unwrap();
    assert!(matches!(&pair.client_events()[..], [Event::Interim { head, .. }] if head.status == 100));
    let _ = pair.client.send_data(stream, "ok".into()).unwrap();
    pair.client.send_end(stream, None).unwrap();
    assert_eq!(pair.server_events().len(), 2);
    pair.server.send_response(stream, &ResponseHead::new(200), BodyLength::None).unwrap();
    assert!(
        pair.server.send_interim(stream, &ResponseHead::new(103)).is_ok(),
        "the stream has ended: dropped"
    );
}

#[test]
fn a_tunnel_carries_bytes_and_ends_one_way_at_a_time() {
    let mut pair = Pair::new();
    let mut connect = head(Method::Connect, "shop:8080", &[]);
    connect.headers.insert("host", "shop:8080").unwrap();
    let (stream, asked) = ask(&mut pair, &connect);
    pair.server.send_response(asked, &ResponseHead::new(200), BodyLength::Length(7)).unwrap();
    assert!(!response(&pair.client_events()).headers.contains("content-length"));
    let _ = pair.client.send_data(stream, "syn".into()).unwrap();
    pair.client.send_end(stream, trailers(&[("a", "b")])).unwrap();
    let events = pair.server_events();
    assert_eq!(events, [Event::Data { stream, data: "syn".into() }, Event::End { stream, trailers: None }]);
    let _ = pair.server.send_data(asked, "ack".into()).unwrap();
    assert_eq!(pair.client_events(), [Event::Data { stream, data: "ack".into() }]);
    pair.server.send_end(asked, None).unwrap();
    assert_eq!(pair.client_events().len(), 1);
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn an_upgrade_travels_as_extended_connect() {
    let upgrade = head(Method::Get, "/chat", &[("Connection", "Upgrade"), ("Upgrade", "websocket")]);
    let mut pair = Pair::new();
    let result = pair.client.send_request(&upgrade, Scheme::Http, BodyLength::None);
    assert_eq!(result, Err(SendError::ExtendedConnectDisabled));
    let mut pair = Pair::with(Config::default(), Config { extended_connect: true, ..Config::default() });
    assert!(pair.client.peer_settings().extended_connect);
    for (status, accepted) in [(101, true), (403, false)] {
        let stream = pair.client.send_request(&upgrade, Scheme::Http, BodyLength::None).unwrap();
        let events = pair.server_events();
        assert!(
            matches!(&events[0], Event::Request { head, .. } if head.is_upgrade() && head.path() == b"/chat")
        );
        pair.server.send_response(stream, &ResponseHead::new(status), BodyLength::Chunked).unwrap();
        let _ = pair.server.send_data(stream, "bytes".into()).unwrap();
        let events = pair.client_events();
        assert_eq!(response(&events).status, status);
        assert_eq!(response(&events).headers.contains_token("upgrade", "websocket"), accepted);
        assert_eq!(events[1], Event::Data { stream, data: "bytes".into() });
        pair.client.reset(stream, C::CANCEL);
        assert!(matches!(
            &pair.server_events()[..],
            [Event::Reset { code: C::CANCEL, cause: ResetCause::Peer, .. }]
        ));
    }
}

#[test]
fn a_server_may_answer_early_and_ask_the_client_to_stop() {
    let mut pair = Pair::new();
    let stream =
        pair.client.send_request(&head(Method::Post, "/", &[]), Scheme::Http, BodyLength::Chunked).unwrap();
    pair.server_events();
    pair.server.send_response(stream, &ResponseHead::new(413), BodyLength::Length(0)).unwrap();
    pair.server.reset(stream, C::NO_ERROR);
    let events = pair.client_events();
    assert_eq!(response(&events).status, 413);
    assert!(matches!(&events[1..], [Event::End { .. }, Event::Reset { code: C::NO_ERROR, .. }]));
}

#[test]
fn streams_wait_for_the_peers_limit() {
    let server = Config { max_concurrent_streams: 2, ..Config::default() };
    let mut pair = Pair::with(Config::default(), server);
    assert_eq!(pair.client.available_streams(), 2);
    let request = head(Method::Get, "/", &[]);
    let (first, _) = ask(&mut pair, &request);
    ask(&mut pair, &request);
    let result = pair.client.send_request(&request, Scheme::Http, BodyLength::None);
    assert_eq!(result, Err(SendError::TooManyStreams { limit: 2 }));
    pair.server.send_response(first, &ResponseHead::new(204), BodyLength::None).unwrap();
    pair.talk();
    assert_eq!(pair.client.available_streams(), 1);
    ask(&mut pair, &request);
}

#[test]
fn a_list_longer_than_the_peer_takes_is_not_sent() {
    let server = Config { header_list_bytes_max: 500, ..Config::default() };
    let mut pair = Pair::with(Config::default(), server);
    let request = head(Method::Get, "/", &[("x", &"v".repeat(400))]);
    let result = pair.client.send_request(&request, Scheme::Http, BodyLength::None);
    assert!(matches!(result, Err(SendError::HeaderListTooLarge { limit: 500, .. })));
    ask(&mut pair, &head(Method::Get, "/", &[]));
}

#[test]
fn a_long_head_goes_in_several_frames() {
    let mut pair = Pair::new();
    let fields: Vec<(String, String)> =
        (0..50).map(|index| (format!("x-{index}"), "v".repeat(1000))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let request = head(Method::Get, "/", &fields);
    pair.client.send_request(&request, Scheme::Http, BodyLength::None).unwrap();
    let events = pair.server_events();
    let Event::Request { head, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(head.headers.len(), 51);
}

#[test]
fn what_is_out_of_order_is_an_error_and_changes_nothing() {
    let order = |what| Err(SendError::OutOfOrder { what });
    let mut pair = Pair::new();
    let request = head(Method::Post, "/", &[]);
    let stream = pair.client.send_request(&request, Scheme::Http, BodyLength::Length(3)).unwrap();
    pair.server_events();
    assert_eq!(
        pair.server.send_data(stream, "x".into()),
        Err(SendError::OutOfOrder { what: "data before the head" })
    );
    assert_eq!(pair.server.send_end(stream, None), order("the end before the head"));
    assert_eq!(
        pair.client.send_response(stream, &ResponseHead::new(200), BodyLength::None),
        order("a response from a client")
    );
    assert!(pair.server.send_request(&request, Scheme::Http, BodyLength::None).is_err());
    let short = pair.client.send_end(stream, None);
    assert_eq!(short, Err(HttpError::BodyTooShort { missing: 3 }.into()));
    let long = pair.client.send_data(stream, "four".into());
    assert_eq!(long, Err(HttpError::BodyTooLong { excess: 1 }.into()));
    let _ = pair.client.send_data(stream, "and".into()).unwrap();
    pair.client.send_end(stream, None).unwrap();
    assert_eq!(pair.client.send_end(stream, None), order("a second end"));
    assert_eq!(
        pair.client.send_data(stream, "".into()),
        Err(SendError::OutOfOrder { what: "data after the end" })
    );
    for (status, what) in [(100, "1xx"), (101, "101"), (99, "99"), (1000, "1000")] {
        let result = pair.server.send_response(stream, &ResponseHead::new(status), BodyLength::None);
        assert!(matches!(result, Err(SendError::Message(_))), "{what}");
    }
    assert!(pair.server.send_interim(stream, &ResponseHead::new(200)).is_err());
    pair.server.send_response(stream, &ResponseHead::new(200), BodyLength::Chunked).unwrap();
    assert_eq!(
        pair.server.send_response(stream, &ResponseHead::new(200), BodyLength::None),
        order("a second response")
    );
    assert_eq!(pair.server.send_end(StreamId(99), None), Err(SendError::UnknownStream(99)));
    pair.server.send_end(stream, None).unwrap();
    assert!(matches!(pair.client_events().last(), Some(Event::End { .. })));
    assert_eq!(pair.server.send_end(stream, None), Ok(()), "what has ended is no fault");
}

#[test]
fn requests_that_http_2_cannot_say_are_not_sent() {
    let mut client = Pair::new().client;
    let mut send = |head: &RequestHead, body| client.send_request(head, Scheme::Http, body);
    let no_host = RequestHead::new(Method::Get, "/");
    assert_eq!(send(&no_host, BodyLength::None), Err(HttpError::MissingHost.into()));
    for target in ["", "no-slash", "/a b", "/a\r\nx: y", "/a#b", "*"] {
        let result = send(&head(Method::Get, target, &[]), BodyLength::None);
        assert!(
            matches!(result, Err(SendError::Message(HttpError::InvalidTarget { .. }))),
            "{target:?} {result:?}"
        );
    }
    let result = send(&head(Method::Connect, "shop", &[]), BodyLength::None);
    assert!(matches!(result, Err(SendError::Message(_))));
    assert!(send(&head(Method::Get, "/", &[]), BodyLength::UntilClose).is_err());
    let upgrade = head(Method::Post, "/", &[("connection", "upgrade"), ("upgrade", "x")]);
    assert!(send(&upgrade, BodyLength::None).is_err());
    assert_eq!(client.streams(), 0);
}

#[test]
fn heads_repeat_in_a_few_bytes() {
    let mut pair = Pair::new();
    let fields =
        [("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"), ("accept", "text/html"), ("x-team", "books")];
    let request = head(Method::Get, "/", &fields);
    ask(&mut pair, &request);
    let mut pieces = Vec::new();
    pair.client.send_request(&request, Scheme::Http, BodyLength::None).unwrap();
    let len = pair.client.poll_output(&mut pieces, usize::MAX);
    assert_eq!(len, 9 + 7, "one byte for each field");
}

#[test]
fn a_client_asks_no_more_than_a_hundred_times_before_it_knows_its_server() {
    let mut client = crate::Connection::client(Config::default());
    let request = head(Method::Get, "/", &[]);
    for _ in 0..100 {
        client.send_request(&request, Scheme::Http, BodyLength::None).unwrap();
    }
    let result = client.send_request(&request, Scheme::Http, BodyLength::None);
    assert_eq!(result, Err(SendError::TooManyStreams { limit: 100 }));
    client.receive(settings(&[]).into()).unwrap();
    assert!(client.send_request(&request, Scheme::Http, BodyLength::None).is_ok());
}
