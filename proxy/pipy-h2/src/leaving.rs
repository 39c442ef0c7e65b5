//! How a connection ends: gracefully by either side, with the socket, or by a failure.
//!
//! ```text
//! server: No ──shutdown()──► Announced ──answer to our PING, or leave_now()──► Last(n) ──no streams──► done
//! client: No ──shutdown()──────────────────────────────────────────────────► Last(0) ──no streams──► done
//! either: ──failure, finish()──► failed, done
//! ```
//!
//! In: the caller's wish, the end of the socket. Out: GOAWAY frames, and a `Reset` for each stream that
//! does not live to see it.
//!
//! Invariant: the last stream that we name never rises (RFC 9113 §6.8).
//!
//! Not done here: how long a caller waits for [`Connection::is_done`].

use std::collections::VecDeque;

use crate::connection::{Connection, Role};
use crate::event::{Event, ResetCause, StreamId};
use crate::frame::{put_goaway, put_ping};
use crate::hpack::{Decoder, Encoder};
use crate::input::Input;
use crate::streams::Streams;
use crate::{ConnectionError, ErrorCode};

/// How far our own graceful end is (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// The first GOAWAY is out, and a PING that tells when the peer has seen it.
    Announced,
    /// The last one is: streams above this one are not looked at.
    Last(u32),
}

/// Tells our PING of a graceful end from the caller's.
pub(crate) const LEAVING_PING: [u8; 8] = *b"leaving\0";

impl Connection {
    /// Sends a PING; its [`Event::Pong`] tells that the connection lives, and the round trip.
    pub fn ping(&mut self, payload: [u8; 8]) {
        if self.failed.is_none() {
            self.pings_unanswered += 1;
            put_ping(0, payload, &mut self.out);
        }
    }

    /// Takes no new streams from now on, and lets the present ones end (RFC 9113 §6.8).
    ///
    /// A server announces it first, and names the last stream when the peer has answered a PING:
    /// requests that were under way are served, not refused. [`is_done`](Self::is_done) tells the end.
    pub fn shutdown(&mut self) {
        if self.failed.is_some() || self.leaving != Leaving::No {
            return;
        }
        match self.role {
            Role::Server => {
                put_goaway(u32::MAX >> 1, ErrorCode::NO_ERROR, b"", &mut self.out);
                put_ping(0, LEAVING_PING, &mut self.out);
                self.pings_unanswered += 1;
                self.leaving = Leaving::Announced;
            }
            Role::Client => self.leave_now(),
        }
    }

    /// The second step of [`shutdown`](Self::shutdown), for a caller that will not wait for the
    /// peer: streams that it has not seen yet are refused, and may be sent again elsewhere.
    pub fn leave_now(&mut self) {
        if self.failed.is_none() && !matches!(self.leaving, Leaving::Last(_)) {
            put_goaway(self.last_peer_id, ErrorCode::NO_ERROR, b"", &mut self.out);
            self.leaving = Leaving::Last(self.last_peer_id);
        }
    }

    /// Says that the peer sends nothing more: the socket has ended. Every stream that is left gets a
    /// [`Event::Reset`].
    ///
    /// Errors: [`ConnectionError::Truncated`] unless the connection was between frames and had no
    /// streams.
    pub fn finish(&mut self) -> Result<(), ConnectionError> {
        if let Some(error) = &self.failed {
            return Err(ConnectionError::clone(error));
        }
        let part = match (self.input.unfinished(), &self.block) {
            (Some(part), _) => Some(part),
            (None, Some(_)) => Some("a header block"),
            (None, None) if !self.streams.is_empty() => Some("a stream"),
            _ => None,
        };
        let error = ConnectionError::Truncated { part: part.unwrap_or("nothing") };
        self.end(error.clone());
        if part.is_some() { Err(error) } else { Ok(()) }
    }

    /// Ends the connection: streams get their `Reset`, memory is given back.
    pub(crate) fn end(&mut self, error: ConnectionError) {
        let code = error.code();
        for id in self.streams.ids() {
            let cause = ResetCause::ConnectionEnded;
            self.events.push_back(Event::Reset { stream: StreamId(id), code, cause });
        }
        self.failed = Some(Box::new(error));
        self.streams = Streams::default();
        self.ready = VecDeque::new();
        self.block = None;
        self.input = Input::new(false);
        self.decoder = Decoder::new(0);
        self.encoder = Encoder::new(0);
    }

    /// Whether the socket is to be closed as soon as the output is written.
    pub fn is_done(&self) -> bool {
        let is_leaving = matches!(self.leaving, Leaving::Last(_))
            || (self.role == Role::Client && self.peer_goaway.is_some());
        self.failed.is_some() || (is_leaving && self.streams.is_empty())
    }
}
