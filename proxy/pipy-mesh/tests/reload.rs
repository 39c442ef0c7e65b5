//! What outlives a change of the configuration, and what begins anew with it; and what is tried at another endpoint. A
//! sidecar on a simulated network, without faults but those that a test makes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipy_http::Method;
use pipy_mesh::{Page, Pages, Plan, Sidecar, Update, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_testkit::{Far, Faults, Listener, Peer, Simulation};
use pipy_worker::{Accepted, App};

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _listener: u32, _method: &Method, _path: &str, _query: Option<&str>) -> Page {
        unreachable!("no one asks")
    }
}

/// Answers every head with the same words, or ends without any.
struct Server {
    words: &'static str,
    heard: Vec<u8>,
}

impl Peer for Server {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.heard.extend_from_slice(bytes);
        match self.heard.ends_with(b"\r\n\r\n") {
            true => {
                self.heard.clear();
                (self.words.into(), self.words.is_empty())
            }
            false => (Vec::new(), false),
        }
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

struct Client(Rc<RefCell<String>>);

impl Peer for Client {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.0.borrow_mut().push_str(&String::from_utf8_lossy(bytes));
        (Vec::new(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const CONNECT: &str = "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const TUNNEL: &str = "HTTP/1.1 200 OK\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

/// Nobody listens there; the others answer.
const DEAD: &str = "10.0.0.1:8080";
const ALIVE: &str = "10.0.0.2:8080";

/// A plan with these endpoints, and more fields of their cluster.
fn plan(version: u32, endpoints: &[&str], more: &str) -> Update {
    let each = endpoints.iter().map(|address| format!(r#"{{"address":"{address}"}}"#));
    let endpoints = each.collect::<Vec<_>>().join(",");
    let route = |methods: &str| {
        format!(
            r#"{{"origin":"o",{methods}"path":{{"prefix":"/"}},"clusters":[{{"cluster":"web","weight":1}}]}}"#
        )
    };
    let (connect, any) = (route(r#""methods":["CONNECT"],"#), route(""));
    let text = format!(
        r#"{{"version":"{version}","outbound":{{"matches":[{{"port":80,"protocol":"http","origin":"o","hosts":[
            {{"names":["*"],"service":"s","origin":"o","routes":[{connect},{any}]}}]}}]}},
            "clusters":{{"web":{{"origin":"o",{more}"endpoints":[{endpoints}]}}}}}}"#
    );
    Update::Plan(Arc::new(Plan::new(pipy_config::parse(text.as_bytes()).expect("valid"))), Vec::new())
}

struct Site {
    world: Simulation<Sidecar>,
    metrics: Arc<Metrics>,
    /// Where connections were attempted.
    attempts: Rc<RefCell<Vec<SocketAddr>>>,
    clients: u16,
}

impl Site {
    fn new(first: Update, words: &'static str) -> Self {
        let start = Instant::now();
        let metrics = Metrics::new(Labels::default());
        let log = LogWriter::to(std::io::sink()).expect("a log");
        let mut app = Sidecar::new(metrics.worker(), log.buffer(), Arc::new(NoPages), start).seeded(1);
        app.update(first);
        let attempts: Rc<RefCell<Vec<SocketAddr>>> = Rc::default();
        let noted = Rc::clone(&attempts);
        let upstream = move |_: usize, to: SocketAddr| {
            noted.borrow_mut().push(to);
            match to.to_string() == DEAD {
                true => Far::Nobody,
                false => Far::Peer(Box::new(Server { words, heard: Vec::new() })),
            }
        };
        let world = Simulation::new(vec![app], 1, start, Faults::default(), upstream);
        Site { world, metrics, attempts, clients: 0 }
    }

    /// What a new client is told, to the end of the first line.
    fn ask(&mut self, words: &str) -> String {
        self.clients += 1;
        let accepted = Accepted {
            peer: SocketAddr::from(([10, 1, 0, 1], 1000 + self.clients)),
            local: "10.1.0.1:15001".parse().expect("an address"),
            destination: "10.96.0.1:80".parse().expect("an address"),
        };
        let heard = Rc::default();
        let to = Listener { node: 0, key: listener::OUTBOUND, accepted };
        self.world.connect(to, Box::new(Client(Rc::clone(&heard))), words.as_bytes());
        while self.world.step() {}
        let heard = heard.borrow();
        heard.lines().next().unwrap_or_default().to_owned()
    }

    /// How often the dead endpoint was called since this was asked last.
    fn called(&self) -> usize {
        self.attempts.take().iter().filter(|to| to.to_string() == DEAD).count()
    }

    fn count(&self, name: &str) -> u64 {
        let name = format!("cluster.web.{name}: ");
        let stats = self.metrics.stats();
        let value = stats.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("a counter").parse().expect("a number")
    }
}

/// An ejection lasts longer than a test.
const HEALTH: &str = r#""health":{"connect_failures":3,"ejection_ms":600000},"#;

#[test]
fn who_is_ejected_stays_so_when_the_configuration_changes() {
    let mut site = Site::new(plan(1, &[DEAD, ALIVE], HEALTH), OK);
    while site.count("outlier_detection_ejections_total") == 0 {
        assert_eq!(site.ask(GET), "HTTP/1.1 200 OK");
    }
    assert_eq!(site.called(), 3);
    // The same cluster, then one with another endpoint, another order, and other limits and waiting times.
    let more = r#""limits":{"requests_max":9},"health":{"connect_failures":1,"ejection_ms":5},"#;
    for (version, endpoints, fields) in [
        (2, vec![DEAD, ALIVE], HEALTH),
        (3, vec!["10.0.0.3:8080", ALIVE, DEAD], HEALTH),
        (4, vec![DEAD, ALIVE], more),
    ] {
        site.world.update(0, plan(version, &endpoints, fields));
        for _ in 0..6 {
            assert_eq!(site.ask(GET), "HTTP/1.1 200 OK");
        }
        assert_eq!(site.called(), 0, "version {version}");
    }
    assert_eq!(site.count("outlier_detection_ejections_total"), 1);
    // One that had left is another one when it comes back.
    site.world.update(0, plan(5, &[ALIVE], HEALTH));
    site.world.update(0, plan(6, &[DEAD, ALIVE], HEALTH));
    for _ in 0..2 {
        assert_eq!(site.ask(GET), "HTTP/1.1 200 OK");
    }
    assert_eq!(site.called(), 1);
}

#[test]
fn an_ejection_ends_in_its_time_whatever_was_changed_meanwhile() {
    let mut site = Site::new(plan(1, &[DEAD, ALIVE], HEALTH), OK);
    while site.count("outlier_detection_ejections_total") == 0 {
        site.ask(GET);
    }
    site.called();
    site.world.update(0, plan(2, &[DEAD, ALIVE], HEALTH));
    site.world.pass(Duration::from_secs(601));
    for _ in 0..4 {
        assert_eq!(site.ask(GET), "HTTP/1.1 200 OK");
    }
    assert_eq!(
        (site.called(), site.count("outlier_detection_ejections_total")),
        (1, 2),
        "one request to see, and again"
    );
}

/// Two errors open it, for longer than a test; the last number is the status that is answered.
fn breaker(window_ms: u32) -> String {
    format!(
        r#""circuit_breaker":{{"origin":"o","window_ms":{window_ms},"open_ms":600000,"error_amount":2,"status":503}},"#
    )
}

#[test]
fn an_open_breaker_stays_open_until_its_own_numbers_change() {
    let mut site = Site::new(plan(1, &[ALIVE], &breaker(60_000)), ERROR);
    for _ in 0..2 {
        assert_eq!(site.ask(GET), "HTTP/1.1 500 Internal Server Error");
    }
    assert_eq!(site.ask(GET), "HTTP/1.1 503 Service Unavailable");
    for (version, endpoints) in [(2, [ALIVE]), (3, ["10.0.0.3:8080"])] {
        site.world.update(0, plan(version, &endpoints, &breaker(60_000)));
        assert_eq!(site.ask(GET), "HTTP/1.1 503 Service Unavailable", "version {version}");
        assert_eq!(site.count("circuit_breaker_open"), 1);
    }
    // Another breaker has counted nothing yet; none has nothing to count.
    for (version, more) in [(4, breaker(30_000)), (5, String::new())] {
        site.world.update(0, plan(version, &[ALIVE], &more));
        assert_eq!(site.count("circuit_breaker_open"), 0);
        assert_eq!(site.ask(GET), "HTTP/1.1 500 Internal Server Error", "version {version}");
    }
}

#[test]
fn tunnels_that_nobody_has_heard_of_are_asked_for_elsewhere() {
    for (words, answer, first) in
        [(WEBSOCKET, SWITCHED, "HTTP/1.1 101 Switching Protocols"), (CONNECT, TUNNEL, "HTTP/1.1 200 OK")]
    {
        let mut site = Site::new(plan(1, &[DEAD, ALIVE], ""), answer);
        for _ in 0..2 {
            assert_eq!(site.ask(words), first);
        }
        assert_eq!((site.called(), site.count("upstream_cx_connect_fail")), (1, 1));
        // Where there is no other, the client is told.
        let mut site = Site::new(plan(1, &[DEAD], ""), answer);
        assert_eq!(site.ask(words), "HTTP/1.1 502 Bad Gateway");
    }
}

#[test]
fn a_policy_of_retries_tries_them_again_only_while_nobody_has_heard_of_them() {
    let retry = r#""retry":{"origin":"o","connect_failure":true,"reset":true,"retries_max":3},"#;
    for words in [WEBSOCKET, CONNECT] {
        let mut unreachable = Site::new(plan(1, &[DEAD], retry), "");
        assert_eq!(unreachable.ask(words), "");
        // The pauses between retries.
        unreachable.world.pass(Duration::from_secs(10));
        while unreachable.world.step() {
            unreachable.world.pass(Duration::from_secs(1));
        }
        assert_eq!((unreachable.called(), unreachable.count("upstream_rq_retry")), (4, 3));
        let mut breaks = Site::new(plan(1, &[ALIVE], retry), "");
        assert_eq!(breaks.ask(words), "HTTP/1.1 502 Bad Gateway");
        assert_eq!((breaks.attempts.borrow().len(), breaks.count("upstream_rq_retry")), (1, 0));
    }
}
