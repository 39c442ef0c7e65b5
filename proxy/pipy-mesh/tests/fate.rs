//! An application ends, and its callers have not heard of it yet: what its sidecar could not bring to it is sent to another
//! endpoint, where that is safe. A caller and two servers on a simulated network, with mutual TLS between the sidecars.
//!
//! Also what is said of clients that leave before their answer is complete.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipy_http::Method;
use pipy_mesh::{Page, Pages, Plan, Sidecar, Update, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_testkit::{Far, Faults, Listener, Peer, Simulation};
use pipy_tls::Credentials;
use pipy_worker::{Accepted, App};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

const CALLER: &str = "spiffe://cluster.local/ns/c/sa/caller";
const SERVER: &str = "spiffe://cluster.local/ns/s/sa/server";

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe begin";
const LIAR: &str = "HTTP/1.1 502 Bad Gateway\r\nfsm-request-fate: unsent\r\ncontent-length: 0\r\n\r\n";

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _listener: u32, _method: &Method, _path: &str, _query: Option<&str>) -> Page {
        unreachable!("no one asks")
    }
}

/// What the first of the two applications does with a request.
#[derive(Debug, Clone, Copy)]
enum First {
    /// Nobody listens any more.
    Gone,
    /// It ends in the middle.
    Ends,
    /// It answers the first request, and ends with the second.
    EndsLater,
    /// It says this.
    Says(&'static str),
}

struct Application {
    does: First,
    heard: Vec<u8>,
    asked: Rc<RefCell<usize>>,
}

impl Peer for Application {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.heard.extend_from_slice(bytes);
        let end: &[u8] = if self.heard.starts_with(b"POST") { b"hello" } else { b"\r\n\r\n" };
        if !self.heard.ends_with(end) {
            return (Vec::new(), false);
        }
        self.heard.clear();
        *self.asked.borrow_mut() += 1;
        match self.does {
            First::Gone => unreachable!("nobody listens"),
            First::Ends => (Vec::new(), true),
            First::EndsLater => {
                self.does = First::Ends;
                (OK.into(), false)
            }
            First::Says(words) => (words.into(), false),
        }
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

/// What a client has heard.
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

/// The log of all, for a test to read.
#[derive(Default, Clone)]
struct Shelf(Arc<Mutex<Vec<u8>>>);

impl Write for Shelf {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn credentials() -> [Credentials; 2] {
    let key = || KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, key()).expect("a root");
    [CALLER, SERVER].map(|identity| {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.subject_alt_names = vec![SanType::URI(identity.try_into().expect("ascii"))];
        let own = key();
        let certificate = params.signed_by(&own, &root).expect("a certificate");
        Credentials::from_pem(&certificate.pem(), &own.serialize_pem(), &root.pem()).expect("credentials")
    })
}

fn plan(identity: &str, rest: &str) -> Update {
    let text =
        format!(r#"{{"version":"1","identity":"{identity}","telemetry":{{"access_log":"all"}},{rest}}}"#);
    Update::Plan(Arc::new(Plan::new(pipy_config::parse(text.as_bytes()).expect("valid"))), Vec::new())
}

fn hosts(allowed: &str) -> String {
    format!(
        r#"[{{"names":["*"],"service":"s","origin":"o","routes":[{{"origin":"o","path":{{"prefix":"/"}},
            "allowed":{allowed},"clusters":[{{"cluster":"web","weight":1}}]}}]}}]"#
    )
}

fn caller(more: &str) -> Update {
    let endpoint = |n: usize| format!(r#"{{"address":"10.0.0.{n}:8080","identity":"{SERVER}"}}"#);
    let text = format!(
        r#""outbound":{{"matches":[{{"port":80,"protocol":"http","origin":"o","hosts":{}}}]}},
            "clusters":{{"web":{{"origin":"o",{more}"endpoints":[{},{}]}}}}"#,
        hosts("null"),
        endpoint(1),
        endpoint(2)
    );
    plan(CALLER, &text)
}

fn server() -> Update {
    let text = format!(
        r#""inbound":{{"matches":[{{"port":8080,"protocol":"http","origin":"o",
            "sources":[{{"cidrs":["10.9.0.0/16"],"origin":"o"}}],"hosts":{}}}]}},
            "clusters":{{"web":{{"origin":"o","endpoints":[{{"address":"127.0.0.1:8080"}}]}}}}"#,
        hosts(&format!(r#"[{{"identity":"{CALLER}","origin":"o"}}]"#))
    );
    plan(SERVER, &text)
}

struct Town {
    world: Simulation<Sidecar>,
    metrics: Vec<Arc<Metrics>>,
    logs: Vec<(LogWriter, Shelf)>,
    /// Requests that the two applications have got.
    asked: [Rc<RefCell<usize>>; 2],
    clients: u16,
}

impl Town {
    fn new(first: First, more: &str) -> Self {
        Town::seeded(first, more, 1)
    }

    fn seeded(first: First, more: &str, seed: u64) -> Self {
        let start = Instant::now();
        let [caller_credentials, server_credentials] = credentials();
        let (mut metrics, mut logs, mut apps) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..3 {
            let shelf = Shelf::default();
            let log = LogWriter::to(shelf.clone()).expect("a log");
            let own = Metrics::new(Labels::default());
            let mut app = Sidecar::new(own.worker(), log.buffer(), Arc::new(NoPages), start).seeded(1);
            let is_caller = number == 0;
            let credentials = if is_caller { &caller_credentials } else { &server_credentials };
            app.update(Update::Credentials(0, credentials.clone()));
            app.update(if is_caller { caller(more) } else { server() });
            metrics.push(own);
            logs.push((log, shelf));
            apps.push(app);
        }
        let asked: [Rc<RefCell<usize>>; 2] = Default::default();
        let counted = asked.clone();
        let mut port = 1024_u16;
        let upstream = move |node: usize, to: SocketAddr| -> Far {
            if node == 0 {
                port += 1;
                let accepted = Accepted {
                    peer: SocketAddr::from(([10, 1, 0, 1], port)),
                    local: SocketAddr::new(to.ip(), 15003),
                    destination: to,
                };
                let node = if to.ip().to_string() == "10.0.0.1" { 1 } else { 2 };
                return Far::Node(Listener { node, key: listener::INBOUND, accepted });
            }
            let does = if node == 1 { first } else { First::Says(OK) };
            match does {
                First::Gone => Far::Nobody,
                does => {
                    let asked = Rc::clone(&counted[node - 1]);
                    Far::Peer(Box::new(Application { does, heard: Vec::new(), asked }))
                }
            }
        };
        let world = Simulation::new(apps, seed, start, Faults::default(), upstream);
        Town { world, metrics, logs, asked, clients: 0 }
    }

    fn connect(&mut self, node: usize, words: &str) -> Rc<RefCell<String>> {
        self.clients += 1;
        let (key, destination) = match node {
            0 => (listener::OUTBOUND, "10.96.0.1:80"),
            _ => (listener::INBOUND, "10.0.0.1:8080"),
        };
        let accepted = Accepted {
            peer: SocketAddr::from(([10, 9, 0, 1], 1000 + self.clients)),
            local: "10.1.0.1:15001".parse().expect("an address"),
            destination: destination.parse().expect("an address"),
        };
        let heard = Rc::default();
        let client = Client(Rc::clone(&heard));
        self.world.connect(Listener { node, key, accepted }, Box::new(client), words.as_bytes());
        heard
    }

    fn settle(&mut self) {
        while self.world.step() {}
    }

    /// What new clients hear that all ask at once.
    fn ask_all(&mut self, count: usize, words: &str) -> Vec<String> {
        let all: Vec<_> = (0..count).map(|_| self.connect(0, words)).collect();
        self.settle();
        all.iter().map(|heard| heard.borrow().clone()).collect()
    }

    fn ask(&mut self, words: &str) -> String {
        self.ask_all(1, words).remove(0)
    }

    fn count(&self, node: usize, name: &str) -> u64 {
        let name = format!("cluster.web.{name}: ");
        let stats = self.metrics[node].stats();
        let value = stats.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("a counter").parse().expect("a number")
    }

    fn asked(&self) -> [usize; 2] {
        self.asked.each_ref().map(|asked| *asked.borrow())
    }

    /// The log of one, when all is over.
    fn log(mut self, node: usize) -> String {
        let (log, shelf) = self.logs.swap_remove(node);
        self.world.pass(Duration::from_secs(7200));
        self.settle();
        drop(self.world);
        log.shutdown();
        let bytes = shelf.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

/// No ejection, so that the first endpoint goes on to be tried.
const PATIENT: &str = r#""health":{"connect_failures":1000,"consecutive_failures":1000},"#;

#[test]
fn what_the_application_has_not_got_is_sent_to_another_whatever_its_method() {
    let mut town = Town::new(First::Gone, PATIENT);
    for words in [GET, POST, GET, POST] {
        let answer = town.ask(words);
        assert!(is_ok(&answer), "{answer}");
        assert!(!answer.contains("fsm-request-fate"), "{answer}");
    }
    assert_eq!(town.asked(), [0, 4]);
    assert_eq!((town.count(0, "upstream_rq_elsewhere"), town.count(0, "upstream_rq_502")), (2, 2));
    // What shares a connection, too.
    assert!(town.ask_all(40, POST).iter().all(|answer| is_ok(answer)));
    assert_eq!(town.asked(), [0, 44]);
}

#[test]
fn an_endpoint_whose_application_is_gone_is_ejected_like_one_that_is() {
    let mut town = Town::new(First::Gone, r#""health":{"connect_failures":2,"ejection_ms":600000},"#);
    for _ in 0..10 {
        assert!(is_ok(&town.ask(POST)));
    }
    assert_eq!(town.count(0, "upstream_rq_elsewhere"), 2);
    assert_eq!(town.count(0, "outlier_detection_ejections_total"), 1);
}

#[test]
fn what_may_have_been_carried_out_is_sent_to_another_only_when_that_does_no_harm() {
    let mut town = Town::new(First::Ends, PATIENT);
    let mut lost = 0;
    for words in [GET, POST, GET, POST, POST, POST] {
        let answer = town.ask(words);
        assert!(!answer.contains("fsm-request-fate"), "{answer}");
        match is_ok(&answer) {
            true => {}
            false => {
                assert!(words == POST && answer.starts_with("HTTP/1.1 502 "), "{answer}");
                lost += 1;
            }
        }
    }
    let [first, second] = town.asked();
    assert!(lost > 0 && first > lost, "each does both: {lost} of {first}");
    assert_eq!(second, 6 - lost);
    assert_eq!(town.count(0, "upstream_rq_elsewhere") as usize, first - lost);
}

#[test]
fn a_kept_connection_that_was_written_to_leaves_no_one_sure() {
    let mut town = Town::new(First::EndsLater, PATIENT);
    let answers: Vec<_> = (0..8).map(|_| town.ask(POST)).collect();
    let lost = answers.iter().filter(|answer| !is_ok(answer)).count();
    let [first, second] = town.asked();
    assert!(lost > 0, "{answers:?}");
    assert_eq!(first + second, 8, "each was carried out once, or begun");
    assert_eq!(town.count(0, "upstream_rq_elsewhere"), 0);
}

#[test]
fn what_crosses_the_orderly_end_of_a_kept_connection_is_sent_again_whatever_its_method() {
    let mut crossed = 0;
    for seed in 0..40 {
        let mut town = Town::seeded(First::Says(OK), PATIENT, seed);
        assert!(town.ask_all(4, POST).iter().all(|answer| is_ok(answer)));
        // Both servers end what is kept, and nobody has heard of it yet.
        town.world.nodes.iter_mut().skip(1).for_each(|node| node.graph.drain());
        town.world.pass(Duration::from_millis(600));
        for answer in town.ask_all(4, POST) {
            assert!(is_ok(&answer), "seed {seed}: {answer}");
        }
        assert_eq!(town.asked().iter().sum::<usize>(), 8, "seed {seed}: each was carried out once");
        crossed += town.count(0, "upstream_cx_destroy_remote_with_active_rq");
    }
    assert!(crossed > 0, "none was on its way");
}

#[test]
fn an_application_can_not_say_that_it_has_not_got_a_request() {
    let mut town = Town::new(First::Says(LIAR), PATIENT);
    let answers: Vec<_> = (0..4).map(|_| town.ask(GET)).collect();
    assert_eq!(answers.iter().filter(|answer| is_ok(answer)).count(), 2, "{answers:?}");
    assert!(answers.iter().all(|answer| !answer.contains("fsm-request-fate")), "{answers:?}");
    assert_eq!((town.asked(), town.count(0, "upstream_rq_elsewhere")), ([2, 2], 0));
}

#[test]
fn a_client_outside_of_the_mesh_is_not_told() {
    let mut town = Town::new(First::Gone, "");
    let heard = town.connect(1, GET);
    town.settle();
    let heard = heard.borrow();
    assert!(heard.starts_with("HTTP/1.1 40") || heard.starts_with("HTTP/1.1 502 "), "{heard}");
    assert!(!heard.contains("fsm-request-fate"), "{heard}");
}

#[test]
fn a_client_that_leaves_and_a_server_that_dies_in_mid_response_are_told_apart() {
    for (node, word, counter) in
        [(0, "client_closed", "upstream_rq_client_closed"), (1, "reset", "upstream_rq_rx_reset")]
    {
        let mut town = Town::new(First::Says(LONG), PATIENT);
        // One of the two goes to the server that answers at length.
        town.ask_all(2, GET);
        town.world.cut(node);
        town.settle();
        assert_eq!(town.count(0, counter), 1, "{counter}");
        let log = town.log(0);
        let line = log.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {log}"));
        assert!(line.contains(r#""status":200"#) && line.contains(r#""decision":"failed""#), "{line}");
    }
}
