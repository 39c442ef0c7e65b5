//! A socket of the simulation: what waits in it in either direction, and who is at its other end.
//!
//! In: bytes that the graph writes, bytes that the other end says. Out: whether anything can happen to it now. INVARIANT: a
//! stream gives nothing after its end, in either direction; a datagram is whole. Not here: when what happens (the dice are
//! the simulation's).

use std::collections::VecDeque;
use std::time::Instant;

use pipy_pipeline::SocketId;
use pipy_worker::Accepted;

/// The other end of a socket, played by a test.
pub trait Peer {
    /// Bytes came; of datagrams, one. What it answers goes out; `true` as the second: it has finished.
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool);
    /// The proxy has finished. Answers as [`Peer::hear`].
    fn finished(&mut self) -> (Vec<u8>, bool);
    /// The connection is gone; `true`: it was reset.
    fn gone(&mut self, reset: bool);
}

/// Where what a proxy connects to is played.
pub enum Far {
    /// By the test.
    Peer(Box<dyn Peer>),
    /// By a listener of another proxy of the simulation.
    Node(Listener),
    /// Nobody listens there.
    Nobody,
}

/// A listener of a proxy, and what it learns of who calls.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    /// The proxy's number.
    pub node: usize,
    /// The listener's key.
    pub key: u32,
    /// The addresses.
    pub accepted: Accepted,
}

/// A socket of one of the proxies.
pub(super) type Place = (usize, SocketId);

/// Who is at the other end.
pub(super) enum End {
    Peer(Box<dyn Peer>),
    Socket(Place),
    /// Who will be asked when the connection is made, or with the first datagram.
    Listener(Listener),
    Nobody,
    /// It has let go: what is said is heard by nobody.
    Gone,
}

pub(super) struct Socket {
    pub(super) end: End,
    pub(super) datagrams: bool,
    /// What the proxy will read.
    pub(super) incoming: VecDeque<u8>,
    /// What it has written.
    pub(super) outgoing: VecDeque<u8>,
    /// The same of a socket of datagrams.
    pub(super) letters_in: Vec<Vec<u8>>,
    pub(super) letters_out: Vec<Vec<u8>>,
    pub(super) peer_finished: bool,
    /// The peer of the test has been cut off in the middle: what it says is lost.
    pub(super) muted: bool,
    pub(super) eof: bool,
    pub(super) reading: bool,
    pub(super) finishing: bool,
    pub(super) heard: bool,
    pub(super) shut: bool,
    pub(super) congested: bool,
    /// The attempt's deadline.
    pub(super) connecting: Option<Instant>,
    /// Nothing comes of the attempt.
    pub(super) silent: bool,
    pub(super) tell: bool,
    /// Nothing moves until then.
    pub(super) stalled: Option<Instant>,
}

impl Socket {
    pub(super) fn new(end: End) -> Self {
        Socket {
            end,
            datagrams: false,
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            letters_in: Vec::new(),
            letters_out: Vec::new(),
            peer_finished: false,
            muted: false,
            eof: false,
            reading: true,
            finishing: false,
            heard: false,
            shut: false,
            congested: false,
            connecting: None,
            silent: false,
            tell: false,
            stalled: None,
        }
    }

    pub(super) fn connecting(end: End, until: Instant, tell: bool) -> Self {
        Socket { connecting: Some(until), tell, ..Socket::new(end) }
    }

    pub(super) fn of_datagrams(end: End) -> Self {
        Socket { datagrams: true, ..Socket::new(end) }
    }

    /// The peer of the test says something.
    pub(super) fn say(&mut self, bytes: &[u8], finished: bool) {
        if self.muted {
            return;
        }
        if self.datagrams {
            if !bytes.is_empty() {
                self.letters_in.push(bytes.to_vec());
            }
            return;
        }
        assert!(!self.peer_finished || bytes.is_empty(), "a peer of the test speaks after its end");
        self.incoming.extend(bytes);
        self.peer_finished |= finished;
    }

    pub(super) fn can_read(&self) -> bool {
        if self.datagrams {
            return !self.letters_in.is_empty();
        }
        self.reading && !self.eof && (!self.incoming.is_empty() || self.peer_finished)
    }

    /// Whether there is something that could leave.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty() || !self.letters_out.is_empty() || (self.finishing && !self.shut)
    }

    /// Whether something can leave, when there is so much room at the other end.
    pub(super) fn can_write(&self, room: usize) -> bool {
        if self.datagrams {
            return !self.letters_out.is_empty();
        }
        (!self.outgoing.is_empty() && room > 0) || (self.outgoing.is_empty() && self.finishing && !self.shut)
    }
}
