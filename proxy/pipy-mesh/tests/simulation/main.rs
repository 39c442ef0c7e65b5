//! The sidecar on simulated workers, alone and as a pair with mutual TLS between the two: hundreds of seeds, each another
//! order of short reads and writes, resets, ends in the middle, stalls, refused, slow and silent connection attempts, lost
//! datagrams, and jumps of the clock; meanwhile configurations and certificates are replaced.
//!
//! What must be true of each: a request has exactly one outcome (its own response, an error's, or the end of its
//! connection); bytes are neither lost, nor doubled, nor out of order; a datagram is itself or gone; without faults nothing
//! fails at all; and when everyone has gone, no pipeline, socket or timer is left.
//!
//! One seed again: `PIPY_SEED=17 cargo test -p pipy-mesh --test simulation`. More: `PIPY_SEEDS=10000`.

mod peers;
mod site;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pipy_mesh::{Update, listener};
use pipy_testkit::{Dice, Faults, Listener, Peer};
use pipy_worker::Accepted;

use peers::{Browser, Correspondent, Letters, Seen, Talker};
use site::{Bounds, Site, callee, caller, credentials};

/// How many requests, connections of bytes and datagrams came out how.
#[derive(Debug, Default)]
struct Outcomes {
    answered: u64,
    failed: u64,
    cut: u64,
    echoed: u64,
    letters: u64,
    lost: u64,
    dismissed: u64,
    shared: u64,
    handshakes: u64,
}

/// A client, and how many requests it has made.
type Client = (Rc<RefCell<Seen>>, usize);

struct Run {
    dice: Dice,
    site: Site,
    bounds: Bounds,
    pair: bool,
    harmless: bool,
    clients: Vec<Client>,
    letters: Vec<Rc<RefCell<Letters>>>,
}

const SIZES: [usize; 5] = [0, 1, 100, 5_000, 40_000];

impl Run {
    fn new(seed: u64, pair: bool) -> Self {
        let mut dice = Dice::new(seed);
        let harmless = seed % 4 == 0;
        let faults = if harmless {
            Faults::default()
        } else {
            Faults {
                resets: dice.below(12),
                halves: dice.below(6),
                stalls: dice.below(6),
                refusals: dice.below(200),
                silences: dice.below(100),
                losses: dice.below(300),
                jumps: dice.below(4),
            }
        };
        // WHY no age for clients where nothing may fail: what a client says at that moment is lost, and that is allowed.
        let bounds = Bounds {
            requests: dice.pick(&[0, 0, 1, 2, 5]),
            age_up_ms: dice.pick(&[0, 50, 500, 60_000]),
            age_down_ms: if harmless { 0 } else { dice.pick(&[0, 50, 500, 60_000]) },
            streams: dice.pick(&[0, 1, 3]),
        };
        let site = Site::new(seed, faults, bounds, pair);
        let (clients, letters) = (Vec::new(), Vec::new());
        Run { dice, site, bounds, pair, harmless, clients, letters }
    }

    fn listener(number: usize, port: u16) -> Listener {
        let accepted = Accepted {
            peer: SocketAddr::from(([10, 1, 0, 1], 1000 + number as u16)),
            local: "10.1.0.1:15001".parse().expect("an address"),
            destination: SocketAddr::from(([10, 96, 0, 1], port)),
        };
        Listener { node: 0, key: listener::OUTBOUND, accepted }
    }

    fn client(&mut self, number: usize) {
        let dice = &mut self.dice;
        let port = dice.pick(&[80, 80, 90, 85, 85]);
        let http = port == 80 || (port == 85 && dice.below(2) == 0);
        let seen = Rc::new(RefCell::new(Seen::default()));
        let count = if http { 1 + dice.below(5) } else { 0 };
        let (client, first): (Box<dyn Peer>, _) = if http {
            let mut request = || {
                let number = 1 + dice.below(1000);
                (number, dice.pick(&SIZES), if dice.below(3) == 0 { dice.pick(&SIZES) } else { 0 })
            };
            let requests = (0..count).map(|_| request()).collect();
            let browser = Browser { requests, pipelined: number % 3 == 0, seen: Rc::clone(&seen) };
            let first = browser.first();
            (Box::new(browser), first)
        } else {
            // Not the begin of a request, so that what is not known is taken for bytes.
            let mut sent = vec![0];
            sent.extend((0..dice.pick(&SIZES)).map(|i| i as u8));
            (Box::new(Talker { sent: sent.clone(), seen: Rc::clone(&seen) }), sent)
        };
        self.site.world.connect(Self::listener(number, port), client, &first);
        self.clients.push((seen, count));
    }

    /// A datagram of a client that has sent before, or not.
    fn letter(&mut self) {
        let number = self.dice.below(4);
        while self.letters.len() <= number {
            self.letters.push(Rc::default());
        }
        let letters = Rc::clone(&self.letters[number]);
        // Its number makes it unlike all others.
        let count = letters.borrow().sent.len();
        let mut bytes = vec![count as u8, (count >> 8) as u8];
        bytes.extend(std::iter::repeat_n(number as u8, self.dice.pick(&[0, 10, 1400])));
        letters.borrow_mut().sent.push(bytes.clone());
        let peer = || -> Box<dyn Peer> { Box::new(Correspondent(Rc::clone(&letters))) };
        self.site.world.send(Self::listener(number, 53), &bytes, peer);
    }

    /// A configuration or a certificate is replaced.
    fn change(&mut self, number: usize) {
        let node = if self.pair { self.dice.below(2) } else { 0 };
        let update = match self.dice.below(3) {
            0 if node == 0 => caller(number, self.bounds, self.pair),
            0 => callee(number, self.bounds),
            generation => Update::Credentials(number as u64, credentials(node, generation - 1)),
        };
        self.site.world.update(node, update);
    }

    fn steps(&mut self, most: usize) {
        for _ in 0..self.dice.below(most) {
            self.site.world.step();
        }
    }

    fn run(mut self, outcomes: &mut Outcomes) -> u64 {
        for number in 0..1 + self.dice.below(if self.pair { 24 } else { 8 }) {
            self.steps(40);
            self.client(number);
            match self.dice.below(6) {
                0 => self.change(1 + number),
                1 | 2 => self.letter(),
                _ => {}
            }
        }
        let mut steps = 0;
        while self.site.world.step() {
            steps += 1;
            assert!(steps < 2_000_000, "it never comes to rest");
        }
        // No client is left waiting: what is still open goes on without faults, or ends in its time, which is longer than
        // anything may be idle: kept connections, connections, requests.
        self.site.world.faults = Faults::default();
        for _ in 0..3 {
            self.site.world.pass(Duration::from_secs(2 * 3600));
            while self.site.world.step() {}
        }
        self.judge(outcomes);
        self.site.end()
    }

    fn judge(&self, outcomes: &mut Outcomes) {
        for (seen, requests) in &self.clients {
            let seen = seen.borrow();
            let known = seen.answered + seen.failed;
            assert!(seen.ended, "a client waits for ever: {known} of {requests}");
            assert!(known <= *requests);
            outcomes.answered += seen.answered as u64;
            outcomes.failed += seen.failed as u64;
            outcomes.cut += u64::from(known < *requests && !seen.dismissed);
            outcomes.dismissed += u64::from(known < *requests && seen.dismissed);
            outcomes.echoed += u64::from(*requests == 0 && !seen.heard.is_empty());
            if self.harmless && *requests > 0 {
                assert_eq!(seen.failed, 0, "without faults nothing fails");
                assert!(seen.answered == *requests || seen.dismissed, "{} of {requests}", seen.answered);
                assert!(seen.heard.is_empty() && !seen.reset);
            }
        }
        for letters in &self.letters {
            let letters = letters.borrow();
            outcomes.letters += letters.back.len() as u64;
            outcomes.lost += (letters.sent.len() - letters.back.len()) as u64;
            if self.harmless {
                assert_eq!(letters.sent.len(), letters.back.len(), "without faults no datagram is lost");
            }
        }
        outcomes.shared += self.site.counted("listener.inbound.downstream_cx_http2_total");
        outcomes.handshakes += self.site.counted("tls.handshakes");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok())
}

/// Runs seeds; says how to run the one again that fails. `None` when only one was asked for.
fn all(count: u64, pair: bool) -> Option<Outcomes> {
    let only = number("PIPY_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("PIPY_SEEDS").unwrap_or(count),
    };
    let mut outcomes = Outcomes::default();
    for seed in seeds {
        let one = std::panic::AssertUnwindSafe(|| Run::new(seed, pair).run(&mut outcomes));
        if let Err(panic) = std::panic::catch_unwind(one) {
            let name = if pair { "pair" } else { "alone" };
            eprintln!("again: PIPY_SEED={seed} cargo test -p pipy-mesh --test simulation {name}");
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{outcomes:?}");
    only.is_none().then_some(outcomes)
}

#[test]
fn alone_every_request_has_one_outcome_and_nothing_is_left() {
    let Some(outcomes) = all(300, false) else { return };
    let Outcomes { answered, failed, cut, echoed, letters, lost, dismissed, .. } = outcomes;
    let each = [answered, failed, cut, echoed, letters, lost, dismissed];
    assert!(each.iter().all(|count| *count > 0), "something never happens: {outcomes:?}");
}

#[test]
fn pair_every_request_has_one_outcome_and_nothing_is_left() {
    let Some(outcomes) = all(200, true) else { return };
    let Outcomes { answered, failed, cut, echoed, letters, lost, dismissed, shared, handshakes } = outcomes;
    let each = [answered, failed, cut, echoed, letters, lost, dismissed, shared, handshakes];
    assert!(each.iter().all(|count| *count > 0), "something never happens: {outcomes:?}");
}

#[test]
fn the_same_seed_does_the_same_again() {
    for (seed, pair) in [(1, false), (2, true), (7, true)] {
        let again = || Run::new(seed, pair).run(&mut Outcomes::default());
        assert_eq!(again(), again(), "seed {seed}, pair: {pair}");
    }
}
