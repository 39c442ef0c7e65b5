//! What passes between two ends: attempts, bytes, datagrams, the end of either direction, and breaks.
//!
//! INVARIANT: what a graph has written before it lets go of a socket still arrives; what it writes into a connection that
//! the other end has let go of is heard by nobody, and may be answered by a reset, as by a kernel.

use std::time::Duration;

use pipy_pipeline::{CloseReason, Event, Op, SocketId};
use pipy_worker::App;

use super::Simulation;
use super::socket::{End, Far, Listener, Place, Socket};

/// Bytes waiting to be taken above and below which the producing side is paused and goes on: small, so that it happens.
const OUT_HIGH: usize = 4096;
const OUT_LOW: usize = 1024;

/// Bytes that one proxy may be ahead of another.
const WINDOW: usize = 8192;

/// When the kernel gives up an attempt that has no limit of its own.
const ATTEMPT_MAX: Duration = Duration::from_secs(120);

impl<A: App> Simulation<A> {
    /// How much the other end would take now.
    pub(super) fn room(&self, socket: &Socket) -> usize {
        match &socket.end {
            End::Socket(far) => {
                self.sockets.get(far).map_or(WINDOW, |far| WINDOW.saturating_sub(far.incoming.len()))
            }
            _ => usize::MAX,
        }
    }

    pub(super) fn is_ready(&self, socket: &Socket) -> bool {
        if socket.stalled.is_some_and(|until| until > self.now) {
            return false;
        }
        match socket.connecting {
            Some(_) => !socket.silent,
            // Most say all that they have at once, so that there is no need to look at the other end.
            None => socket.can_read() || (socket.wants_to_write() && socket.can_write(self.room(socket))),
        }
    }

    /// A connection attempt ends.
    pub(super) fn attempted(&mut self, place: Place) {
        let outcome = self.dice.below(1000);
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        if outcome < self.faults.refusals || matches!(socket.end, End::Nobody) {
            return self.broken.push_back((place, CloseReason::ConnectFailed));
        }
        if outcome < self.faults.refusals + self.faults.silences {
            socket.silent = true;
            return;
        }
        socket.connecting = None;
        let tell = socket.tell;
        if let End::Listener(to) = socket.end {
            self.reach(place, to);
        }
        if tell {
            self.nodes[place.0].graph.from_socket(place.1, Event::Resume);
        }
    }

    /// The connection is another proxy's.
    fn reach(&mut self, place: Place, to: Listener) {
        let end = match self.accept(to, End::Socket(place)) {
            Ok(far) => End::Socket(far),
            Err(refused) if refused.reset => {
                self.broken.push_back((place, CloseReason::Reset));
                End::Gone
            }
            Err(_) => End::Gone,
        };
        if let Some(socket) = self.sockets.get_mut(&place) {
            socket.peer_finished = matches!(end, End::Gone);
            socket.end = end;
        }
    }

    /// The kernel takes some of what is queued, and the other end has it.
    pub(super) fn write(&mut self, place: Place, room: usize) {
        let most = self.dice.pick(&[1, 50, 1000, 5000]).min(room);
        let dice = self.dice.below(OUT_HIGH * 4);
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        if socket.outgoing.is_empty() {
            return self.write_end(place);
        }
        let count = 1 + dice % socket.outgoing.len().min(most);
        let bytes: Vec<u8> = socket.outgoing.drain(..count).collect();
        let mut far = None;
        match &mut socket.end {
            End::Peer(peer) => {
                let (answer, finished) = peer.hear(&bytes);
                socket.say(&answer, finished);
            }
            End::Socket(other) => far = Some(*other),
            // What a kernel answers to bytes for a socket that is gone.
            End::Gone if dice % 2 == 0 => self.broken.push_back((place, CloseReason::Reset)),
            _ => {}
        }
        if socket.congested && socket.outgoing.len() < OUT_LOW {
            socket.congested = false;
            self.nodes[place.0].graph.from_socket(place.1, Event::Resume);
        }
        if let Some(far) = far.and_then(|far| self.sockets.get_mut(&far)) {
            far.incoming.extend(bytes);
        }
        self.note(place, count);
    }

    fn write_end(&mut self, place: Place) {
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        socket.shut = true;
        let mut far = None;
        match &mut socket.end {
            End::Peer(peer) => {
                let (answer, finished) = peer.finished();
                socket.say(&answer, finished);
            }
            End::Socket(other) => far = Some(*other),
            _ => {}
        }
        if let Some(far) = far.and_then(|far| self.sockets.get_mut(&far)) {
            far.peer_finished = true;
        }
        self.close_if_done(place);
    }

    /// A datagram arrives, whichever comes first.
    pub(super) fn post(&mut self, place: Place) {
        let lost = self.dice.below(1000) < self.faults.losses;
        let dice = self.dice.below(1 << 16);
        let Some(socket) = self.sockets.get_mut(&place) else { return };
        let letter = socket.letters_out.swap_remove(dice % socket.letters_out.len());
        self.trace = self.trace.rotate_left(1) ^ letter.len() as u64;
        if lost {
            return;
        }
        let far = match &mut socket.end {
            End::Peer(peer) => {
                let (answer, finished) = peer.hear(&letter);
                return socket.say(&answer, finished);
            }
            End::Socket(far) => Some(*far),
            End::Listener(to) => {
                let to = *to;
                self.session(&to).or_else(|| self.begin_session(to, End::Socket(place)))
            }
            End::Nobody => return self.broken.push_back((place, CloseReason::ConnectFailed)),
            End::Gone => None,
        };
        if let Some(far) = far.and_then(|far| self.sockets.get_mut(&far)) {
            far.letters_in.push(letter);
        }
    }

    pub(super) fn carry_out(&mut self, number: usize, op: Op) {
        match op {
            Op::Connect(id, to) => {
                let limit = if to.timeout.is_zero() { ATTEMPT_MAX } else { to.timeout };
                let end = self.far(number, to.address);
                let socket = Socket::connecting(end, self.now + limit, to.tell);
                self.sockets.insert((number, id), socket);
            }
            Op::ConnectDatagrams(id, to) => {
                let end = self.far(number, to.address);
                self.sockets.insert((number, id), Socket::of_datagrams(end));
            }
            Op::ConnectNetlink(..) => unreachable!("a simulated network has no kernel"),
            Op::Write(id, bytes) => {
                let Some(socket) = self.sockets.get_mut(&(number, id)) else { return };
                assert!(!socket.finishing, "written after the end: {bytes:?}");
                if socket.datagrams {
                    return socket.letters_out.push(bytes.to_vec());
                }
                socket.outgoing.extend(&bytes);
                if socket.outgoing.len() > OUT_HIGH && !socket.congested {
                    socket.congested = true;
                    self.nodes[number].graph.from_socket(id, Event::Pause);
                }
            }
            Op::Finish(id) => match self.sockets.get_mut(&(number, id)) {
                // Of datagrams, a session ends so: a peer can't be told that there will be no more.
                Some(socket) if socket.datagrams => {
                    let is_session = self.sessions.values().any(|place| *place == (number, id));
                    if is_session {
                        self.close((number, id), false);
                    }
                }
                Some(socket) => socket.finishing = true,
                None => {}
            },
            Op::Heard(id) => {
                if let Some(socket) = self.sockets.get_mut(&(number, id)) {
                    socket.heard = true;
                }
            }
            Op::Limit(..) => {}
            Op::Reading(id, reading) => {
                if let Some(socket) = self.sockets.get_mut(&(number, id)) {
                    socket.reading = reading;
                }
            }
            Op::Close(id, reset) => self.close((number, id), reset),
        }
    }

    fn far(&mut self, number: usize, address: std::net::SocketAddr) -> End {
        match (self.upstream)(number, address) {
            Far::Peer(peer) => End::Peer(peer),
            Far::Node(to) => End::Listener(to),
            Far::Nobody => End::Nobody,
        }
    }

    pub(super) fn close_if_done(&mut self, place: Place) {
        if self.sockets.get(&place).is_some_and(|socket| socket.shut && (socket.eof || socket.heard)) {
            self.close(place, false);
        }
    }

    /// The pipeline lets go: what is queued still arrives, unless it is reset.
    fn close(&mut self, place: Place, reset: bool) {
        let mut left = None;
        if let Some(mut socket) = self.sockets.remove(&place) {
            let said: Vec<u8> = socket.outgoing.drain(..).collect();
            let orderly = !reset && socket.connecting.is_none();
            match &mut socket.end {
                End::Peer(peer) => {
                    if orderly && !said.is_empty() {
                        peer.hear(&said);
                    }
                    if orderly && !socket.shut && !socket.datagrams {
                        peer.finished();
                    }
                    peer.gone(reset);
                }
                End::Socket(far) => left = Some((*far, said, socket.letters_out)),
                _ => {}
            }
        }
        if let Some((far, said, letters)) = left
            && let Some(other) = self.sockets.get_mut(&far)
        {
            if other.datagrams {
                other.letters_in.extend(letters);
            } else if reset {
                self.broken.push_back((far, CloseReason::Reset));
            } else {
                other.incoming.extend(said);
                (other.peer_finished, other.end) = (true, End::Gone);
            }
        }
        self.gone(place);
    }

    /// The connection breaks, at both ends.
    pub(super) fn fail(&mut self, place: Place, reason: CloseReason) {
        let Some(mut socket) = self.sockets.remove(&place) else { return };
        self.note(place, 2);
        match &mut socket.end {
            End::Peer(peer) => peer.gone(true),
            End::Socket(far) if !socket.datagrams => self.broken.push_back((*far, CloseReason::Reset)),
            _ => {}
        }
        let graph = &mut self.nodes[place.0].graph;
        graph.from_socket(place.1, Event::Close(reason));
        graph.run();
        self.gone(place);
    }

    fn gone(&mut self, place: Place) {
        self.sessions.retain(|_, session| *session != place);
        let (number, id): (usize, SocketId) = place;
        self.nodes[number].graph.socket_gone(id);
    }
}
