//! A worker that is not one: an [`App`] and its graph on a network that exists in memory only, with a clock of its own and
//! dice that decide what happens next. The same seed does the same thing every time.
//!
//! ```text
//!   peers ◄──bytes──► sockets of the simulation ◄──events, ops──► graph of the app
//! ```
//!
//! Each [`Simulation::step`] is one of: some bytes arrive (short reads), some are taken (short writes), a connection is
//! made, refused or times out, a connection is reset, time passes or jumps. A [`Peer`] is the other end of a socket.
//!
//! INVARIANT, checked at each step: what a peer gets is what was written to it, in order, and never anything after the
//! end. Not here: what peers say, and what must be true in the end (the tests know).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, Event, Graph, Op, SocketId};
use pipy_worker::{Accepted, App, Verdict};

use crate::Dice;

/// Bytes waiting to be taken above and below which the producing side is paused and goes on: small, so that it happens.
const OUT_HIGH: usize = 4096;
const OUT_LOW: usize = 1024;

/// The other end of a socket.
pub trait Peer {
    /// Bytes came. What it answers goes out; `true` as the second: it has finished.
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool);
    /// The proxy has finished. Answers as [`Peer::hear`].
    fn finished(&mut self) -> (Vec<u8>, bool);
    /// The connection is gone; `true`: it was reset.
    fn gone(&mut self, reset: bool);
}

/// How often things go wrong, of a thousand steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A connection is reset.
    pub resets: usize,
    /// A connection attempt is refused, of those that end.
    pub refusals: usize,
    /// A connection attempt is never answered, of those that end.
    pub silences: usize,
    /// The clock jumps by up to a minute.
    pub jumps: usize,
}

struct Socket {
    peer: Box<dyn Peer>,
    to_proxy: VecDeque<u8>,
    peer_finished: bool,
    eof: bool,
    out: VecDeque<u8>,
    reading: bool,
    finishing: bool,
    shut: bool,
    congested: bool,
    connecting: Option<Instant>,
    silent: bool,
    tell: bool,
}

/// See the module.
pub struct Simulation<A: App> {
    /// The app.
    pub app: A,
    /// Its graph.
    pub graph: Graph,
    /// How often things go wrong.
    pub faults: Faults,
    dice: Dice,
    sockets: BTreeMap<SocketId, Socket>,
    upstream: Box<dyn FnMut(SocketAddr) -> Box<dyn Peer>>,
}

impl<A: App> Simulation<A> {
    /// A simulation; `upstream` makes the peers that the app connects to.
    pub fn new(
        app: A,
        seed: u64,
        start: Instant,
        faults: Faults,
        upstream: impl FnMut(SocketAddr) -> Box<dyn Peer> + 'static,
    ) -> Self {
        Simulation {
            app,
            graph: Graph::new(start),
            faults,
            dice: Dice::new(seed),
            sockets: BTreeMap::new(),
            upstream: Box::new(upstream),
        }
    }

    /// A client connects to a listener, and says this first; `None` where the app turns it away.
    pub fn connect(
        &mut self,
        listener: u32,
        accepted: Accepted,
        mut peer: Box<dyn Peer>,
        first: &[u8],
    ) -> Option<SocketId> {
        self.app.turn_begins(self.graph.now);
        let id = match self.app.accept(listener, accepted, self.graph.now) {
            Verdict::Run(filters) => self.graph.accept(filters).0,
            Verdict::RunTurning(filters) => self.graph.accept_turning(filters).0,
            verdict @ (Verdict::Close | Verdict::Reset) => {
                peer.gone(matches!(verdict, Verdict::Reset));
                return None;
            }
        };
        let mut socket = Socket::new(peer, None, false);
        socket.to_proxy.extend(first);
        self.sockets.insert(id, socket);
        self.turn();
        Some(id)
    }

    /// Something happens, if anything can; false when all is quiet.
    pub fn step(&mut self) -> bool {
        let ids: Vec<SocketId> = self.sockets.keys().copied().collect();
        if !ids.is_empty() && self.dice.below(1000) < self.faults.resets {
            let id = self.dice.pick(&ids);
            if self.sockets.get(&id).is_some_and(|socket| socket.connecting.is_none()) {
                self.fail(id, CloseReason::Reset);
            }
        }
        let jump = self.dice.below(1000) < self.faults.jumps;
        let passed = if jump { self.dice.below(60_000) } else { self.dice.below(5) };
        self.pass(Duration::from_millis(passed as u64));
        let ready: Vec<SocketId> =
            self.sockets.iter().filter(|(_, socket)| socket.ready()).map(|(id, _)| *id).collect();
        if ready.is_empty() {
            // What waits for time alone: the next timer, or the end of a silent attempt.
            return self.sockets.values().any(|socket| socket.connecting.is_some()) && self.pass_to_attempt();
        }
        let id = self.dice.pick(&ready);
        self.act(id);
        self.turn();
        true
    }

    /// Time passes; timers and attempts that are due by then are carried out, each in its time.
    pub fn pass(&mut self, time: Duration) {
        let end = self.graph.now + time;
        loop {
            let attempt = self.sockets.values().filter_map(|socket| socket.connecting).min();
            let next = [self.graph.timers.next_due(), attempt].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.graph.now = self.graph.now.max(next);
            self.app.turn_begins(self.graph.now);
            let now = self.graph.now;
            let late: Vec<SocketId> = self
                .sockets
                .iter()
                .filter(|(_, socket)| socket.connecting.is_some_and(|at| at <= now))
                .map(|(id, _)| *id)
                .collect();
            for id in late {
                self.fail(id, CloseReason::ConnectTimeout);
            }
            self.graph.run_timers();
            self.turn();
        }
        self.graph.now = end;
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.sockets.len()
    }

    fn pass_to_attempt(&mut self) -> bool {
        let Some(at) = self.sockets.values().filter_map(|socket| socket.connecting).min() else {
            return false;
        };
        self.pass(at.saturating_duration_since(self.graph.now));
        true
    }

    fn act(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.connecting.is_some() {
            let outcome = self.dice.below(1000);
            if outcome < self.faults.refusals {
                return self.fail(id, CloseReason::ConnectFailed);
            }
            if outcome < self.faults.refusals + self.faults.silences {
                socket.silent = true;
                return;
            }
            socket.connecting = None;
            if socket.tell {
                self.graph.from_socket(id, Event::Resume);
            }
            return;
        }
        if socket.can_take() && (!socket.can_read() || self.dice.below(2) == 0) {
            return self.take(id);
        }
        if socket.to_proxy.is_empty() {
            socket.eof = true;
            self.graph.from_socket(id, Event::Close(CloseReason::Finished));
            self.turn();
            return self.close_if_done(id);
        }
        let most = self.dice.pick(&[1, 7, 100, 2000]);
        let count = 1 + self.dice.below(socket.to_proxy.len().min(most));
        let bytes: Vec<u8> = socket.to_proxy.drain(..count.min(socket.to_proxy.len())).collect();
        self.graph.from_socket(id, Event::Data(bytes.into()));
    }

    /// The kernel takes some of what is queued, and the peer hears it.
    fn take(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.out.is_empty() {
            socket.shut = true;
            let (answer, finished) = socket.peer.finished();
            socket.say(&answer, finished);
            return self.close_if_done(id);
        }
        let most = self.dice.pick(&[1, 50, 1000, 5000]);
        let count = 1 + self.dice.below(socket.out.len().min(most));
        let bytes: Vec<u8> = socket.out.drain(..count.min(socket.out.len())).collect();
        let (answer, finished) = socket.peer.hear(&bytes);
        socket.say(&answer, finished);
        if socket.congested && socket.out.len() < OUT_LOW {
            socket.congested = false;
            self.graph.from_socket(id, Event::Resume);
        }
    }

    fn turn(&mut self) {
        loop {
            self.graph.run();
            for op in std::mem::take(&mut self.graph.ops) {
                self.carry_out(op);
            }
            self.graph.run();
            if self.graph.ops.is_empty() {
                self.app.step(&mut self.graph);
                self.graph.run();
                self.app.turn_ends(self.graph.now);
                if self.graph.ops.is_empty() {
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Connect(id, to) | Op::ConnectDatagrams(id, to) => {
                // Without a limit an attempt ends when the kernel gives up.
                let limit = if to.timeout.is_zero() { Duration::from_secs(120) } else { to.timeout };
                let peer = (self.upstream)(to.address);
                self.sockets.insert(id, Socket::new(peer, Some(self.graph.now + limit), to.tell));
            }
            Op::Write(id, bytes) => {
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                assert!(!socket.finishing, "written after the end: {bytes:?}");
                socket.out.extend(&bytes);
                if socket.out.len() > OUT_HIGH && !socket.congested {
                    socket.congested = true;
                    self.graph.from_socket(id, Event::Pause);
                }
            }
            Op::Finish(id) => {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.finishing = true;
                }
            }
            Op::Reading(id, reading) => {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.reading = reading;
                }
            }
            Op::Close(id, reset) => self.close(id, reset),
        }
    }

    fn close_if_done(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(|socket| socket.eof && socket.shut) {
            self.close(id, false);
        }
    }

    /// The pipeline lets go: what is queued still reaches the peer, unless it is reset.
    fn close(&mut self, id: SocketId, reset: bool) {
        if let Some(mut socket) = self.sockets.remove(&id) {
            let connecting = socket.connecting.is_some();
            if !reset && !connecting {
                let rest: Vec<u8> = socket.out.drain(..).collect();
                if !rest.is_empty() {
                    socket.peer.hear(&rest);
                }
                if !socket.shut {
                    socket.peer.finished();
                }
            }
            socket.peer.gone(reset);
        }
        self.graph.socket_gone(id);
    }

    /// The connection breaks.
    fn fail(&mut self, id: SocketId, reason: CloseReason) {
        self.graph.from_socket(id, Event::Close(reason));
        self.graph.run();
        if let Some(mut socket) = self.sockets.remove(&id) {
            socket.peer.gone(true);
        }
        self.graph.socket_gone(id);
        self.turn();
    }
}

impl Socket {
    fn new(peer: Box<dyn Peer>, connecting: Option<Instant>, tell: bool) -> Self {
        Socket {
            peer,
            to_proxy: VecDeque::new(),
            peer_finished: false,
            eof: false,
            out: VecDeque::new(),
            reading: true,
            finishing: false,
            shut: false,
            congested: false,
            connecting,
            silent: false,
            tell,
        }
    }

    fn say(&mut self, bytes: &[u8], finished: bool) {
        assert!(!self.peer_finished || bytes.is_empty(), "a peer of the test speaks after its end");
        self.to_proxy.extend(bytes);
        self.peer_finished |= finished;
    }

    fn can_read(&self) -> bool {
        self.reading && !self.eof && (!self.to_proxy.is_empty() || self.peer_finished)
    }

    fn can_take(&self) -> bool {
        !self.out.is_empty() || (self.finishing && !self.shut)
    }

    fn ready(&self) -> bool {
        if self.connecting.is_some() { !self.silent } else { self.can_read() || self.can_take() }
    }
}
