//! Which questions are passed on, and what the application is asked.

use pipy_config::{Probe, ProbeKind, ProbeListener};
use pipy_http::{Method, RequestHead};

use super::{Unasked, choose, question};

fn http(port: u16, path: &str) -> Probe {
    Probe {
        listener: ProbeListener::Readiness,
        kind: ProbeKind::Http,
        port,
        path: Some(path.into()),
        host: None,
        headers: Vec::new(),
        timeout_ms: 1_000,
        origin: "Pod/shop/till#till.readinessProbe".into(),
    }
}

fn tcp(listener: ProbeListener, port: u16) -> Probe {
    Probe { listener, kind: ProbeKind::Tcp, path: None, ..http(port, "/") }
}

fn asked(headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new(Method::Get, "/fsm-healthcheck");
    for (name, value) in headers {
        head.headers.append(name, value).expect("a valid header");
    }
    head
}

fn for_http(port: &str, path: &str) -> RequestHead {
    asked(&[("Host", "10.1.2.3:15902"), ("Original-Http-Port", port), ("Original-Http-Path", path)])
}

#[test]
fn only_a_listed_target_on_its_own_listener_is_chosen() {
    let probes = [http(8080, "/health?full=1"), tcp(ProbeListener::Tcp, 5432)];
    let readiness = ProbeListener::Readiness;
    assert_eq!(choose(&probes, readiness, &for_http("8080", "/health?full=1")), Ok(&probes[0]));
    for (listener, port, path) in [
        (readiness, "8081", "/health?full=1"),
        (readiness, "15000", "/quitquitquit"),
        (readiness, "8080", "/health"),
        (readiness, "8080", "/health?full=1&x"),
        (readiness, "8080", "/Health?full=1"),
        (readiness, "8080", "/x/../health?full=1"),
        (readiness, "8080", ""),
        (ProbeListener::Liveness, "8080", "/health?full=1"),
        (ProbeListener::Tcp, "8080", "/health?full=1"),
        (readiness, "5432", "/"),
    ] {
        let refused = choose(&probes, listener, &for_http(port, path));
        assert_eq!(refused, Err(Unasked::NotListed), "{listener:?} {port} {path}");
    }
    let connect = asked(&[("original-tcp-port", "5432")]);
    assert_eq!(choose(&probes, ProbeListener::Tcp, &connect), Ok(&probes[1]));
    assert_eq!(choose(&probes, readiness, &connect), Err(Unasked::NotListed));
    // A port that may be asked over HTTP may not be connected to by that alone, and the other way round.
    let other = asked(&[("original-tcp-port", "8080")]);
    assert_eq!(choose(&probes, readiness, &other), Err(Unasked::NotListed));
}

#[test]
fn a_question_without_a_readable_target_is_told_so() {
    let probes = [http(8080, "/"), tcp(ProbeListener::Readiness, 1)];
    for headers in [
        &[][..],
        &[("Original-Http-Path", "/")],
        &[("Original-Http-Port", "8080")],
        &[("Original-Http-Port", "80 80"), ("Original-Http-Path", "/")],
        &[("Original-Http-Port", "70000"), ("Original-Http-Path", "/")],
        &[("Original-Tcp-Port", "-1")],
        &[("Original-Tcp-Port", "")],
    ] {
        let found = choose(&probes, ProbeListener::Readiness, &asked(headers));
        assert_eq!(found, Err(Unasked::NoTarget), "{headers:?}");
    }
}

#[test]
fn other_paths_and_methods_are_not_probes() {
    let probes = [http(8080, "/")];
    let mut head = for_http("8080", "/");
    head.method = Method::Post;
    assert_eq!(choose(&probes, ProbeListener::Readiness, &head), Err(Unasked::OtherMethod));
    head.target = b"/".to_vec();
    assert_eq!(choose(&probes, ProbeListener::Readiness, &head), Err(Unasked::OtherPath));
}

#[test]
fn of_two_that_differ_in_their_host_the_named_one_is_chosen() {
    let named = Probe { host: Some("till.example".into()), ..http(8080, "/") };
    let probes = [http(8080, "/"), named];
    let choice = |host: &str| {
        let mut head = for_http("8080", "/");
        head.headers.insert("host", host).expect("a valid header");
        choose(&probes, ProbeListener::Readiness, &head).ok()
    };
    assert_eq!(choice("Till.Example"), Some(&probes[1]));
    assert_eq!(choice("10.1.2.3:15902"), Some(&probes[0]));
    // Where every probe names a host, one must be met: the name decides what the application answers.
    let only = &probes[1..];
    assert_eq!(choose(only, ProbeListener::Readiness, &for_http("8080", "/")), Err(Unasked::NotListed));
}

#[test]
fn the_application_is_asked_as_the_kubelet_would() {
    let probe = Probe { headers: vec!["x-probe".into()], ..http(8080, "/health?full=1") };
    let head = asked(&[
        ("Host", "10.1.2.3:15902"),
        ("User-Agent", "kube-probe/1.32"),
        ("Accept", "*/*"),
        ("X-Probe", "1"),
        ("X-Probe", "2"),
        ("Cookie", "session=1"),
        ("serviceidentity", "admin.shop"),
        ("Original-Http-Port", "8080"),
        ("Original-Http-Path", "/health?full=1"),
    ]);
    let local = "10.1.2.3:15902".parse().expect("an address");
    let asked = question(&probe, &head.headers, local).expect("a request");
    assert_eq!((asked.method.as_str(), &*asked.target), ("GET", &b"/health?full=1"[..]));
    let seen: Vec<_> = asked
        .headers
        .iter()
        .map(|(name, value)| (name.escape_ascii().to_string(), value.escape_ascii().to_string()))
        .collect();
    let expected = [
        ("host", "10.1.2.3:8080"),
        ("User-Agent", "kube-probe/1.32"),
        ("Accept", "*/*"),
        ("X-Probe", "1"),
        ("X-Probe", "2"),
        ("connection", "close"),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let named = Probe { host: Some("till.example".into()), ..probe };
    let asked = question(&named, &head.headers, local).expect("a request");
    assert_eq!(asked.headers.get("host"), Some(&b"till.example"[..]));
}
