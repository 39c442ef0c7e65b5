//! The sidecar on a simulated worker: hundreds of seeds, each another order of short reads and writes, resets, refused,
//! slow and silent connection attempts, and jumps of the clock.
//!
//! What must be true of each: a request has exactly one outcome (its own response, an error's, or the end of its
//! connection); bytes are neither lost, nor doubled, nor out of order; without faults nothing fails at all; and when
//! everyone has gone, no pipeline, socket or timer is left.
//!
//! One seed again: `PIPY_SEED=17 cargo test -p pipy-mesh --test simulation`. More: `PIPY_SEEDS=10000`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipy_http::Method;
use pipy_mesh::{Page, Pages, Plan, Sidecar, Update, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_testkit::{Dice, Faults, Peer, Simulation};
use pipy_worker::{Accepted, App};

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _listener: u32, _method: &Method, _path: &str, _query: Option<&str>) -> Page {
        unreachable!("no one asks")
    }
}

/// Protocols are waited for longer than the clock jumps: a request line that comes too late would be taken for bytes.
fn plan() -> Plan {
    let endpoints = |port: u16| {
        let each = (1..=3).map(|n| format!(r#"{{"address":"10.0.0.{n}:{port}"}}"#));
        format!("[{}]", each.collect::<Vec<_>>().join(","))
    };
    let clusters = |name: &str| format!(r#"[{{"cluster":"{name}","weight":1}}]"#);
    let tcp = format!(r#"{{"origin":"o","service":"s","clusters":{}}}"#, clusters("tcp"));
    let hosts = format!(
        r#"[{{"names":["*"],"service":"s","origin":"o","routes":[{{"origin":"o","path":{{"prefix":"/"}},"clusters":{}}}]}}]"#,
        clusters("web")
    );
    let text = format!(
        r#"{{"version":"1","timeouts":{{"detect_ms":3000000}},"outbound":{{"matches":[
            {{"port":80,"protocol":"http","origin":"o","hosts":{hosts}}},
            {{"port":90,"protocol":"tcp","origin":"o","tcp":{tcp}}},
            {{"port":85,"protocol":"auto","origin":"o","hosts":{hosts},"tcp":{tcp}}}]}},
            "clusters":{{"web":{{"origin":"o","endpoints":{}}},"tcp":{{"origin":"o","endpoints":{}}}}}}}"#,
        endpoints(8080),
        endpoints(9090)
    );
    Plan::new(pipy_config::parse(text.as_bytes()).expect("valid"))
}

/// The body that belongs to a request: its own number, as often as the number says.
fn body(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (number * 31 + i) as u8).collect()
}

/// Answers each request with the body that its path asks for; `/<number>/<size>`.
#[derive(Default)]
struct Web {
    heard: Vec<u8>,
}

impl Peer for Web {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.heard.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some((head, rest)) = split_head(&self.heard) {
            let length = length_of(&head);
            if rest.len() < length {
                break;
            }
            let path = head.split(' ').nth(1).expect("a target").to_owned();
            let mut parts = path.trim_start_matches('/').split('/');
            let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
            let (number, size) = (number(), number());
            assert_eq!(rest[..length], body(number, length), "the body of request {number}");
            self.heard = rest[length..].to_vec();
            answer.extend(
                format!("HTTP/1.1 200 OK\r\nx-number: {number}\r\ncontent-length: {size}\r\n\r\n").bytes(),
            );
            answer.extend(body(number, size));
        }
        (answer, false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

fn split_head(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase(), bytes[at + 4..].to_vec()))
}

fn length_of(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// Sends back what it hears.
struct Echo;

impl Peer for Echo {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        (bytes.to_vec(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    heard: Vec<u8>,
    answered: usize,
    failed: usize,
    ended: bool,
    reset: bool,
}

/// Sends requests, one after the other or all at once.
struct Browser {
    requests: Vec<(usize, usize, usize)>,
    pipelined: bool,
    seen: Rc<RefCell<Seen>>,
}

impl Browser {
    fn words(&self, index: usize) -> Vec<u8> {
        let Some((number, size, sent)) = self.requests.get(index) else { return Vec::new() };
        let method = if *sent == 0 { "GET" } else { "POST" };
        let mut words = format!("{method} /{number}/{size} HTTP/1.1\r\nhost: a\r\n");
        if *sent > 0 {
            words += &format!("content-length: {sent}\r\n");
        }
        let mut words = (words + "\r\n").into_bytes();
        words.extend(body(*number, *sent));
        words
    }

    fn first(&self) -> Vec<u8> {
        let count = if self.pipelined { self.requests.len() } else { 1 };
        (0..count).flat_map(|index| self.words(index)).collect()
    }
}

impl Peer for Browser {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut seen = self.seen.borrow_mut();
        assert!(!seen.ended, "bytes after the end");
        seen.heard.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some((head, rest)) = split_head(&seen.heard) {
            let length = length_of(&head);
            if rest.len() < length {
                break;
            }
            let index = seen.answered + seen.failed;
            let (number, size, _) = *self.requests.get(index).expect("no response without a request");
            if head.starts_with("http/1.1 200") {
                assert!(head.contains(&format!("x-number: {number}")), "the response of another: {head}");
                assert_eq!(rest[..length], body(number, size));
                seen.answered += 1;
            } else {
                assert!(head.starts_with("http/1.1 50") || head.starts_with("http/1.1 408"), "{head}");
                seen.failed += 1;
            }
            seen.heard = rest[length..].to_vec();
            if !self.pipelined {
                answer.extend(self.words(index + 1));
            }
        }
        let done = seen.answered + seen.failed == self.requests.len();
        (answer, done)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        self.seen.borrow_mut().ended = true;
        (Vec::new(), true)
    }

    fn gone(&mut self, reset: bool) {
        let mut seen = self.seen.borrow_mut();
        (seen.ended, seen.reset) = (true, reset);
    }
}

/// Sends bytes and expects them back.
struct Talker {
    sent: Vec<u8>,
    seen: Rc<RefCell<Seen>>,
}

impl Peer for Talker {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut seen = self.seen.borrow_mut();
        seen.heard.extend_from_slice(bytes);
        assert!(self.sent.starts_with(&seen.heard), "not what was sent");
        (Vec::new(), seen.heard.len() == self.sent.len())
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        self.seen.borrow_mut().ended = true;
        (Vec::new(), true)
    }

    fn gone(&mut self, reset: bool) {
        let mut seen = self.seen.borrow_mut();
        (seen.ended, seen.reset) = (true, reset);
    }
}

/// How many requests and connections of bytes came out how.
#[derive(Debug, Default)]
struct Outcomes {
    answered: usize,
    failed: usize,
    cut: usize,
    echoed: usize,
}

fn run(seed: u64, outcomes: &mut Outcomes) {
    let mut dice = Dice::new(seed);
    let start = Instant::now();
    let metrics = Metrics::new(Labels::default());
    let log = LogWriter::to(std::io::sink()).expect("a log");
    let mut app = Sidecar::new(metrics.worker(), log.buffer(), Arc::new(NoPages), start);
    app.update(Update::Plan(Arc::new(plan()), Vec::new()));
    let harmless = seed % 4 == 0;
    let faults = if harmless {
        Faults::default()
    } else {
        Faults {
            resets: dice.below(12),
            refusals: dice.below(200),
            silences: dice.below(100),
            jumps: dice.below(4),
        }
    };
    let upstream = |to: SocketAddr| -> Box<dyn Peer> {
        if to.port() == 8080 { Box::new(Web::default()) } else { Box::new(Echo) }
    };
    let mut world = Simulation::new(app, seed, start, faults, upstream);
    let mut clients: Vec<(Rc<RefCell<Seen>>, usize)> = Vec::new();
    for n in 0..1 + dice.below(8) {
        for _ in 0..dice.below(40) {
            world.step();
        }
        let seen = Rc::new(RefCell::new(Seen::default()));
        let port = dice.pick(&[80, 80, 90, 85, 85]);
        let http = port == 80 || (port == 85 && dice.below(2) == 0);
        let peer: SocketAddr = format!("10.1.0.1:{}", 1000 + n).parse().expect("an address");
        let accepted = Accepted {
            peer,
            local: "10.1.0.1:15001".parse().expect("an address"),
            destination: SocketAddr::from(([10, 96, 0, 1], port)),
        };
        let sizes = [0, 1, 100, 5_000, 40_000];
        let count = if http { 1 + dice.below(5) } else { 0 };
        let (client, first): (Box<dyn Peer>, _) = if http {
            let mut request = || {
                let number = 1 + dice.below(1000);
                (number, dice.pick(&sizes), if dice.below(3) == 0 { dice.pick(&sizes) } else { 0 })
            };
            let requests = (0..count).map(|_| request()).collect();
            let pipelined = n % 3 == 0;
            let browser = Browser { requests, pipelined, seen: Rc::clone(&seen) };
            let first = browser.first();
            (Box::new(browser), first)
        } else {
            // Not the begin of a request, so that what is not known is taken for bytes.
            let mut sent = vec![0];
            sent.extend((0..dice.pick(&sizes)).map(|i| i as u8));
            (Box::new(Talker { sent: sent.clone(), seen: Rc::clone(&seen) }), sent)
        };
        world.connect(listener::OUTBOUND, accepted, client, &first);
        clients.push((seen, count));
    }
    let mut steps = 0;
    while world.step() {
        steps += 1;
        assert!(steps < 1_000_000, "it never comes to rest");
    }
    if !harmless {
        // No client is left waiting: what is still open goes on without faults, or ends in its time.
        world.faults = Faults::default();
    }
    // Longer than anything may be idle: kept connections, connections, requests.
    for _ in 0..3 {
        world.pass(Duration::from_secs(2 * 3600));
        while world.step() {}
    }
    for (seen, requests) in &clients {
        let seen = seen.borrow();
        assert!(seen.ended, "a client waits for ever: {} of {requests}", seen.answered + seen.failed);
        assert!(seen.answered + seen.failed <= *requests);
        outcomes.answered += seen.answered;
        outcomes.failed += seen.failed;
        outcomes.cut += usize::from(seen.answered + seen.failed < *requests);
        outcomes.echoed += usize::from(*requests == 0 && !seen.heard.is_empty());
        if harmless && *requests > 0 {
            assert_eq!(seen.answered, *requests, "without faults nothing fails");
            assert!(seen.heard.is_empty() && !seen.reset);
        }
    }
    assert_eq!(world.open(), 0, "sockets are left");
    assert_eq!(world.graph.sockets(), 0, "the graph has sockets left");
    assert_eq!(world.graph.pipelines(), 0, "pipelines are left");
    assert_eq!(world.graph.timers.len(), 0, "timers are left");
    log.shutdown();
}

#[test]
fn every_request_has_one_outcome_and_nothing_is_left() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PIPY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PIPY_SEEDS").unwrap_or(300),
    };
    let many = seeds.end - seeds.start >= 100;
    let mut outcomes = Outcomes::default();
    for seed in seeds {
        let one = std::panic::AssertUnwindSafe(|| run(seed, &mut outcomes));
        if let Err(panic) = std::panic::catch_unwind(one) {
            eprintln!("again: PIPY_SEED={seed} cargo test -p pipy-mesh --test simulation");
            std::panic::resume_unwind(panic);
        }
    }
    if many {
        let Outcomes { answered, failed, cut, echoed } = outcomes;
        let all = [answered, failed, cut, echoed].iter().all(|count| *count > 0);
        assert!(all, "something never happens: {outcomes:?}");
    }
}
