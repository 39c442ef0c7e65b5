//! The event loop's dealings with listeners: what is opened and closed, and what becomes of those who connect.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::app::{Accepted, App, Verdict};
use crate::listen::{Listener, original_destination};
use crate::socket::Socket;
use crate::worker::{LISTENERS, Worker};

/// LIMIT: connections accepted in a row before the open ones have their turn.
const ACCEPT_BUDGET: usize = 64;

/// How long to wait before accepting again when the process had no file descriptor for a connection. The queue of the
/// kernel holds it meanwhile, and no readiness would tell of it again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

impl<A: App> Worker<A> {
    pub(super) fn listen(&mut self, key: usize, listener: Option<std::net::TcpListener>) {
        if self.listeners.len() <= key {
            self.listeners.resize_with(key + 1, || None);
        }
        let mut listener = listener.filter(|_| !self.graph.draining).map(Listener::new);
        if let Some(listener) = &mut listener {
            // Registration fails only when the process is out of kernel memory; the listener then stays deaf.
            let _ = self.poll.registry().register(
                &mut listener.socket,
                Token(LISTENERS + key),
                Interest::READABLE,
            );
        }
        if let Some(place) = self.listeners.get_mut(key) {
            *place = listener;
        }
        self.accept(key);
    }

    /// Accepts what waits, up to the budget; true when more may wait.
    pub(super) fn accept(&mut self, key: usize) -> bool {
        for _ in 0..ACCEPT_BUDGET {
            let Some(Some(listener)) = self.listeners.get(key) else { return false };
            if !self.app.takes(u32::try_from(key).unwrap_or(u32::MAX)) {
                // Another worker's connections may be in the way, whose ends are not heard of here.
                self.accept_again.get_or_insert(self.graph.now + ACCEPT_AGAIN);
                return false;
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => self.accepted(key, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // A client that went away before we came is no reason to stop.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Most likely there are no more file descriptors, which passes.
                Err(_) => {
                    self.accept_again.get_or_insert(self.graph.now + ACCEPT_AGAIN);
                    return false;
                }
            }
        }
        // More may wait, and the edge was used up: come back in the next turn.
        if let Some(Some(listener)) = self.listeners.get_mut(key) {
            let (token, interest) = (Token(LISTENERS + key), Interest::READABLE);
            let _ = self.poll.registry().reregister(&mut listener.socket, token, interest);
        }
        true
    }

    /// Accepts what could not be accepted for want of file descriptors.
    pub(super) fn accept_late(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.graph.now) {
            self.accept_again = None;
            for key in 0..self.listeners.len() {
                self.accept(key);
            }
        }
    }

    pub(super) fn accepted(&mut self, key: usize, stream: TcpStream, peer: SocketAddr) {
        let bound = self.listeners.get(key).and_then(Option::as_ref).and_then(|listener| listener.bound);
        let Some(local) = bound.or_else(|| stream.local_addr().ok()) else { return };
        let destination = original_destination(&stream, local);
        let listener = u32::try_from(key).unwrap_or(u32::MAX);
        match self.app.accept(listener, Accepted { peer, local, destination }, self.graph.now) {
            verdict @ (Verdict::Run(_) | Verdict::RunTurning(_)) => {
                let (id, _) = match verdict {
                    Verdict::RunTurning(filters) => self.graph.accept_turning(filters),
                    Verdict::Run(filters) => self.graph.accept(filters),
                    Verdict::Close | Verdict::Reset => return,
                };
                let mut socket = Socket::new(id.serial, stream, false);
                if let Some(limits) = self.app.limits(listener) {
                    socket.limit(limits);
                }
                // WHY: most clients speak at once, and their first words came with the connection: reading now spares a
                // wait for readiness, and costs one read where there is nothing yet.
                socket.readable = true;
                self.insert(id, socket);
                self.carry();
                self.read(id);
            }
            Verdict::Close => {
                let socket = Socket::new(0, stream, false);
                self.leaving.take(socket, self.poll.registry(), self.graph.now);
            }
            Verdict::Reset => {
                let socket = Socket::new(0, stream, false);
                self.leaving.take_reset(socket, self.poll.registry(), self.graph.now);
            }
        }
    }
}
