//! Clients outside of the mesh: whom source rules let in, on which routes, and a naive reading of the contract that must
//! agree with the real one on thousands of small configurations.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pipy_config::{ProxyConfig, SourceRule};
use pipy_http::{Headers, Method};
use pipy_mesh::Plan;
use pipy_mesh::decide::{self, InboundConnection, Proof, Refusal, Request, SourcePlan};
use pipy_testkit::Dice;
use serde_json::{Value, json};

const MEMBER: &str = "spiffe://cluster.local/ns/a/sa/a";
const OTHER: &str = "spiffe://cluster.local/ns/b/sa/b";

fn config(sources: &Value, allowed: &[Value]) -> ProxyConfig {
    let routes: Vec<_> = (0..)
        .zip(allowed)
        .map(|(number, allowed)| {
            json!({"origin": format!("HTTPRouteGroup/a/g#{number}"), "path": {"exact": format!("/{number}")},
                "allowed": allowed, "clusters": [{"cluster": "c", "weight": 1}]})
        })
        .collect();
    let text = json!({
        "version": "1",
        "inbound": {"matches": [{"port": 80, "protocol": "http", "origin": "Service/a/b", "sources": sources, "hosts": [
            {"names": ["*"], "service": "a/b", "origin": "Service/a/b", "routes": routes}
        ]}]},
        "clusters": {"c": {"origin": "Service/a/b"}},
    });
    pipy_config::parse(text.to_string().as_bytes()).expect("a valid configuration")
}

fn covering(plan: &Plan, peer: IpAddr) -> Vec<Arc<SourcePlan>> {
    match decide::inbound_connection(plan, "10.0.0.1:80".parse::<SocketAddr>().expect("an address"), peer) {
        InboundConnection::Source(_, sources) => sources,
        InboundConnection::Member(_) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// The object that allows a request, or why nobody does.
fn ask(plan: &Plan, sources: &[Arc<SourcePlan>], proof: Proof<'_>, path: &str) -> Result<String, Refusal> {
    let headers = Headers::default();
    let request = Request {
        authority: "b",
        port: 80,
        method: &Method::Get,
        path: path.as_bytes(),
        path_and_query: path.as_bytes(),
        headers: &headers,
    };
    let hosts = &plan.inbound.as_ref().expect("inbound")[&80].hosts;
    let decision = decide::request(hosts, request, decide::caller(sources, proof));
    decision.verdict.map(|_| decision.allowed_by.map(ToString::to_string).unwrap_or_default())
}

fn bounded() -> Plan {
    let sources = json!([
        {"cidrs": ["192.0.2.0/24"], "origin": "IngressBackend/a/get", "routes": ["HTTPRouteGroup/a/g#0"]},
        {"cidrs": ["192.0.2.7/32"], "origin": "AccessControl/a/more", "routes": ["HTTPRouteGroup/a/g#1"]},
        {"cidrs": ["192.0.2.8/32"], "origin": "AccessControl/a/all"},
        {"cidrs": ["198.51.100.0/24"], "origin": "AccessControl/a/named", "mtls": true,
            "principals": ["edge.example"], "server_names": ["b.example", "*.b.example"], "routes": ["HTTPRouteGroup/a/g#0"]},
        {"cidrs": ["192.0.2.0/24"], "origin": "AccessControl/a/other-speech", "tls": true},
    ]);
    Plan::new(config(&sources, &[json!([]), json!([]), Value::Null]))
}

#[test]
fn a_bounded_rule_lets_in_on_its_routes_alone_and_rules_add_up() {
    let plan = bounded();
    let plain = Proof::default();
    for (peer, answers) in [
        ([192, 0, 2, 1], [Ok("IngressBackend/a/get"), Err(Refusal::OutOfBounds), Err(Refusal::OutOfBounds)]),
        ([192, 0, 2, 7], [Ok("IngressBackend/a/get"), Ok("AccessControl/a/more"), Err(Refusal::OutOfBounds)]),
        ([192, 0, 2, 8], [Ok(""), Ok(""), Ok("")]),
        // Nobody's address: what everyone may.
        ([203, 0, 113, 1], [Err(Refusal::NoIdentity), Err(Refusal::NoIdentity), Ok("")]),
    ] {
        let sources = covering(&plan, peer.into());
        for (number, answer) in (0..).zip(answers) {
            let got = ask(&plan, &sources, plain, &format!("/{number}"));
            assert_eq!(got, answer.map(str::to_owned), "{peer:?} /{number}");
        }
        let nowhere = ask(&plan, &sources, plain, "/9");
        let bounded = matches!(peer[3], 1 | 7) && peer[0] == 192;
        assert_eq!(nowhere, Err(if bounded { Refusal::OutOfBounds } else { Refusal::NoRoute }));
    }
}

#[test]
fn a_certificate_and_a_server_name_must_both_fit() {
    let plan = bounded();
    let sources = covering(&plan, [198, 51, 100, 1].into());
    let names = ["edge.example".to_owned()];
    let strange = ["other.example".to_owned()];
    let proof = Proof { encrypted: true, identity: None, names: &names, server_name: Some("b.example") };
    let allowed = |proof| ask(&plan, &sources, proof, "/0");
    assert_eq!(allowed(proof), Ok("AccessControl/a/named".into()));
    assert_eq!(
        allowed(Proof { server_name: Some("x.y.b.example"), ..proof }),
        Ok("AccessControl/a/named".into())
    );
    for name in [None, Some("example"), Some(".b.example"), Some("xb.example")] {
        assert_eq!(allowed(Proof { server_name: name, ..proof }), Err(Refusal::NoServerName), "{name:?}");
    }
    assert_eq!(allowed(Proof { names: &strange, ..proof }), Err(Refusal::NotAllowed));
    // A member whom the rule does not mean is a member still, and one whom it means is both.
    let member = Proof { identity: Some(MEMBER), ..proof };
    assert_eq!(ask(&plan, &sources, Proof { names: &strange, ..member }, "/2"), Ok(String::new()));
    assert_eq!(ask(&plan, &sources, member, "/0"), Ok("AccessControl/a/named".into()));
    assert_eq!(ask(&plan, &sources, member, "/2"), Ok(String::new()));
    assert_eq!(ask(&plan, &sources, proof, "/2"), Err(Refusal::OutOfBounds));
}

#[test]
fn a_certificate_without_an_identity_makes_no_member() {
    let plan = bounded();
    let names = ["edge.example".to_owned()];
    let proof = Proof { encrypted: true, identity: None, names: &names, server_name: None };
    for path in ["/0", "/2"] {
        assert_eq!(ask(&plan, &[], proof, path), Err(Refusal::NoIdentity), "{path}");
    }
    // Where the mesh's encryption is off, nobody has any, and what everyone may is for all.
    assert_eq!(ask(&plan, &[], Proof::default(), "/2"), Ok(String::new()));
}

#[test]
fn bytes_are_not_let_in_by_a_rule_that_is_bounded_to_routes() {
    let text = json!({
        "version": "1",
        "inbound": {"matches": [
            {"port": 80, "protocol": "http", "origin": "x", "hosts": [], "sources": [
                {"cidrs": ["0.0.0.0/0"], "origin": "AccessControl/a/b", "routes": []}]},
            {"port": 81, "protocol": "tcp", "origin": "y", "tcp": {"origin": "y", "service": "a/b", "allowed": null,
                "clusters": [{"cluster": "c", "weight": 1}]}}]},
        "clusters": {"c": {"origin": "x"}},
    });
    let plan = Plan::new(pipy_config::parse(text.to_string().as_bytes()).expect("valid"));
    let sources = covering(&plan, [192, 0, 2, 1].into());
    let rule = plan.inbound.as_ref().expect("inbound")[&81].tcp.clone().expect("a rule");
    let verdict = |proof| decide::tcp(&rule, decide::caller(&sources, proof)).verdict.map(|_| ()).err();
    assert_eq!(verdict(Proof::default()), Some(Refusal::OutOfBounds));
    assert_eq!(verdict(Proof { identity: Some(MEMBER), ..Proof::default() }), None);
}

struct Asked<'a> {
    peer: IpAddr,
    proof: Proof<'a>,
    route: usize,
}

/// Who may, read as plainly as possible from the configuration itself.
fn oracle(rules: &[SourceRule], allowed: &[Value], asked: &Asked<'_>) -> bool {
    let covers = |rule: &&SourceRule| rule.cidrs.iter().any(|net| net.contains(&asked.peer));
    let Some(first) = rules.iter().find(covers) else {
        let all = allowed[asked.route].is_null();
        return match asked.proof.identity {
            Some(identity) => all || allowed[asked.route].to_string().contains(identity),
            None => all && !asked.proof.encrypted,
        };
    };
    let alike = |rule: &&SourceRule| rule.mtls == first.mtls && rule.tls == first.tls;
    let mut some = false;
    for rule in rules.iter().filter(covers).filter(alike) {
        let known = !rule.mtls
            || rule.principals.is_empty()
            || rule.principals.iter().any(|p| asked.proof.names.contains(p));
        let right = rule.server_names.is_empty()
            || rule.server_names.iter().any(|name| {
                let asked = asked.proof.server_name.unwrap_or_default();
                asked == name
                    || name.strip_prefix('*').is_some_and(|s| asked.len() > s.len() && asked.ends_with(s))
            });
        let on = format!("HTTPRouteGroup/a/g#{}", asked.route);
        some |= known && right && rule.routes.as_ref().is_none_or(|routes| routes.contains(&on));
    }
    let member = asked.proof.identity.is_some_and(|identity| {
        allowed[asked.route].is_null() || allowed[asked.route].to_string().contains(identity)
    });
    some || member
}

#[test]
fn callers_agree_with_a_naive_reading_of_the_contract() {
    let networks = ["192.0.2.0/25", "192.0.2.0/24", "192.0.2.1/32", "0.0.0.0/0"];
    let mut let_in = 0;
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let allow = |who: &str| json!([{"identity": who, "origin": "TrafficTarget/a/t"}]);
        let lists = [Value::Null, json!([]), allow(MEMBER), allow(OTHER)];
        let allowed: Vec<Value> = (0..3).map(|_| dice.pick(&lists)).collect();
        let bounds =
            [Value::Null, json!([]), json!(["HTTPRouteGroup/a/g#0"]), json!(["HTTPRouteGroup/a/g#1", "x"])];
        let sources: Vec<Value> = (0..dice.below(4))
            .map(|number| {
                let speech = dice.below(3);
                let named = [json!([]), json!(["one.example"]), json!(["*.example"])];
                json!({
                    "cidrs": [dice.pick(&networks)], "origin": format!("AccessControl/a/{number}"),
                    "mtls": speech == 1, "tls": speech == 2,
                    "principals": dice.pick(&[json!([]), json!(["edge"]), json!([MEMBER, "core"])]),
                    "server_names": if speech == 0 { json!([]) } else { dice.pick(&named) },
                    "routes": dice.pick(&bounds),
                })
            })
            .collect();
        let parsed = config(&Value::Array(sources), &allowed);
        let rules = parsed.inbound.clone().expect("inbound").matches.remove(0).sources;
        let plan = Plan::new(parsed);
        let names =
            [vec![], vec!["edge".to_owned()], vec![MEMBER.to_owned()], vec!["core".into(), OTHER.into()]];
        for _ in 0..40 {
            let peer: IpAddr = dice.pick(&[[192, 0, 2, 1], [192, 0, 2, 200], [198, 51, 100, 1]]).into();
            let shown = dice.pick(&names);
            let proof = Proof {
                encrypted: dice.below(2) == 0,
                identity: shown.iter().find(|name| name.starts_with("spiffe://")).map(String::as_str),
                names: &shown,
                server_name: dice.pick(&[None, Some("one.example"), Some("two.example"), Some("example")]),
            };
            let asked = Asked { peer, proof, route: dice.below(3) };
            let real = ask(&plan, &covering(&plan, peer), proof, &format!("/{}", asked.route));
            let naive = oracle(&rules, &allowed, &asked);
            assert_eq!(real.is_ok(), naive, "seed {seed}: {peer} {proof:?} {real:?} {rules:#?} {allowed:?}");
            let_in += usize::from(naive);
        }
    }
    // The test would say nothing if everyone were let in, or nobody.
    assert!((1_600..14_400).contains(&let_in), "{let_in} of 16000");
}
