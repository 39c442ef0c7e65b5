//! The four forms of targets, authorities, and what a request says about its connection.

use super::*;
use crate::testing::good_head;

fn head(method: Method, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(method, target);
    headers.iter().for_each(|(name, value)| head.headers.append(name, value).unwrap());
    head
}

#[test]
fn targets_of_every_form_have_path_and_query() {
    let cases: [(Method, &str, &str, Option<&str>, &str); 15] = [
        (Method::Get, "/", "/", None, "/"),
        (Method::Get, "/a/b?c=d?e", "/a/b", Some("c=d?e"), "/a/b?c=d?e"),
        (Method::Get, "/a?", "/a", Some(""), "/a?"),
        (Method::Get, "//a//b", "//a//b", None, "//a//b"),
        (Method::Get, "/http://b/c", "/http://b/c", None, "/http://b/c"),
        (Method::Get, "http://a/b?c", "/b", Some("c"), "/b?c"),
        (Method::Get, "http://a", "/", None, "/"),
        (Method::Get, "http://a?c", "/", Some("c"), "/?c"),
        (Method::Get, "HTTPS://a:1/", "/", None, "/"),
        (Method::Options, "*", "*", None, "*"),
        (Method::Options, "http://a", "*", None, "*"),
        (Method::Options, "http://a/", "/", None, "/"),
        (Method::Options, "/", "/", None, "/"),
        (Method::Options, "http://a?c", "/", Some("c"), "/?c"),
        (Method::Connect, "a:1", "", None, ""),
    ];
    for (method, target, path, query, both) in cases {
        let head = head(method, target, &[]);
        let found = (head.path(), head.query(), &*head.path_and_query());
        assert_eq!(found, (path.as_bytes(), query.map(str::as_bytes), both.as_bytes()), "{target}");
    }
}

#[test]
fn authorities_come_from_target_or_host_in_lower_case() {
    let authority =
        |method, target, host: &[(&str, &str)]| head(method, target, host).authority().map(Cow::into_owned);
    let host = [("Host", "Book.Store:14001")];
    assert_eq!(authority(Method::Get, "/", &host).as_deref(), Some("book.store:14001"));
    assert_eq!(authority(Method::Get, "http://A.b:80/x", &host).as_deref(), Some("a.b:80"));
    assert_eq!(authority(Method::Connect, "Cc:443", &host).as_deref(), Some("cc:443"));
    assert_eq!(authority(Method::Options, "*", &host).as_deref(), Some("book.store:14001"));
    assert_eq!(
        authority(Method::Get, "/", &[("Host", "[2001:DB8::1]:1")]).as_deref(),
        Some("[2001:db8::1]:1")
    );
    assert_eq!(authority(Method::Get, "/", &[("Host", "")]), None);
    assert_eq!(authority(Method::Get, "/", &[("Host", "a b")]), None);
    assert_eq!(authority(Method::Get, "/", &[]), None);
    let lower = head(Method::Get, "/", &[("Host", "a")]);
    assert!(matches!(lower.authority(), Some(Cow::Borrowed("a"))), "nothing to copy");
}

#[test]
fn an_upgrade_is_asked_for_by_two_headers() {
    let upgrade = |version, headers: &[(&str, &str)]| {
        let mut head = head(Method::Get, "/", headers);
        head.version = version;
        head.is_upgrade()
    };
    use Version::{Http10, Http11};
    let both = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")];
    assert!(upgrade(Http11, &both));
    assert!(!upgrade(Http10, &both), "http/1.0 cannot");
    assert!(!upgrade(Http11, &both[..1]));
    assert!(!upgrade(Http11, &both[1..]));
    assert!(!upgrade(Http11, &[("Connection", "Upgrade"), ("Upgrade", "H2C")]), "a hole in the policy");
    assert!(!upgrade(Http11, &[("Connection", "Upgrade"), ("Upgrade", " , ")]));
    assert!(upgrade(Http11, &[("Connection", "upgrade"), ("Upgrade", "h2c, websocket")]));
}

#[test]
fn connections_live_on_as_version_and_header_say() {
    let lives = |bytes: &[u8]| good_head(bytes).keep_alive();
    assert!(lives(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!lives(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n"));
    assert!(!lives(b"GET / HTTP/1.0\r\n\r\n"));
    assert!(lives(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!lives(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"));
}

#[test]
fn continue_is_expected_of_http_1_1_only() {
    let mut head = head(Method::Post, "/", &[("Expect", "100-Continue")]);
    assert!(head.expects_continue());
    head.version = Version::Http10;
    assert!(!head.expects_continue());
    head.version = Version::Http11;
    head.headers.insert("expect", "something").unwrap();
    assert!(!head.expects_continue());
}

#[test]
fn setting_the_path_keeps_query_and_authority() {
    let mut origin = head(Method::Get, "/a/../b?q=/x", &[("Host", "h")]);
    origin.set_path(b"/b").unwrap();
    assert_eq!(origin.target, b"/b?q=/x");

    let mut absolute = head(Method::Get, "http://Real:8080/%41?q", &[("Host", "real:8080"), ("A", "b")]);
    absolute.set_path(b"/A").unwrap();
    assert_eq!(absolute.target, b"/A?q");
    assert_eq!(absolute.headers.get("host"), Some(&b"Real:8080"[..]));
    assert_eq!(absolute.authority().as_deref(), Some("real:8080"));
    assert_eq!(absolute.headers.len(), 2);
}

#[test]
fn a_path_that_would_break_the_request_line_is_refused() {
    let mut head = head(Method::Get, "/a?q", &[]);
    for bad in [&b""[..], b"a", b"/a b", b"/a\r\nX: y", b"/\xc3", b"/a?b", b"/a#b", b"http://a/", b"**"] {
        assert!(head.set_path(bad).is_err(), "{}", bad.escape_ascii());
        assert_eq!(head.target, b"/a?q");
    }
}

#[test]
fn absolute_targets_become_origin_form_and_others_stay() {
    for (method, target, expected, host) in [
        (Method::Get, "http://a:1/b?c", "/b?c", Some("a:1")),
        (Method::Get, "http://a", "/", Some("a")),
        (Method::Options, "http://a", "*", Some("a")),
        (Method::Get, "/b", "/b", None),
        (Method::Options, "*", "*", None),
        (Method::Connect, "a:1", "a:1", None),
    ] {
        let mut head = head(method, target, &[]);
        head.use_origin_form().unwrap();
        assert_eq!(head.target, expected.as_bytes(), "{target}");
        assert_eq!(head.headers.get_str("host"), host, "{target}");
    }
}
