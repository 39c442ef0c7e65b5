//! What a worker runs, and how other threads speak to it.
//!
//! An [`App`] decides about each accepted connection and takes updates; a [`Handle`] sends updates, and the order to end.
//! INVARIANT: an `App` lives on its worker's thread alone; only updates travel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use mio::Waker;
use pipy_pipeline::{Filter, Graph, SocketLimits};

/// A connection that was just accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it reached.
    pub local: SocketAddr,
    /// The address that it meant.
    pub destination: SocketAddr,
}

/// What becomes of an accepted connection.
pub enum Verdict {
    /// It runs through these filters.
    Run(Vec<Box<dyn Filter>>),
    /// It runs through these filters and turns around behind the last: what that one sends on goes back to the client.
    RunTurning(Vec<Box<dyn Filter>>),
    /// It is closed without a word: the client sees an end, no error, even when it has spoken already.
    Close,
    /// It is reset.
    Reset,
}

/// What a worker runs: decides about connections, takes updates. One instance per worker.
pub trait App {
    /// What the main thread can send to each worker.
    type Update: Send + 'static;

    /// A connection came in on the listener with this key.
    fn accept(&mut self, listener: u32, connection: Accepted, now: Instant) -> Verdict;

    /// How the connections of this listener are treated; `None` for what a connection has that nothing is said of.
    fn limits(&self, _listener: u32) -> Option<SocketLimits> {
        None
    }

    /// Whether another connection may be taken from this listener now. What may not waits in the kernel, and is asked about
    /// again when a turn is over.
    fn takes(&self, _listener: u32) -> bool {
        true
    }

    /// UDP sockets to listen on (or to replace), and, with `None`, to close; asked after each update and step. Their keys are
    /// apart from those of other listeners.
    fn datagram_listeners(&mut self) -> Vec<(u32, Option<std::net::UdpSocket>)> {
        Vec::new()
    }

    /// A peer's first datagram came to the UDP listener with this key. The destination is the listener's own address, but for
    /// listeners for which the firewall captures datagrams ([`crate::bind_captured`]).
    fn accept_datagrams(&mut self, _listener: u32, _session: Accepted, _now: Instant) -> Verdict {
        Verdict::Close
    }

    /// Whether what is answered to captured datagrams comes from where they were going, and not from the listener's own address.
    fn masquerades(&self, _listener: u32) -> bool {
        true
    }

    /// So many datagrams were dropped in this turn: no room for their session, or not taken by the kernel.
    fn datagrams_dropped(&mut self, _count: u64) {}

    /// An update arrived. Returns listeners to open (or replace), and, with `None`, to close.
    fn update(&mut self, update: Self::Update) -> Vec<(u32, Option<std::net::TcpListener>)>;

    /// A turn of the loop begins.
    fn turn_begins(&mut self, _now: Instant) {}

    /// All events of the turn are handled: time for what needs the graph, such as opening pipelines that no connection
    /// has asked for and waking filters. Returns listeners to open (or replace), and, with `None`, to close.
    fn step(&mut self, _graph: &mut Graph) -> Vec<(u32, Option<std::net::TcpListener>)> {
        Vec::new()
    }

    /// The turn is over: time for what is done once per turn, such as handing over log lines. Returns when the next turn
    /// should come at the latest.
    fn turn_ends(&mut self, _now: Instant) -> Option<Instant> {
        None
    }
}

/// How a worker runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Packet mark of outgoing connections.
    pub mark: Option<u32>,
}

pub(crate) enum Command<U> {
    Update(U),
    Drain,
    Stop,
}

/// Speaks to a running worker from another thread.
pub struct Handle<U> {
    commands: Sender<Command<U>>,
    waker: Arc<Waker>,
}

impl<U> Clone for Handle<U> {
    fn clone(&self) -> Self {
        Handle { commands: self.commands.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<U> Handle<U> {
    pub(crate) fn new(commands: Sender<Command<U>>, waker: Arc<Waker>) -> Self {
        Handle { commands, waker }
    }

    /// Sends an update; it takes effect between two turns.
    pub fn update(&self, update: U) {
        self.send(Command::Update(update));
    }

    /// Closes the listeners, lets connections finish; the worker's thread ends when the last one is gone.
    pub fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Ends the worker's thread, whatever is open.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command<U>) {
        // A worker that has ended needs nothing any more.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
