//! One stream: its state, its windows, and how far the messages in both directions are.
//!
//! Invariants: `send.queue` is empty once the stream may not send; `recv.left` is what is missing of
//! a counted body, and no DATA beyond it is passed on.
//!
//! Not done here: frames (`receive.rs`, `output.rs`), finding streams (`streams.rs`).

use std::collections::VecDeque;

use bytes::Bytes;
use pipy_http::Headers;

use crate::flow::{RecvWindow, SendWindow};
use crate::state::{Change, State};

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) state: State,
    pub(crate) request: RequestKind,
    pub(crate) recv: RecvSide,
    pub(crate) send: SendSide,
    /// Nobody here wants what the peer still sends: once our side has ended, it is told to stop.
    pub(crate) is_abandoned: bool,
}

/// What has to be known of a request to understand the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Plain,
    Head,
    Connect,
    /// Extended CONNECT for this protocol.
    Upgrade(Box<str>),
}

#[derive(Debug)]
pub(crate) struct RecvSide {
    pub(crate) window: RecvWindow,
    pub(crate) phase: Phase,
    /// Bytes missing of a body of known length.
    pub(crate) left: Option<u64>,
    pub(crate) interim_seen: u32,
}

#[derive(Debug)]
pub(crate) struct SendSide {
    pub(crate) window: SendWindow,
    pub(crate) phase: Phase,
    pub(crate) left: Option<u64>,
    pub(crate) queue: Queue,
    /// The caller has said that this is all.
    pub(crate) end: Option<Ending>,
    /// Whether it stands in the line of those that can send.
    pub(crate) is_ready: bool,
    /// Whether the caller was told to wait.
    pub(crate) is_waiting: bool,
}

/// How far a message is. That it has ended is told by the state of the stream, or by `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its head has not come; 1xx may have.
    Head,
    Body,
    /// No content can follow: HEAD, 204, 304, or the length was zero.
    NoBody,
    /// After a CONNECT or an upgrade: bytes, and no trailers.
    Tunnel,
}

/// What follows the queue.
#[derive(Debug)]
pub(crate) enum Ending {
    Plain,
    Trailers(Box<Headers>),
}

impl Stream {
    /// A stream whose head is being sent or received.
    pub(crate) fn new(id: u32, request: RequestKind, recv_window: u32, send_window: u32) -> Self {
        Self {
            id,
            state: State::Idle.after(Change::Headers),
            request,
            recv: RecvSide {
                window: RecvWindow::new(recv_window),
                phase: Phase::Head,
                left: None,
                interim_seen: 0,
            },
            send: SendSide {
                window: SendWindow::new(send_window),
                phase: Phase::Head,
                left: None,
                queue: Queue::default(),
                end: None,
                is_ready: false,
                is_waiting: false,
            },
            is_abandoned: false,
        }
    }
}

impl SendSide {
    /// Whether there is anything to send, windows aside.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.end.is_some()
    }
}

/// Bytes on their way out. One piece, which is the usual number, takes no allocation.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    first: Bytes,
    more: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.bytes += data.len();
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.more.push_back(data);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes of the first piece.
    pub(crate) fn first_len(&self) -> usize {
        self.first.len()
    }

    /// Takes from the first piece, at most `max` bytes.
    pub(crate) fn take(&mut self, max: usize) -> Bytes {
        let data = if max < self.first.len() {
            self.first.split_to(max)
        } else {
            let next = self.more.pop_front().unwrap_or_default();
            std::mem::replace(&mut self.first, next)
        };
        self.bytes -= data.len();
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_gives_what_was_pushed_in_order() {
        let mut queue = Queue::default();
        for piece in ["abc", "", "de", "f"] {
            queue.push(Bytes::copy_from_slice(piece.as_bytes()));
        }
        assert_eq!((queue.bytes(), queue.first_len()), (6, 3));
        let taken: Vec<Bytes> = [2, 5, 1, 1, 9, 9].map(|max| queue.take(max)).into();
        assert_eq!(taken, [&b"ab"[..], b"c", b"d", b"e", b"f", b""]);
        assert!(queue.is_empty());
    }
}
