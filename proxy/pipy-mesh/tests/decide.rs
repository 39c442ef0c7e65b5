//! Decisions: tables for each rule of the contract, and a naive reading of the contract that must agree with the real one
//! on thousands of small configurations.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pipy_config::{HostRule, Path, ProxyConfig};
use pipy_http::{Headers, Method};
use pipy_mesh::decide::{self, Caller, Decision, InboundConnection, OutboundConnection, Refusal, Request};
use pipy_mesh::{HostTable, Plan, RoutePlan};
use pipy_testkit::Dice;
use serde_json::{Value, json};

const A: &str = "spiffe://cluster.local/ns/a/sa/a";
const B: &str = "spiffe://cluster.local/ns/b/sa/b";
const C: &str = "spiffe://cluster.local/ns/c/sa/c";

fn config(hosts: &Value) -> ProxyConfig {
    let text = json!({
        "version": "1",
        "inbound": {"matches": [{"port": 80, "protocol": "http", "origin": "Service/x/y", "hosts": hosts}]},
        "clusters": {"c": {"origin": "Service/x/y"}},
    });
    pipy_config::parse(text.to_string().as_bytes()).expect("a valid configuration")
}

fn route(origin: &str, path: &Value, allowed: &Value) -> Value {
    json!({"origin": origin, "path": path, "allowed": allowed, "clusters": [{"cluster": "c", "weight": 1}]})
}

fn host(names: &[&str], routes: &[Value]) -> Value {
    json!({"names": names, "service": "x/y", "origin": "Service/x/y", "routes": routes})
}

fn allow(identities: &[&str]) -> Value {
    identities.iter().map(|i| json!({"identity": i, "origin": format!("TrafficTarget/{i}")})).collect()
}

struct Ask<'a> {
    authority: &'a str,
    method: &'a str,
    target: &'a str,
    headers: &'a [(&'a str, &'a str)],
    caller: Caller<'a>,
}

const ASK: Ask<'static> =
    Ask { authority: "shop", method: "GET", target: "/", headers: &[], caller: Caller::Member(A) };

/// What was decided: the route's origin or the refusal; the origin that is logged; who allowed it.
type Told = (Result<String, Refusal>, Option<String>, Option<String>);

fn told(decision: &Decision<'_, Arc<RoutePlan>>) -> Told {
    let text = |origin: Option<&Arc<str>>| origin.map(ToString::to_string);
    (decision.verdict.map(|route| route.origin.to_string()), text(decision.origin), text(decision.allowed_by))
}

fn ask(hosts: &HostTable, ask: &Ask<'_>) -> Told {
    let mut headers = Headers::default();
    for (name, value) in ask.headers {
        headers.append(*name, *value).expect("a valid header");
    }
    let method = Method::from_bytes(ask.method.as_bytes()).expect("a valid method");
    let path = ask.target.split('?').next().unwrap_or_default();
    told(&decide::request(
        hosts,
        Request {
            authority: ask.authority,
            port: 80,
            method: &method,
            path: path.as_bytes(),
            path_and_query: ask.target.as_bytes(),
            headers: &headers,
        },
        ask.caller,
    ))
}

fn decided(config: ProxyConfig, question: &Ask<'_>) -> Told {
    let plan = Plan::new(config);
    ask(&plan.inbound.as_ref().expect("inbound")[&80].hosts, question)
}

#[test]
fn hosts_are_found_with_and_without_the_port_that_was_dialled() {
    let any = route("any", &json!({"prefix": "/"}), &Value::Null);
    let hosts = json!([
        host(&["shop", "shop:8080"], std::slice::from_ref(&any)),
        host(&["other:80"], std::slice::from_ref(&any)),
        host(&["[::1]"], std::slice::from_ref(&any)),
    ]);
    for (authority, found) in [
        ("shop", true),
        ("shop:80", true),
        ("shop:8080", true),
        ("shop:81", false),
        ("shop.", false),
        ("other", false),
        ("other:80", true),
        ("[::1]", true),
        ("[::1]:80", true),
        ("[::1]:81", false),
        ("", false),
    ] {
        let (verdict, ..) = decided(config(&hosts), &Ask { authority, ..ASK });
        assert_eq!(verdict.is_ok(), found, "{authority:?}");
        if !found {
            assert_eq!(verdict, Err(Refusal::NoHost), "{authority:?}");
        }
    }
}

#[test]
fn the_first_host_that_names_it_is_taken_and_the_star_comes_last() {
    let named = |origin| route(origin, &json!({"prefix": "/"}), &Value::Null);
    let hosts = json!([
        host(&["*"], &[named("star")]),
        host(&["shop"], &[named("first")]),
        host(&["shop", "*"], &[named("second")]),
    ]);
    assert_eq!(decided(config(&hosts), &ASK).0, Ok("first".into()));
    assert_eq!(decided(config(&hosts), &Ask { authority: "else", ..ASK }).0, Ok("star".into()));
}

#[test]
fn paths_fit_as_the_contract_says() {
    for (path, target, fits) in [
        (json!({"exact": "/a"}), "/a", true),
        (json!({"exact": "/a"}), "/a?b", true),
        (json!({"exact": "/a"}), "/a/", false),
        (json!({"exact": "/a"}), "/A", false),
        (json!({"prefix": "/a"}), "/a", true),
        (json!({"prefix": "/a"}), "/a/b", true),
        (json!({"prefix": "/a"}), "/a?x", true),
        (json!({"prefix": "/a"}), "/ab", false),
        (json!({"prefix": "/a/"}), "/a", true),
        (json!({"prefix": "/a/"}), "/a/b", true),
        (json!({"prefix": "/a/"}), "/ab", false),
        (json!({"prefix": "/"}), "/anything", true),
        (json!({"prefix": "/"}), "*", true),
        (json!({"regex": "b"}), "/abc", true),
        (json!({"regex": "^b"}), "/abc", false),
        (json!({"regex": "^/a$"}), "/a", true),
        (json!({"regex": "^/a$"}), "/a?b", false),
        (json!({"regex": "q=1$"}), "/a?q=1", true),
        (json!({"regex": ".*"}), "/", true),
        (json!({"regex": ""}), "/", true),
    ] {
        let hosts = json!([host(&["*"], &[route("r", &path, &Value::Null)])]);
        let verdict = decided(config(&hosts), &Ask { target, ..ASK }).0;
        assert_eq!(verdict.is_ok(), fits, "{path} {target}");
        if !fits {
            assert_eq!(verdict, Err(Refusal::NoRoute));
        }
    }
}

#[test]
fn methods_and_headers_must_all_fit() {
    let with = |more: Value| {
        let mut route = route("r", &json!({"prefix": "/"}), &Value::Null);
        route.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        config(&json!([host(&["*"], &[route])]))
    };
    let methods = json!({"methods": ["GET", "PURGE"]});
    for (method, fits) in [("GET", true), ("PURGE", true), ("POST", false), ("get", false)] {
        assert_eq!(decided(with(methods.clone()), &Ask { method, ..ASK }).0.is_ok(), fits, "{method}");
    }
    // A tunnel is not "any method".
    for (methods, fits) in [(json!([]), false), (json!(["GET"]), false), (json!(["CONNECT"]), true)] {
        let told = decided(with(json!({"methods": methods})), &Ask { method: "CONNECT", ..ASK });
        assert_eq!(told.0.is_ok(), fits);
    }
    type Case = (&'static str, &'static [(&'static str, &'static str)], bool);
    let cases: [Case; 10] = [
        ("gold", &[("x-kind", "gold")], true),
        ("gold", &[("X-KIND", "golden")], true),
        ("^gold$", &[("x-kind", "golden")], false),
        ("gold", &[], false),
        // An absent header has the empty value.
        ("^$", &[], true),
        (".*", &[], true),
        ("^$", &[("x-kind", "a")], false),
        // Each value by itself: none may smuggle what another refuses.
        ("gold", &[("x-kind", "gold"), ("x-kind", "lead")], false),
        ("gold", &[("x-kind", "gold"), ("x-kind", "more gold")], true),
        ("^[^,]*$", &[("x-kind", "a,b")], false),
    ];
    for (regex, headers, fits) in cases {
        let header = json!({"headers": [{"name": "x-kind", "regex": regex}]});
        let verdict = decided(with(header), &Ask { headers, ..ASK }).0;
        assert_eq!(verdict.is_ok(), fits, "{regex} {headers:?}");
    }
}

#[test]
fn the_first_route_that_fits_and_allows_decides() {
    let any = json!({"prefix": "/"});
    let hosts = json!([host(
        &["*"],
        &[
            route("for-b", &any, &allow(&[B])),
            route("for-a", &any, &allow(&[C, A])),
            route("for-all", &json!({"exact": "/open"}), &Value::Null),
            route("for-none", &json!({"exact": "/closed"}), &json!([])),
        ],
    )]);
    let target = |identity: &str| Some(format!("TrafficTarget/{identity}"));
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(decided(config(&hosts), &ASK), (Ok("for-a".into()), some("for-a"), target(A)));
    let b = Ask { caller: Caller::Member(B), ..ASK };
    assert_eq!(decided(config(&hosts), &b), (Ok("for-b".into()), some("for-b"), target(B)));
    let stranger = Caller::Member("spiffe://elsewhere/x");
    let open = Ask { caller: stranger, target: "/open", ..ASK };
    assert_eq!(decided(config(&hosts), &open), (Ok("for-all".into()), some("for-all"), None));
    // The first that fitted names the refusal.
    let denied = Ask { caller: stranger, ..ASK };
    assert_eq!(decided(config(&hosts), &denied), (Err(Refusal::NotAllowed), some("for-b"), None));
    let unknown = Ask { caller: Caller::Unknown, ..ASK };
    assert_eq!(decided(config(&hosts), &unknown), (Err(Refusal::NoIdentity), some("for-b"), None));
    let unknown = Ask { caller: Caller::Unknown, target: "/open", ..ASK };
    assert_eq!(decided(config(&hosts), &unknown).0, Ok("for-all".into()));
    let admitted = Ask { caller: Caller::Admitted, ..ASK };
    assert_eq!(decided(config(&hosts), &admitted), (Ok("for-b".into()), some("for-b"), None));
    // Whoever a source rule knows and does not believe may not even what everyone may.
    let disbelieved = Ask { caller: Caller::Stranger(Refusal::NotAllowed), target: "/open", ..ASK };
    assert_eq!(decided(config(&hosts), &disbelieved), (Err(Refusal::NotAllowed), some("for-b"), None));
}

#[test]
fn an_empty_allow_list_allows_no_one_and_its_absence_everyone() {
    let any = json!({"prefix": "/"});
    for (allowed, fits) in
        [(Value::Null, true), (json!([]), false), (allow(&[A]), true), (allow(&[B]), false)]
    {
        let hosts = json!([host(&["*"], &[route("r", &any, &allowed)])]);
        assert_eq!(decided(config(&hosts), &ASK).0.is_ok(), fits, "{allowed}");
    }
}

#[test]
fn connections_are_decided_by_their_original_destination() {
    let rule = |port: u16, destinations: &[&str], origin: &str| json!({"port": port, "destinations": destinations, "protocol": "http", "origin": origin, "hosts": []});
    let text = |unmatched: &str| {
        json!({
            "version": "1",
            "inbound": {"matches": [
                {"port": 80, "protocol": "http", "origin": "in", "hosts": [], "sources": [
                    {"cidrs": ["10.1.0.0/16"], "origin": "IngressBackend/a/b"},
                    {"cidrs": ["10.2.0.0/16"], "origin": "IngressBackend/a/c", "mtls": true}
                ]},
                {"port": 81, "protocol": "http", "origin": "off", "hosts": [], "mtls": "disabled"}
            ]},
            "outbound": {"unmatched": unmatched, "matches": [
                rule(80, &[], "any"), rule(80, &["10.0.0.0/8", "fd00::/8"], "ten"), rule(81, &["10.0.0.1/32"], "one")
            ]}
        })
    };
    let plan = |unmatched| {
        let bytes = text(unmatched).to_string();
        Plan::new(pipy_config::parse(bytes.as_bytes()).expect("valid"))
    };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    for (to, found) in [
        ("10.9.9.9:80", Some("ten")),
        ("[fd00::1]:80", Some("ten")),
        ("192.0.2.1:80", Some("any")),
        ("10.0.0.1:81", Some("one")),
        ("10.0.0.2:81", None),
        ("10.0.0.1:82", None),
    ] {
        for unmatched in ["refuse", "passthrough"] {
            let plan = plan(unmatched);
            let got = match decide::outbound_connection(&plan, address(to)) {
                OutboundConnection::Match(rule) => Some(rule.origin.to_string()),
                OutboundConnection::Passthrough => {
                    assert_eq!(unmatched, "passthrough");
                    None
                }
                OutboundConnection::Refuse(refusal) => {
                    assert_eq!((unmatched, refusal), ("refuse", Refusal::EgressClosed));
                    None
                }
            };
            assert_eq!(got.as_deref(), found, "{to}");
        }
    }
    let plan = plan("refuse");
    for (port, peer, expected) in [
        (80, "10.3.0.1", "member in"),
        (80, "10.1.0.1", "source IngressBackend/a/b"),
        (80, "10.2.0.1", "source IngressBackend/a/c"),
        (81, "10.1.0.1", "plain off"),
        (82, "10.1.0.1", "refuse no_match"),
    ] {
        let peer: IpAddr = peer.parse().expect("an address");
        let got = match decide::inbound_connection(&plan, address(&format!("10.0.0.1:{port}")), peer) {
            InboundConnection::Member(rule) => format!("member {}", rule.origin),
            InboundConnection::Plain(rule) => format!("plain {}", rule.origin),
            InboundConnection::Source(_, sources) => {
                let origins: Vec<_> = sources.iter().map(|source| &*source.origin).collect();
                format!("source {}", origins.join(" "))
            }
            InboundConnection::Refuse(refusal) => format!("refuse {}", refusal.label()),
        };
        assert_eq!(got, expected);
    }
}

#[test]
fn what_is_excluded_is_carried_to_where_it_was_meant_to_go() {
    let plan = |exclusions: &str| {
        let json = format!(
            r#"{{"version":"1","exclusions":{exclusions},"outbound":{{"matches":[{{"port":80,"protocol":"http","origin":"svc",
            "destinations":["10.0.0.0/8"],"hosts":[]}}]}}}}"#
        );
        Plan::new(pipy_config::parse(json.as_bytes()).expect("valid"))
    };
    let excluded = |plan: &Plan, to: &str| {
        let to = to.parse::<SocketAddr>().expect("an address");
        matches!(decide::outbound_connection(plan, to), OutboundConnection::Passthrough)
    };
    let none = plan("{}");
    assert!(!excluded(&none, "10.0.0.1:80") && !excluded(&none, "192.0.2.1:443"));
    let ports = plan(r#"{"ports":[80]}"#);
    assert!(excluded(&ports, "10.0.0.1:80") && excluded(&ports, "[fd00::1]:80"));
    assert!(!excluded(&ports, "10.0.0.1:81"));
    let ranges = plan(r#"{"destinations":["10.1.0.0/16","fd00::/8"]}"#);
    assert!(excluded(&ranges, "10.1.2.3:80") && excluded(&ranges, "[fd00::1]:1"));
    assert!(!excluded(&ranges, "10.2.0.1:80"));
    let all_but = plan(r#"{"all_but":["10.1.0.0/16"],"ports":[9]}"#);
    assert!(excluded(&all_but, "10.2.0.1:80") && excluded(&all_but, "10.1.0.1:9"));
    assert!(!excluded(&all_but, "10.1.0.1:80"));
}

#[test]
fn exclusions_alone_open_the_outbound_listener() {
    let plan = |json: &[u8]| Plan::new(pipy_config::parse(json).expect("valid"));
    assert!(plan(br#"{"version":"1"}"#).outbound.is_none());
    let open = plan(br#"{"version":"1","exclusions":{"ports":[5432]}}"#);
    let to = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert!(matches!(
        decide::outbound_connection(&open, to("192.0.2.1:5432")),
        OutboundConnection::Passthrough
    ));
    assert!(matches!(decide::outbound_connection(&open, to("192.0.2.1:80")), OutboundConnection::Refuse(_)));
}

/// A port for both transports, a client of UDP by its address, and a Service of UDP; egress is closed.
fn datagrams(allowed: &Value, unmatched: &str) -> Plan {
    let rule = |origin: &str, allowed: &Value| json!({"origin": origin, "service": "a/b", "allowed": allowed, "clusters": [{"cluster": "c", "weight": 1}]});
    let source = json!({"cidrs": ["10.244.0.7/32", "fd00::7/128"], "origin": "TrafficTarget/a/t"});
    let text = json!({
        "version": "1",
        "inbound": {"matches": [
            {"port": 53, "protocol": "tcp", "origin": "Service/a/b", "tcp": rule("TCPRoute/a/b", &json!([]))},
            {"port": 53, "protocol": "udp", "origin": "Service/a/b", "sources": [source], "tcp": rule("UDPRoute/a/b", allowed)},
        ]},
        "outbound": {"unmatched": unmatched, "matches": [
            {"port": 53, "protocol": "udp", "destinations": ["10.96.0.1/32"], "origin": "Service/a/b", "tcp": rule("UDPRoute/a/b", &Value::Null)},
        ]},
        "exclusions": {"ports": [123]},
        "clusters": {"c": {"origin": "Service/a/b", "endpoints": [{"address": "10.244.0.5:53"}]}},
    });
    Plan::new(pipy_config::parse(text.to_string().as_bytes()).expect("a valid configuration"))
}

#[test]
fn datagrams_are_taken_from_the_addresses_that_are_named_and_from_everyone_where_everyone_may() {
    let to = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let from = |text: &str| text.parse::<IpAddr>().expect("an address");
    let strict = datagrams(&json!([]), "refuse");
    for (peer, port, expected) in [
        ("10.244.0.7", 53, Ok(Some("TrafficTarget/a/t"))),
        ("fd00::7", 53, Ok(Some("TrafficTarget/a/t"))),
        ("10.244.0.8", 53, Err(Refusal::AddressNotAllowed)),
        ("fd00::8", 53, Err(Refusal::AddressNotAllowed)),
        // An address of the one family that is written in the other is another address.
        ("::ffff:10.244.0.7", 53, Err(Refusal::AddressNotAllowed)),
        ("10.244.0.7", 54, Err(Refusal::NoMatch)),
    ] {
        let found = decide::inbound_datagrams(&strict, to(&format!("10.244.0.5:{port}")), from(peer));
        assert_eq!(
            found.map(|(_, by)| by.map(|by| &**by)).map_err(|(refusal, _)| refusal),
            expected,
            "{peer} {port}"
        );
    }
    let open = datagrams(&Value::Null, "refuse");
    assert!(decide::inbound_datagrams(&open, to("10.244.0.5:53"), from("192.0.2.1")).is_ok());
    // The rule for UDP says nothing about connections.
    assert!(matches!(
        decide::inbound_connection(&strict, to("10.244.0.5:53"), from("10.244.0.7")),
        InboundConnection::Member(rule) if rule.tcp.as_ref().is_some_and(|tcp| &*tcp.origin == "TCPRoute/a/b")
    ));
}

#[test]
fn datagrams_go_by_rules_of_their_own_transport() {
    let to = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let plan = datagrams(&json!([]), "refuse");
    assert!(matches!(decide::outbound_datagrams(&plan, to("10.96.0.1:53")), OutboundConnection::Match(_)));
    assert!(matches!(decide::outbound_connection(&plan, to("10.96.0.1:53")), OutboundConnection::Refuse(_)));
    assert!(matches!(decide::outbound_datagrams(&plan, to("10.96.0.2:53")), OutboundConnection::Refuse(_)));
    assert!(matches!(
        decide::outbound_datagrams(&plan, to("10.96.0.2:123")),
        OutboundConnection::Passthrough
    ));
    let open = datagrams(&json!([]), "passthrough");
    assert!(matches!(decide::outbound_datagrams(&open, to("10.96.0.2:53")), OutboundConnection::Passthrough));
}

#[test]
fn a_refusal_has_words_of_its_own() {
    use std::collections::BTreeSet;
    let all = [
        Refusal::NoMatch,
        Refusal::EgressClosed,
        Refusal::NoHost,
        Refusal::NoRoute,
        Refusal::NotAllowed,
        Refusal::AddressNotAllowed,
        Refusal::NoIdentity,
        Refusal::BadPath,
        Refusal::NoMutualTls,
        Refusal::NoCredentials,
    ];
    assert_eq!(all.map(Refusal::label).into_iter().collect::<BTreeSet<_>>().len(), all.len());
    assert_eq!(all.map(Refusal::words).into_iter().collect::<BTreeSet<_>>().len(), all.len());
}

/// The contract, read as plainly as possible, from the configuration itself.
fn oracle(hosts: &[HostRule], question: &Ask<'_>) -> Told {
    let names = |rule: &HostRule, name: &str| rule.names.iter().any(|n| n == name);
    let without_port = question.authority.strip_suffix(":80");
    let rule = hosts
        .iter()
        .find(|rule| names(rule, question.authority))
        .or_else(|| without_port.and_then(|name| hosts.iter().find(|rule| names(rule, name))))
        .or_else(|| hosts.iter().find(|rule| names(rule, "*")));
    let Some(rule) = rule else { return (Err(Refusal::NoHost), None, None) };
    let path = question.target.split('?').next().unwrap_or_default();
    let mut first = None;
    for route in &rule.routes {
        let path_fits = match &route.path {
            Path::Exact(exact) => path == exact,
            Path::Prefix(prefix) => {
                let wanted: Vec<_> = prefix.split('/').filter(|s| !s.is_empty()).collect();
                let got: Vec<_> = path.split('/').skip(1).collect();
                got.starts_with(&wanted)
            }
            Path::Regex(regex) => regex::Regex::new(regex).expect("valid").is_match(question.target),
        };
        let any = route.methods.is_empty() && question.method != "CONNECT";
        let method_fits = any || route.methods.iter().any(|m| m == question.method);
        let headers_fit = route.headers.iter().all(|header| {
            let regex = regex::Regex::new(&header.regex).expect("valid");
            let values: Vec<_> =
                question.headers.iter().filter(|(name, _)| *name == header.name).map(|(_, v)| *v).collect();
            if values.is_empty() { regex.is_match("") } else { values.iter().all(|v| regex.is_match(v)) }
        });
        if !(path_fits && method_fits && headers_fit) {
            continue;
        }
        let origin = Some(route.origin.clone());
        match (&route.allowed, question.caller) {
            (_, Caller::Stranger(_) | Caller::Bounded(_)) => {}
            (None, _) | (Some(_), Caller::Admitted) => return (Ok(route.origin.clone()), origin, None),
            (Some(list), Caller::Member(identity)) => {
                if let Some(by) = list.iter().rev().find(|by| by.identity == identity) {
                    return (Ok(route.origin.clone()), origin, Some(by.origin.clone()));
                }
            }
            (Some(_), Caller::Unknown) => {}
        }
        first.get_or_insert(route.origin.clone());
    }
    match first {
        None => (Err(Refusal::NoRoute), Some(rule.origin.clone()), None),
        some if question.caller == Caller::Unknown => (Err(Refusal::NoIdentity), some, None),
        some => (Err(Refusal::NotAllowed), some, None),
    }
}

fn random_hosts(dice: &mut Dice) -> Value {
    let paths = [
        json!({"prefix": "/"}),
        json!({"prefix": "/a"}),
        json!({"prefix": "/a/b/"}),
        json!({"exact": "/a"}),
        json!({"exact": "/a/b"}),
        json!({"regex": "b"}),
        json!({"regex": "^/a(\\?|$)"}),
        json!({"regex": ".*"}),
    ];
    let names = ["shop", "shop:80", "shop:81", "*", "other", "other:80"];
    let allowed = [Value::Null, json!([]), allow(&[A]), allow(&[B]), allow(&[A, B])];
    let headers = [json!([]), json!([{"name": "x", "regex": "^1"}]), json!([{"name": "x", "regex": "^$"}])];
    let methods = [json!([]), json!([]), json!(["GET"]), json!(["POST", "PUT"]), json!(["CONNECT"])];
    let mut serial = 0;
    let hosts: Vec<_> = (0..1 + dice.below(3))
        .map(|number| {
            let routes: Vec<_> = (0..dice.below(5))
                .map(|_| {
                    serial += 1;
                    let mut made =
                        route(&format!("route-{serial}"), &dice.pick(&paths), &dice.pick(&allowed));
                    made["headers"] = dice.pick(&headers);
                    made["methods"] = dice.pick(&methods);
                    made
                })
                .collect();
            let first = dice.pick(&names);
            let mut made = host(&[first, dice.pick(&names)], &routes);
            made["origin"] = json!(format!("host-{number}"));
            made
        })
        .collect();
    Value::Array(hosts)
}

#[test]
fn decisions_agree_with_a_naive_reading_of_the_contract() {
    let authorities = ["shop", "shop:80", "shop:81", "other", "other:80", "else", "else:80", ""];
    let targets = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a?b", "/c?a", "/b"];
    let callers =
        [Caller::Member(A), Caller::Member(B), Caller::Member(C), Caller::Admitted, Caller::Unknown];
    let headers: [&[(&str, &str)]; 4] = [&[], &[("x", "1")], &[("x", "2")], &[("x", "1"), ("x", "2")]];
    let mut allowed = 0;
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let parsed = config(&random_hosts(&mut dice));
        let rules = parsed.inbound.clone().expect("inbound").matches.remove(0).hosts;
        let plan = Plan::new(parsed);
        let table = &plan.inbound.as_ref().expect("inbound")[&80].hosts;
        for _ in 0..50 {
            let question = Ask {
                authority: dice.pick(&authorities),
                method: dice.pick(&["GET", "GET", "POST", "PUT", "CONNECT"]),
                target: dice.pick(&targets),
                headers: dice.pick(&headers),
                caller: dice.pick(&callers),
            };
            let (real, naive) = (ask(table, &question), oracle(&rules, &question));
            allowed += usize::from(real.0.is_ok());
            assert_eq!(
                real, naive,
                "seed {seed}: {} {} {} {:?} by {:?} under {rules:#?}",
                question.method, question.authority, question.target, question.headers, question.caller
            );
        }
    }
    // The test would say nothing if everything were refused, or nothing.
    assert!((750..9_250).contains(&allowed), "{allowed} of 10000 allowed");
}
