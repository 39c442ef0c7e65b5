//! Explanations of the bookstore's rules, as the contract's sample has them: what is decided, by which objects, and what
//! else was tried.

use std::path::Path;

use pipy_mesh::Plan;
use pipy_mesh::explain::{Explanation, Question, explain};

const BUYER: &str = "spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer";
const THIEF: &str = "spiffe://cluster.local/ns/bookthief/sa/bookthief";

/// The bookstore's plan, without its route for everyone.
fn plan() -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/samples/valid/bookstore.json");
    let mut config =
        pipy_config::parse(&std::fs::read(file).expect("the sample is there")).expect("it is valid");
    for rule in &mut config.inbound.as_mut().expect("it has an inbound side").matches {
        rule.hosts.iter_mut().for_each(|host| host.routes.retain(|route| route.allowed.is_some()));
    }
    Plan::new(config)
}

fn ask(identity: Option<&str>, method: &str, target: &str) -> Explanation {
    let question = Question {
        inbound: true,
        datagrams: false,
        destination: "10.244.0.9:14001".parse().expect("an address"),
        source: None,
        server_name: None,
        identity: identity.map(str::to_owned),
        method: method.into(),
        authority: "Bookstore.bookstore:14001".into(),
        target: target.into(),
        headers: Vec::new(),
    };
    explain(&plan(), &question).expect("the question can be read")
}

#[test]
fn an_allowed_request_names_the_rule_and_who_allows_it() {
    let answer = ask(Some(BUYER), "GET", "/buy-a-book/new");
    assert_eq!(answer.decision, "allowed");
    assert_eq!(answer.rule.as_deref(), Some("HTTPRouteGroup/bookstore/bookstore-service-routes#buy-a-book"));
    assert_eq!(answer.allowed_by.as_deref(), Some("TrafficTarget/bookstore/bookstore-v1"));
    assert_eq!(answer.clusters.len(), 1);
    assert_eq!(answer.clusters[0].endpoints[0].address.to_string(), "127.0.0.1:14001");
}

#[test]
fn a_refused_identity_learns_which_rule_fits_and_whom_it_allows() {
    let answer = ask(Some(THIEF), "GET", "/buy-a-book/new");
    assert_eq!(answer.decision, "denied");
    assert!(answer.reason.is_some_and(|reason| reason.contains("no policy allows this identity")));
    assert_eq!(answer.tried.len(), 1);
    assert!(answer.tried[0].fits);
    assert_eq!(answer.tried[0].allowed, Some(false));
    assert_eq!(answer.tried[0].allows, [BUYER]);
}

#[test]
fn a_request_that_no_rule_fits_lists_what_was_tried() {
    let answer = ask(Some(BUYER), "POST", "/buy-a-book/new");
    assert_eq!(answer.decision, "denied");
    assert!(answer.reason.is_some_and(|reason| reason.starts_with("no route of this host fits")));
    assert!(!answer.tried[0].fits);
    assert_eq!(answer.tried[0].allowed, None);
}

#[test]
fn without_an_identity_nothing_is_asked_of_the_routes() {
    let answer = ask(None, "GET", "/buy-a-book/new");
    assert_eq!(answer.decision, "denied");
    assert!(answer.reason.is_some_and(|reason| reason.contains("mutual TLS")));
    assert!(answer.tried.is_empty());
}

#[test]
fn the_path_that_is_decided_about_is_the_normalised_one() {
    let answer = ask(Some(BUYER), "GET", "/x/../buy-a-book/%6eew");
    assert_eq!(answer.decision, "allowed");
    assert_eq!(answer.normalised.as_deref(), Some("/buy-a-book/new"));
}

#[test]
fn a_question_that_cannot_be_read_says_what_is_wrong() {
    let question = Question {
        inbound: true,
        datagrams: false,
        destination: "10.244.0.9:14001".parse().expect("an address"),
        source: None,
        server_name: None,
        identity: Some(BUYER.into()),
        method: "GET".into(),
        authority: "bookstore.bookstore:14001".into(),
        target: "/".into(),
        headers: vec![("bad name".into(), "x".into())],
    };
    assert!(explain(&plan(), &question).is_err());
}

#[test]
fn limits_retries_and_breakers_that_would_apply_are_told_with_their_origins() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/samples/valid/upstream.json");
    let config = pipy_config::parse(&std::fs::read(file).expect("the sample is there")).expect("it is valid");
    let question = Question {
        inbound: true,
        datagrams: false,
        destination: "10.244.0.9:80".parse().expect("an address"),
        source: None,
        server_name: None,
        identity: Some(BUYER.into()),
        method: "GET".into(),
        authority: "curl".into(),
        target: "/".into(),
        headers: Vec::new(),
    };
    let answer = explain(&Plan::new(config), &question).expect("the question can be read");
    let origins: Vec<&str> = answer.rate_limits.iter().map(|limit| &*limit.origin).collect();
    assert_eq!(origins, ["UpstreamTrafficSetting/demo/curl", "UpstreamTrafficSetting/demo/curl#.*"]);
    let share = &answer.clusters[0];
    assert!(share.balancing.is_some(), "it is not the default");
    assert!(share.retry.is_none() && share.circuit_breaker.is_none() && share.limits.is_none());
}

/// The sample of connections: TLS by server name, clients outside of the mesh, protocols that are found out.
fn connections(question: Question) -> Explanation {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/samples/valid/connections.json");
    let config = pipy_config::parse(&std::fs::read(file).expect("the sample is there")).expect("it is valid");
    explain(&Plan::new(config), &question).expect("the question can be read")
}

fn to(port: u16) -> Question {
    Question {
        inbound: false,
        datagrams: false,
        destination: ([10, 0, 0, 1], port).into(),
        source: None,
        server_name: None,
        identity: None,
        method: "GET".into(),
        authority: String::new(),
        target: "/".into(),
        headers: Vec::new(),
    }
}

#[test]
fn tls_that_is_carried_unopened_is_explained_by_its_server_name() {
    for (name, rule) in [
        (Some("payments.shop"), "Service/shop/payments"),
        (Some("EU.payments.shop"), "Service/shop/payments"),
        (Some("other.shop"), "Service/shop/rest"),
        (None, "Service/shop/rest"),
    ] {
        let answer = connections(Question { server_name: name.map(str::to_owned), ..to(443) });
        assert_eq!((answer.decision, answer.rule.as_deref()), ("allowed", Some(rule)), "{name:?}");
    }
}

#[test]
fn a_port_whose_protocol_is_found_out_is_explained_as_what_is_asked_about() {
    assert!(connections(to(9000)).tried.is_empty(), "bytes have no routes");
    let request = connections(Question { authority: "anything".into(), ..to(9000) });
    assert_eq!((request.decision, request.tried.len()), ("allowed", 1));
}

#[test]
fn a_client_outside_of_the_mesh_is_explained_by_the_rule_for_its_address() {
    let from = |source: [u8; 4], identity: Option<&str>| {
        let identity = identity.map(str::to_owned);
        connections(Question { inbound: true, source: Some(source.into()), identity, ..to(25) })
    };
    let known = from([192, 0, 2, 7], Some("ingress.example"));
    assert_eq!((known.decision, known.matched_by.as_deref()), ("allowed", Some("IngressBackend/mail/smtp")));
    let silent = from([192, 0, 2, 7], None);
    assert_eq!(silent.decision, "denied");
    assert!(silent.reason.is_some_and(|reason| reason.contains("no certificate")));
    assert_eq!(from([203, 0, 113, 9], None).matched_by.as_deref(), Some("Service/mail/smtp"));
}

#[test]
fn what_may_leave_the_mesh_is_explained_with_the_address_that_was_dialled() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/samples/valid/compiled-egress.json");
    let config = pipy_config::parse(&std::fs::read(file).expect("the sample is there")).expect("it is valid");
    let plan = Plan::new(config);
    let ask = |question: Question| explain(&plan, &question).expect("the question can be read");
    let get = |host: &str| Question { authority: host.into(), target: "/get".into(), ..to(80) };
    let allowed = ask(get("httpbin.org"));
    assert_eq!(
        (allowed.decision, allowed.rule.as_deref()),
        ("allowed", Some("HTTPRouteGroup/curl/reads#get"))
    );
    assert_eq!(allowed.clusters[0].endpoints[0].address, to(80).destination);
    assert_eq!(ask(get("elsewhere.org")).decision, "denied");
    let tls = |name: &str| ask(Question { server_name: Some(name.into()), ..to(443) });
    assert_eq!(tls("httpbin.org").clusters[0].endpoints[0].address, to(443).destination);
    assert_eq!(tls("elsewhere.org").decision, "denied");
    assert_eq!(ask(to(8443)).rule.as_deref(), Some("Egress/curl/httpbin"));
    assert_eq!(ask(to(22)).decision, "denied");
}

fn of(config: &serde_json::Value) -> Plan {
    Plan::new(pipy_config::parse(config.to_string().as_bytes()).expect("a valid configuration"))
}

#[test]
fn a_client_that_is_bounded_to_routes_is_explained_with_the_policy_that_lets_it_in() {
    let clusters = serde_json::json!([{"cluster": "c", "weight": 1}]);
    let plan = of(&serde_json::json!({
        "version": "1",
        "inbound": {"matches": [{"port": 80, "protocol": "http", "origin": "Service/a/b",
            "sources": [{"cidrs": ["192.0.2.0/24"], "origin": "IngressBackend/a/in", "mtls": true,
                "principals": ["edge.example"], "routes": ["HTTPRouteGroup/a/g#get"]}],
            "hosts": [{"names": ["*"], "service": "a/b", "origin": "Service/a/b", "routes": [
                {"origin": "HTTPRouteGroup/a/g#get", "path": {"exact": "/get"}, "allowed": [], "clusters": clusters}]}]}]},
        "clusters": {"c": {"origin": "Service/a/b"}},
    }));
    let ask = |target: &str, name: &str| {
        let question = Question {
            inbound: true,
            source: Some([192, 0, 2, 1].into()),
            identity: Some(name.into()),
            authority: "b".into(),
            target: target.into(),
            ..to(80)
        };
        explain(&plan, &question).expect("the question can be read")
    };
    let allowed = ask("/get", "edge.example");
    assert_eq!((allowed.decision, allowed.allowed_by.as_deref()), ("allowed", Some("IngressBackend/a/in")));
    assert_eq!(allowed.rule.as_deref(), Some("HTTPRouteGroup/a/g#get"));
    assert_eq!(allowed.tried[0].allows, ["IngressBackend/a/in"]);
    let bounded = ask("/post", "edge.example");
    assert_eq!((bounded.decision, bounded.rule.as_deref()), ("denied", Some("IngressBackend/a/in")));
    assert!(bounded.reason.is_some_and(|reason| reason.contains("bounded to routes")));
    let other = ask("/get", "other.example");
    assert_eq!(other.reason, Some("no policy allows this identity on the routes that fit"));
}

#[test]
fn datagrams_are_explained_by_the_addresses_at_both_ends() {
    let tcp = |origin: &str| serde_json::json!({"origin": origin, "service": "a/b", "allowed": [], "clusters": [{"cluster": "c", "weight": 1}]});
    let mut outward = tcp("Service/a/b");
    outward["allowed"] = serde_json::Value::Null;
    let plan = of(&serde_json::json!({
        "version": "1",
        "inbound": {"matches": [{"port": 53, "protocol": "udp", "origin": "Service/a/b", "mtls": "disabled",
            "sources": [{"cidrs": ["192.0.2.1/32"], "origin": "AccessControl/a/in"}], "tcp": tcp("UDPRoute/a/r")}]},
        "outbound": {"matches": [{"port": 53, "protocol": "udp", "origin": "Service/a/b", "tcp": outward}]},
        "clusters": {"c": {"origin": "Service/a/b", "endpoints": [{"address": "10.0.0.9:53"}]}},
    }));
    let ask = |inbound: bool, datagrams: bool, source: [u8; 4]| {
        let question = Question { inbound, datagrams, source: Some(source.into()), ..to(53) };
        explain(&plan, &question).expect("the question can be read")
    };
    let known = ask(true, true, [192, 0, 2, 1]);
    assert_eq!((known.decision, known.allowed_by.as_deref()), ("allowed", Some("AccessControl/a/in")));
    assert_eq!((known.rule.as_deref(), known.clusters.len()), (Some("UDPRoute/a/r"), 1));
    let other = ask(true, true, [192, 0, 2, 2]);
    assert_eq!((other.decision, other.matched_by.as_deref()), ("denied", Some("Service/a/b")));
    assert!(other.reason.is_some_and(|reason| reason.contains("datagrams from the Pod")));
    assert_eq!(ask(false, true, [0, 0, 0, 0]).decision, "allowed");
    // TCP on the same port is another thing.
    assert_eq!(ask(true, false, [192, 0, 2, 1]).decision, "denied");
    assert_eq!(ask(false, false, [0, 0, 0, 0]).decision, "denied");
}
