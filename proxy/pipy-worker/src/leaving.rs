//! Sockets that their pipeline has let go of in good order, on their way out.
//!
//! What was queued is sent, then the end of the stream; then what the peer still says is read and dropped, for closing a
//! socket with unread bytes resets the connection, and a reset overtakes what the peer has not read yet.
//!
//! Also those whose clients are to be reset: at their first word, for a client that is reset before it has seen that it is
//! connected takes it for a port that is closed (curl: 7 instead of 56).
//!
//! INVARIANT: a socket stays here only while it makes progress, so that a peer that does nothing holds no memory for long.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::socket::Socket;

/// LIMIT: how long a peer may take none of what is queued. Slow readers make some progress in this time; nginx's
/// `send_timeout` is 60 s.
const STALL_MAX: Duration = Duration::from_secs(10);

/// LIMIT: how long a peer may go on talking after our end of the stream.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// How often those that make no progress are looked for.
const SWEEP: Duration = Duration::from_millis(250);

/// LIMIT: reads per look at one socket.
const READS_MAX: usize = 16;

struct Entry {
    socket: Socket,
    deadline: Instant,
    reset: bool,
}

/// All sockets of a worker that are on their way out. Their tokens start at `base`.
pub(crate) struct Leaving {
    base: usize,
    entries: Slab<Entry>,
    sweep: Option<Instant>,
}

impl Leaving {
    pub(crate) fn new(base: usize) -> Self {
        Leaving { base, entries: Slab::new(), sweep: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When [`Leaving::sweep`] should be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.sweep.filter(|_| !self.is_empty())
    }

    /// Takes a socket over; it may stand in the event queue already.
    pub(crate) fn take(&mut self, mut socket: Socket, registry: &Registry, now: Instant) {
        socket.finishing = true;
        if step(&mut socket) {
            return;
        }
        let deadline = now + if socket.queued() > 0 { STALL_MAX } else { LINGER_MAX };
        self.insert(Entry { socket, deadline, reset: false }, registry, now);
    }

    /// Takes over a socket that is to be reset.
    pub(crate) fn take_reset(&mut self, socket: Socket, registry: &Registry, now: Instant) {
        self.insert(Entry { socket, deadline: now + LINGER_MAX, reset: true }, registry, now);
    }

    fn insert(&mut self, mut entry: Entry, registry: &Registry, now: Instant) {
        let socket = &mut entry.socket;
        let place = self.entries.vacant_entry();
        let (token, interest) = (Token(self.base + place.key()), Interest::READABLE | Interest::WRITABLE);
        let registered = registry
            .reregister(&mut socket.stream, token, interest)
            .or_else(|_| registry.register(&mut socket.stream, token, interest));
        // Without a place in the event queue it could only be forgotten.
        if registered.is_ok() {
            place.insert(entry);
            self.sweep.get_or_insert(now + SWEEP);
        }
    }

    /// The operating system says that something can be done about this one.
    pub(crate) fn ready(&mut self, index: usize, now: Instant) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        if entry.reset {
            // Readiness for writing is no word of the client.
            let silent = |socket: &Socket| {
                let error = socket.stream.peek(&mut [0]).err();
                error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            };
            if !silent(&entry.socket) {
                self.drop_entry(index);
            }
            return;
        }
        let queued = entry.socket.queued();
        let over = step(&mut entry.socket);
        if entry.socket.queued() < queued {
            entry.deadline = now + if entry.socket.queued() > 0 { STALL_MAX } else { LINGER_MAX };
        }
        if over {
            self.drop_entry(index);
        }
    }

    /// Drops those that have made no progress for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if self.sweep.is_none_or(|at| at > now) {
            return;
        }
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            self.ready(index, now);
            if self.entries.get(index).is_some_and(|entry| entry.deadline <= now) {
                self.drop_entry(index);
            }
        }
        self.sweep = (!self.is_empty()).then(|| now + SWEEP);
    }

    fn drop_entry(&mut self, index: usize) {
        if let Some(entry) = self.entries.try_remove(index)
            && entry.reset
        {
            entry.socket.reset_on_close();
        }
    }
}

/// Sends what can be sent, drops what has come; true when there is nothing left to do.
fn step(socket: &mut Socket) -> bool {
    if socket.flush().is_err() {
        return true;
    }
    if socket.queued() > 0 {
        return false;
    }
    if socket.is_done() {
        return true;
    }
    let mut dropped = [0; 8 * 1024];
    for _ in 0..READS_MAX {
        match socket.stream.read(&mut dropped) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    false
}
