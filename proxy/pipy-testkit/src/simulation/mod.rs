//! Workers that are none: [`App`]s and their graphs on a network that exists in memory only, with one clock and dice that
//! decide what happens next. The same seed does the same thing every time.
//!
//! ```text
//!   peers ◄──► sockets ◄──events, ops──► graph of app 0        one step: something of all that can happen
//!                 ▲                                             short reads and writes, connections made, refused or
//!                 └──bytes──► sockets ◄──► graph of app 1       silent, resets, ends in the middle, stalls, jumps of time,
//!                                                               datagrams lost or in another order
//! ```
//!
//! A [`Peer`] is an end that a test plays; two apps can be each other's ends. INVARIANT, checked at each step: what an end
//! gets is what was written to it, in order, and never anything after the end. Not here: what peers say, and what must be
//! true in the end (the tests know).

mod network;
mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, Event, Graph};
use pipy_worker::{Accepted, App, Verdict};

pub use socket::{Far, Listener, Peer};

use socket::{End, Place, Socket};

use crate::Dice;

/// How often things go wrong, of a thousand steps (attempts, datagrams).
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A connection is reset.
    pub resets: usize,
    /// A peer of the test ends its side in the middle.
    pub halves: usize,
    /// Nothing moves on a connection for up to a minute and a half.
    pub stalls: usize,
    /// A connection attempt is refused, of those that end.
    pub refusals: usize,
    /// A connection attempt is never answered, of those that end.
    pub silences: usize,
    /// A datagram is lost, of those that are sent.
    pub losses: usize,
    /// The clock jumps by up to a minute.
    pub jumps: usize,
}

/// One of the proxies.
pub struct Node<A> {
    /// The app.
    pub app: A,
    /// Its graph.
    pub graph: Graph,
    /// When the app wants its next turn at the latest.
    due: Option<Instant>,
}

/// See the module.
pub struct Simulation<A: App> {
    /// The proxies.
    pub nodes: Vec<Node<A>>,
    /// How often things go wrong.
    pub faults: Faults,
    now: Instant,
    dice: Dice,
    sockets: BTreeMap<Place, Socket>,
    /// Sessions of datagrams: by listener, who sends, and where to.
    sessions: BTreeMap<(usize, u32, SocketAddr, SocketAddr), Place>,
    broken: VecDeque<(Place, CloseReason)>,
    upstream: Box<dyn FnMut(usize, SocketAddr) -> Far>,
    trace: u64,
}

impl<A: App> Simulation<A> {
    /// A simulation; `upstream` says where the connections of each proxy lead.
    pub fn new(
        apps: Vec<A>,
        seed: u64,
        start: Instant,
        faults: Faults,
        upstream: impl FnMut(usize, SocketAddr) -> Far + 'static,
    ) -> Self {
        let node = |app| Node { app, graph: Graph::new(start), due: None };
        Simulation {
            nodes: apps.into_iter().map(node).collect(),
            faults,
            now: start,
            dice: Dice::new(seed),
            sockets: BTreeMap::new(),
            sessions: BTreeMap::new(),
            broken: VecDeque::new(),
            upstream: Box::new(upstream),
            trace: 0,
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.sockets.len()
    }

    /// A number that two runs of the same seed have in common, if they did the same.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// A client connects to a listener, and says this first; false where the app turns it away.
    pub fn connect(&mut self, to: Listener, peer: Box<dyn Peer>, first: &[u8]) -> bool {
        let Ok(place) = self.accept(to, End::Peer(peer)) else {
            self.turn();
            return false;
        };
        if let Some(socket) = self.sockets.get_mut(&place) {
            socket.incoming.extend(first);
        }
        self.turn();
        true
    }

    /// A client sends a datagram to a listener; `peer` plays it when it has no session yet.
    pub fn send(&mut self, to: Listener, bytes: &[u8], peer: impl FnOnce() -> Box<dyn Peer>) {
        let place = match self.session(&to) {
            Some(place) => place,
            None => match self.begin_session(to, End::Peer(peer())) {
                Some(place) => place,
                None => return,
            },
        };
        if let Some(socket) = self.sockets.get_mut(&place) {
            socket.letters_in.push(bytes.to_vec());
        }
        self.turn();
    }

    /// Tells an app something, between two turns.
    pub fn update(&mut self, node: usize, update: A::Update) {
        self.nodes[node].app.update(update);
        self.turn();
    }

    /// Resets all connections between a proxy and peers of the test.
    pub fn cut(&mut self, node: usize) {
        let cut = |(place, socket): &(&Place, &Socket)| place.0 == node && matches!(socket.end, End::Peer(_));
        let all: Vec<Place> = self.sockets.iter().filter(cut).map(|(place, _)| *place).collect();
        self.broken.extend(all.into_iter().map(|place| (place, CloseReason::Reset)));
        self.turn();
    }

    /// Something happens, if anything can; false when all is quiet.
    pub fn step(&mut self) -> bool {
        self.go_wrong();
        let jump = self.dice.below(1000) < self.faults.jumps;
        let passed = if jump { self.dice.below(60_000) } else { self.dice.below(5) };
        self.pass(Duration::from_millis(passed as u64));
        let ready = self.sockets.iter().filter(|(_, socket)| self.is_ready(socket));
        let ready: Vec<Place> = ready.map(|(place, _)| *place).collect();
        if ready.is_empty() {
            return self.pass_to_next();
        }
        let place = self.dice.pick(&ready);
        self.act(place);
        self.turn();
        true
    }

    /// Time passes; timers and attempts that are due by then are carried out, each in its time.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let attempt = self.sockets.values().filter_map(|socket| socket.connecting).min();
            let timers = self.nodes.iter_mut().filter_map(|node| node.graph.timers.next_due()).min();
            let due = self.nodes.iter().filter_map(|node| node.due).min();
            let next = [timers, attempt, due].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.set_time(self.now.max(next));
            let now = self.now;
            let due = |socket: &Socket| socket.connecting.is_some_and(|at| at <= now);
            let late: Vec<Place> = self.sockets.iter().filter(|(_, s)| due(s)).map(|(p, _)| *p).collect();
            self.broken.extend(late.into_iter().map(|place| (place, CloseReason::ConnectTimeout)));
            self.turn();
            self.nodes.iter_mut().for_each(|node| node.graph.run_timers());
            self.turn();
        }
        self.set_time(end);
    }

    fn set_time(&mut self, now: Instant) {
        self.now = now;
        for node in &mut self.nodes {
            node.graph.now = now;
            node.app.turn_begins(now);
        }
    }

    /// What waits for time alone: the end of an attempt that nobody answers, or of a stall.
    fn pass_to_next(&mut self) -> bool {
        let waits = |socket: &Socket| socket.connecting.into_iter().chain(socket.stalled).min();
        let due = self.nodes.iter().filter_map(|node| node.due).min();
        let Some(at) = self.sockets.values().filter_map(waits).chain(due).min() else { return false };
        self.pass(at.saturating_duration_since(self.now));
        let now = self.now;
        self.sockets.values_mut().for_each(|s| s.stalled = s.stalled.filter(|until| *until > now));
        true
    }

    /// Throws the dice for what befalls a connection.
    fn go_wrong(&mut self) {
        let faults = self.faults;
        for (often, what) in [(faults.resets, 0), (faults.halves, 1), (faults.stalls, 2)] {
            if often == 0 || self.dice.below(1000) >= often {
                continue;
            }
            let made = |socket: &&Socket| socket.connecting.is_none() && !socket.datagrams;
            let all: Vec<Place> =
                self.sockets.iter().filter(|(_, socket)| made(socket)).map(|(place, _)| *place).collect();
            if all.is_empty() {
                continue;
            }
            let place = self.dice.pick(&all);
            let stall = self.now + Duration::from_millis(self.dice.below(90_000) as u64);
            let Some(socket) = self.sockets.get_mut(&place) else { continue };
            match (what, &socket.end) {
                (0, _) => {
                    self.broken.push_back((place, CloseReason::Reset));
                    self.turn();
                }
                (1, End::Peer(_)) => (socket.peer_finished, socket.muted) = (true, true),
                (1, _) => {}
                _ => socket.stalled = Some(stall),
            }
        }
    }

    /// Something happens to a socket.
    fn act(&mut self, place: Place) {
        self.note(place, 1);
        let Some(socket) = self.sockets.get(&place) else { return };
        if socket.connecting.is_some() {
            return self.attempted(place);
        }
        let room = self.room(socket);
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        let writes = socket.can_write(room) && (!socket.can_read() || self.dice.below(2) == 0);
        match (socket.datagrams, writes) {
            (true, true) => self.post(place),
            (true, false) => {
                let letter = self.dice.below(socket.letters_in.len());
                let letter = socket.letters_in.swap_remove(letter);
                // Nobody waits for a datagram to be taken.
                if socket.reading {
                    self.nodes[place.0].graph.from_socket(place.1, Event::Data(letter.into()));
                }
            }
            (false, true) => self.write(place, room),
            (false, false) => self.read(place),
        }
    }

    fn read(&mut self, place: Place) {
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        if socket.incoming.is_empty() {
            socket.eof = true;
            self.nodes[place.0].graph.from_socket(place.1, Event::Close(CloseReason::Finished));
            self.turn();
            return self.close_if_done(place);
        }
        let most = self.dice.pick(&[1, 7, 100, 2000]);
        let count = 1 + self.dice.below(socket.incoming.len().min(most));
        let bytes: Vec<u8> = socket.incoming.drain(..count).collect();
        self.nodes[place.0].graph.from_socket(place.1, Event::Data(bytes.into()));
        self.note(place, count);
    }

    /// Lets all graphs run until they are quiet.
    fn turn(&mut self) {
        loop {
            let mut quiet = true;
            for number in 0..self.nodes.len() {
                quiet &= !self.turn_of(number);
            }
            while let Some((place, reason)) = self.broken.pop_front() {
                quiet = false;
                self.fail(place, reason);
            }
            if quiet {
                return;
            }
        }
    }

    /// One proxy's; whether anything has come of it.
    fn turn_of(&mut self, number: usize) -> bool {
        let mut busy = false;
        loop {
            let node = &mut self.nodes[number];
            node.graph.run();
            let mut ops = std::mem::take(&mut node.graph.ops);
            if ops.is_empty() {
                node.app.step(&mut node.graph);
                node.graph.run();
                node.due = node.app.turn_ends(self.now);
                ops = std::mem::take(&mut node.graph.ops);
            }
            if ops.is_empty() {
                return busy;
            }
            busy = true;
            for op in ops {
                self.carry_out(number, op);
            }
        }
    }

    /// Asks an app about a connection.
    fn accept(&mut self, to: Listener, end: End) -> Result<Place, Refused> {
        let Listener { node: number, key, accepted } = to;
        let node = &mut self.nodes[number];
        let id = match node.app.accept(key, accepted, self.now) {
            Verdict::Run(filters) => node.graph.accept(filters).0,
            Verdict::RunTurning(filters) => node.graph.accept_turning(filters).0,
            verdict @ (Verdict::Close | Verdict::Reset) => {
                let reset = matches!(verdict, Verdict::Reset);
                if let End::Peer(mut peer) = end {
                    peer.gone(reset);
                }
                return Err(Refused { reset });
            }
        };
        self.sockets.insert((number, id), Socket::new(end));
        Ok((number, id))
    }

    fn session(&self, to: &Listener) -> Option<Place> {
        let Accepted { peer, destination, .. } = to.accepted;
        let place = self.sessions.get(&(to.node, to.key, peer, destination))?;
        self.sockets.contains_key(place).then_some(*place)
    }

    fn begin_session(&mut self, to: Listener, end: End) -> Option<Place> {
        let Listener { node: number, key, accepted } = to;
        let node = &mut self.nodes[number];
        let Verdict::Run(filters) = node.app.accept_datagrams(key, accepted, self.now) else { return None };
        let place = (number, node.graph.accept(filters).0);
        self.sockets.insert(place, Socket::of_datagrams(end));
        self.sessions.insert((number, key, accepted.peer, accepted.destination), place);
        Some(place)
    }

    /// Remembers that something happened.
    fn note(&mut self, place: Place, what: usize) {
        for number in [place.0 as u64, u64::from(place.1.index), u64::from(place.1.serial), what as u64] {
            self.trace = (self.trace ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
        }
    }
}

/// An app does not want a connection.
struct Refused {
    reset: bool,
}
