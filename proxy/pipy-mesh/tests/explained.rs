//! What `explain` says of connections and datagrams is what then happens, over random configurations: the same question is
//! asked of the explanation and of a sidecar on a simulated network, whose connection attempts tell where it led.
//!
//! Requests, bytes, TLS that is carried unopened by server name, protocols that are found out, datagrams; from the
//! application, from members who prove themselves by mutual TLS, and from strangers. Plugins that only look on stand in
//! some chains. HTTP in detail (headers, paths, statuses, the lines of the log) is `tests/local/proxy/test_explained.py`.
//!
//! One seed again: `EXPLAIN_SEED=17 cargo test -p pipy-mesh --test explained`. More: `EXPLAIN_SEEDS=5000`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipy_http::Method;
use pipy_mesh::explain::{Explanation, Question, explain};
use pipy_mesh::{Page, Pages, Plan, Sidecar, Update, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_testkit::{Dice, Far, Faults, Listener, Peer, Simulation};
use pipy_tls::Credentials;
use pipy_worker::{Accepted, App};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The sidecar that is asked, and two members that call it.
const IDENTITIES: [&str; 3] = [
    "spiffe://cluster.local/ns/own/sa/own",
    "spiffe://cluster.local/ns/alice/sa/alice",
    "spiffe://cluster.local/ns/bob/sa/bob",
];

/// What is spoken on which port, from the application and to it.
const OUTBOUND: [(u16, &str); 5] = [(80, "http"), (90, "tcp"), (85, "auto"), (443, "tls"), (53, "udp")];
const INBOUND: [(u16, &str); 4] = [(8080, "http"), (9090, "tcp"), (8585, "auto"), (5353, "udp")];

const NAMES: [&str; 3] = ["a.shop", "b.shop", "other"];

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _listener: u32, _method: &Method, _path: &str, _query: Option<&str>) -> Page {
        unreachable!("no one asks")
    }
}

/// Answers requests, and says nothing to anything else.
struct Server;

impl Peer for Server {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let answer: &[u8] =
            if bytes.ends_with(b"\r\n\r\n") { b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { b"" };
        (answer.to_vec(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

struct Client;

impl Peer for Client {
    fn hear(&mut self, _bytes: &[u8]) -> (Vec<u8>, bool) {
        (Vec::new(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

fn credentials(node: usize) -> Credentials {
    static MADE: OnceLock<Vec<Credentials>> = OnceLock::new();
    let make = || {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let member = |uri: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("valid");
            params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ascii"))];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &root).expect("a certificate");
            Credentials::from_pem(&certificate.pem(), &key.serialize_pem(), &root.pem()).expect("credentials")
        };
        IDENTITIES.iter().map(|uri| member(uri)).collect()
    };
    MADE.get_or_init(make)[node].clone()
}

/// The first words of a TLS client that asks for a server.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut words = Vec::new();
    client.write_tls(&mut words).expect("a vector takes all");
    words
}

/// Makes configurations and questions.
struct Maker(Dice);

impl Maker {
    fn often(&mut self, of_ten: usize) -> bool {
        self.0.below(10) < of_ten
    }

    fn shares(&mut self) -> String {
        let count = self.0.below(3);
        let share = |n: usize, dice: &mut Dice| {
            let name = ["a", "b", "c"][n];
            format!(r#"{{"cluster":"{name}","weight":{}}}"#, dice.pick(&[0, 1, 50]))
        };
        let all: Vec<String> = (0..=count).map(|n| share(n, &mut self.0)).collect();
        format!("[{}]", all.join(","))
    }

    fn allowed(&mut self) -> String {
        if self.often(4) {
            return "null".to_owned();
        }
        let each: Vec<String> = (0..3)
            .filter(|_| self.often(4))
            .map(|n| format!(r#"{{"identity":"{}","origin":"TrafficTarget/{n}"}}"#, IDENTITIES[n]))
            .collect();
        format!("[{}]", each.join(","))
    }

    fn tcp(&mut self) -> String {
        let (allowed, shares) = (self.allowed(), self.shares());
        format!(r#"{{"origin":"TCPRoute/t","service":"s","allowed":{allowed},"clusters":{shares}}}"#)
    }

    fn hosts(&mut self) -> String {
        let mut names = vec!["*".to_owned()];
        names.extend(NAMES.map(str::to_owned));
        let names = self.0.pick(&names);
        let route = |maker: &mut Self| {
            let (allowed, shares) = (maker.allowed(), maker.shares());
            let path = maker.0.pick(&["/", "/a", "/b"]);
            format!(
                r#"{{"origin":"Route{path}","path":{{"prefix":"{path}"}},"allowed":{allowed},"clusters":{shares}}}"#
            )
        };
        let routes: Vec<String> = (0..self.0.below(3)).map(|_| route(self)).collect();
        format!(r#"[{{"names":["{names}"],"service":"s","origin":"Host","routes":[{}]}}]"#, routes.join(","))
    }

    /// What a port carries, by what is spoken there.
    fn rules(&mut self, protocol: &str) -> String {
        match protocol {
            "http" => format!(r#""hosts":{}"#, self.hosts()),
            "auto" => format!(r#""hosts":{},"tcp":{}"#, self.hosts(), self.tcp()),
            "tls" => {
                let others = if self.often(5) { format!(r#","tcp":{}"#, self.tcp()) } else { String::new() };
                let name = self.0.pick(&["a.shop", "*.shop", "other"]);
                format!(r#""tls":[{{"names":["{name}"],"tcp":{}}}]{others}"#, self.tcp())
            }
            _ => format!(r#""tcp":{}"#, self.tcp()),
        }
    }

    fn outbound(&mut self) -> String {
        let mut matches = Vec::new();
        for (port, protocol) in OUTBOUND {
            for destinations in [r#"["10.96.0.0/16"]"#, r#"["10.97.0.0/16"]"#, "[]"] {
                if self.often(4) {
                    let rules = self.rules(protocol);
                    matches.push(format!(
                        r#"{{"port":{port},"protocol":"{protocol}","destinations":{destinations},
                            "origin":"Match/{port}",{rules}}}"#
                    ));
                }
            }
        }
        let unmatched = self.0.pick(&["refuse", "passthrough"]);
        format!(r#""outbound":{{"unmatched":"{unmatched}","matches":[{}]}}"#, matches.join(","))
    }

    fn inbound(&mut self) -> (String, BTreeMap<u16, bool>) {
        let (mut matches, mut strict) = (Vec::new(), BTreeMap::new());
        for (port, protocol) in INBOUND {
            if !self.often(9) {
                continue;
            }
            let rules = self.rules(protocol);
            let encrypted = protocol != "udp" && self.often(7);
            strict.insert(port, encrypted);
            let mut sources = Vec::new();
            for cidr in ["10.1.0.0/16", "10.0.1.0/24", "10.0.0.0/8"] {
                if !self.often(2) {
                    continue;
                }
                let mutual = protocol != "udp" && self.often(3);
                let principals =
                    if self.often(5) { format!(r#""{}""#, IDENTITIES[1]) } else { String::new() };
                let principals = if mutual { principals } else { String::new() };
                sources.push(format!(
                    r#"{{"cidrs":["{cidr}"],"origin":"Source/{cidr}","mtls":{mutual},"principals":[{principals}]}}"#
                ));
            }
            let mtls = if encrypted { "strict" } else { "disabled" };
            matches.push(format!(
                r#"{{"port":{port},"protocol":"{protocol}","origin":"Match/{port}","mtls":"{mtls}",
                    "sources":[{}],{rules}}}"#,
                sources.join(",")
            ));
        }
        (format!(r#""inbound":{{"matches":[{}]}}"#, matches.join(",")), strict)
    }

    /// Plugins that stand in the chains and change nothing.
    fn plugins(&mut self) -> String {
        if !self.often(3) {
            return String::new();
        }
        let script = "pipy().pipeline().chain()";
        let chain = |side: &str| {
            let stage = |name: &str| format!(r#""modules/{side}-{name}.js""#);
            let before = ["tls-termination", "http-routing"].map(stage).join(",");
            let after = ["http-load-balancing", "http-default"].map(stage).join(",");
            // The way out has nothing to end.
            let before = before.replace(r#""modules/outbound-tls-termination.js","#, "");
            format!(r#""{side}-http":[{before},"plugins/looks-on.js",{after}]"#)
        };
        format!(
            r#","plugins":[{{"name":"looks-on","origin":"Plugin/looks-on","script":"{script}"}}],
               "chains":{{{},{}}}"#,
            chain("inbound"),
            chain("outbound"),
        )
    }

    fn own(&mut self) -> (String, BTreeMap<u16, bool>) {
        let cluster = |n: usize| {
            let name = ["a", "b", "c"][n];
            format!(
                r#""{name}":{{"origin":"o","limits":{{"requests_per_connection_max":1}},
                    "endpoints":[{{"address":"10.9.0.{n}:1"}}]}}"#
            )
        };
        let clusters: Vec<String> = (0..3).map(cluster).collect();
        let (inbound, strict) = self.inbound();
        let (outbound, plugins) = (self.outbound(), self.plugins());
        let text = format!(
            r#"{{"version":"1","identity":"{}",{inbound},{outbound},"clusters":{{{}}}{plugins}}}"#,
            IDENTITIES[0],
            clusters.join(",")
        );
        (text, strict)
    }
}

/// A member's plan: whatever its application says goes to the same port of the sidecar that is asked, over mutual TLS.
fn member(node: usize) -> Update {
    let each = |what: &dyn Fn(u16) -> String| {
        let all: Vec<String> = INBOUND.iter().map(|(port, _)| what(*port)).collect();
        all.join(",")
    };
    let matches = each(&|port| {
        format!(
            r#"{{"port":{port},"protocol":"tcp","origin":"o","tcp":{{"origin":"o","service":"s",
                "clusters":[{{"cluster":"{port}","weight":1}}]}}}}"#
        )
    });
    let clusters = each(&|port| {
        let own = IDENTITIES[0];
        format!(
            r#""{port}":{{"origin":"o","endpoints":[{{"address":"10.0.0.1:{port}","identity":"{own}"}}]}}"#
        )
    });
    let text = format!(
        r#"{{"version":"1","identity":"{}","outbound":{{"matches":[{matches}]}},"clusters":{{{clusters}}}}}"#,
        IDENTITIES[node]
    );
    Update::Plan(Arc::new(Plan::new(pipy_config::parse(text.as_bytes()).expect("valid"))), Vec::new())
}

/// Who asks, for what, and what is said first.
#[derive(Debug)]
struct Asked {
    question: Question,
    /// The member through whom it is said.
    member: Option<usize>,
    words: Vec<u8>,
}

fn ask(maker: &mut Maker, strict: &BTreeMap<u16, bool>) -> Option<Asked> {
    let inbound = maker.often(5);
    let (port, protocol) = if inbound { maker.0.pick(&INBOUND) } else { maker.0.pick(&OUTBOUND) };
    let datagrams = protocol == "udp";
    let member = (inbound && !datagrams && maker.often(6)).then(|| 1 + maker.0.below(2));
    if member.is_some() && strict.get(&port) == Some(&false) {
        // Members speak plain text there, and prove nothing.
        return None;
    }
    let destination = match inbound {
        true => SocketAddr::from(([10, 0, 0, 1], port)),
        false => SocketAddr::from(([10, maker.0.pick(&[96, 97, 98]), 0, 1], port)),
    };
    let source: SocketAddr = match member {
        Some(node) => SocketAddr::from(([10, 0, node as u8, 1], 4000)),
        None => SocketAddr::from((maker.0.pick(&[[10, 1, 0, 7], [192, 0, 2, 1]]), 4000)),
    };
    let http = protocol == "http" || (protocol == "auto" && maker.often(5));
    let name = (protocol == "tls" && maker.often(7)).then(|| maker.0.pick(&NAMES));
    let (host, path) = (maker.0.pick(&NAMES), maker.0.pick(&["/", "/a", "/b/c"]));
    let words = match (http, name) {
        (true, _) => format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes(),
        (_, Some(name)) => hello(name),
        _ => b"\0bytes".to_vec(),
    };
    let question = Question {
        inbound,
        datagrams,
        destination,
        source: inbound.then(|| source.ip()),
        server_name: name.map(str::to_owned),
        identity: member.map(|node| IDENTITIES[node].to_owned()),
        method: "GET".into(),
        authority: if http { host.to_owned() } else { String::new() },
        target: path.to_owned(),
        headers: Vec::new(),
    };
    Some(Asked { question, member, words })
}

struct Site {
    world: Simulation<Sidecar>,
    /// Where the sidecar that is asked has called.
    called: Rc<RefCell<Vec<SocketAddr>>>,
    log: LogWriter,
    ports: u16,
}

impl Site {
    fn new(seed: u64, plan: Plan) -> Self {
        let start = Instant::now();
        let metrics = Metrics::new(Labels::default());
        let log = LogWriter::to(std::io::sink()).expect("a log");
        let mut plan = Some(Update::Plan(Arc::new(plan), Vec::new()));
        let app = |node: usize| {
            let mut app = Sidecar::new(metrics.worker(), log.buffer(), Arc::new(NoPages), start).seeded(seed);
            app.update(Update::Credentials(0, credentials(node)));
            app.update(plan.take().unwrap_or_else(|| member(node)));
            app
        };
        let called: Rc<RefCell<Vec<SocketAddr>>> = Rc::default();
        let noted = Rc::clone(&called);
        let upstream = move |node: usize, to: SocketAddr| {
            if node == 0 {
                noted.borrow_mut().push(to);
                return Far::Peer(Box::new(Server));
            }
            let peer = SocketAddr::from(([10, 0, node as u8, 1], 4000));
            let accepted =
                Accepted { peer, local: "10.0.0.1:15003".parse().expect("valid"), destination: to };
            Far::Node(Listener { node: 0, key: listener::INBOUND, accepted })
        };
        let apps = (0..3).map(app).collect();
        Site { world: Simulation::new(apps, seed, start, Faults::default(), upstream), called, log, ports: 0 }
    }

    /// Where it led.
    fn happens(&mut self, asked: &Asked) -> Vec<SocketAddr> {
        self.called.take();
        self.ports += 1;
        let question = &asked.question;
        let (node, key) = match asked.member {
            Some(node) => (node, listener::OUTBOUND),
            None => (0, if question.inbound { listener::INBOUND } else { listener::OUTBOUND }),
        };
        let peer = SocketAddr::new(question.source.unwrap_or([10, 0, 0, 1].into()), 5000 + self.ports);
        let local = "10.0.0.1:15001".parse().expect("an address");
        let to =
            Listener { node, key, accepted: Accepted { peer, local, destination: question.destination } };
        if question.datagrams {
            self.world.send(to, &asked.words, || Box::new(Client));
        } else {
            self.world.connect(to, Box::new(Client), &asked.words);
        }
        while self.world.step() {}
        // Who waits for more than was said.
        self.world.pass(Duration::from_secs(5));
        while self.world.step() {}
        self.called.take()
    }
}

/// Compares what was said with what happened; gives the decision.
fn compare(said: &Explanation, called: &[SocketAddr], to: SocketAddr) -> &'static str {
    match said.decision {
        "denied" => assert!(called.is_empty(), "said denied ({:?}), called {called:?}", said.reason),
        "passthrough" => assert_eq!(called, [to]),
        _ if said.clusters.is_empty() => assert!(called.is_empty(), "nothing is there, called {called:?}"),
        _ => {
            assert_eq!(called.len(), 1, "said {said:?}");
            // Weight 0 gets nothing while another has some.
            let some = said.clusters.iter().any(|share| share.weight > 0);
            let may = said.clusters.iter().filter(|share| share.weight > 0 || !some);
            let mut may = may.flat_map(|share| &share.endpoints);
            assert!(may.any(|endpoint| endpoint.address == called[0]), "said {said:?}, called {called:?}");
        }
    }
    said.decision
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn what_is_explained_of_connections_is_what_happens() {
    let only = number("EXPLAIN_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("EXPLAIN_SEEDS").unwrap_or(300),
    };
    let mut outcomes: BTreeMap<(&str, bool, bool, bool), usize> = BTreeMap::new();
    for seed in seeds {
        let mut maker = Maker(Dice::new(seed));
        let (text, strict) = maker.own();
        let plan =
            || Plan::new(pipy_config::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}")));
        let (plan, mut site) = (plan(), Site::new(seed, plan()));
        for _ in 0..25 {
            let Some(asked) = ask(&mut maker, &strict) else { continue };
            let said = explain(&plan, &asked.question).expect("the question can be read");
            let by = said.matched_by.as_deref().unwrap_or_default();
            let plain = by.starts_with("Source/") && asked.question.destination.port() != INBOUND[0].0;
            if asked.member.is_some() && plain {
                // Their TLS is carried there as it is, which the question cannot say.
                continue;
            }
            let called = site.happens(&asked);
            let one = || compare(&said, &called, asked.question.destination);
            let decision =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)).unwrap_or_else(|panic| {
                    eprintln!("again: EXPLAIN_SEED={seed} cargo test -p pipy-mesh --test explained");
                    eprintln!("{asked:?}\nof {text}");
                    std::panic::resume_unwind(panic)
                });
            let Question { inbound, datagrams, .. } = asked.question;
            *outcomes.entry((decision, inbound, datagrams, asked.member.is_some())).or_default() += 1;
        }
        site.log.shutdown();
    }
    eprintln!("{outcomes:?}");
    if only.is_none() {
        for decision in ["allowed", "denied"] {
            for way in [
                (false, false, false),
                (false, true, false),
                (true, false, false),
                (true, true, false),
                (true, false, true),
            ] {
                let key = (decision, way.0, way.1, way.2);
                assert!(outcomes.contains_key(&key), "{key:?} never happens: {outcomes:?}");
            }
        }
        assert!(outcomes.keys().any(|key| key.0 == "passthrough"));
    }
}
