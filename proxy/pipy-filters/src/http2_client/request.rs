//! One stream to a server: the request on it, and how far it and its response are.

use pipy_h2::StreamId;
use pipy_http::RequestHead;

/// See the module.
pub(super) struct Request {
    pub(super) stream: StreamId,
    /// Until a response begins, for a server that has not looked at it.
    pub(super) head: Option<Box<RequestHead>>,
    pub(super) tunnel: Tunnel,
    /// What a client of HTTP/1 expects to be told when its WebSocket is accepted.
    pub(super) digest: Option<String>,
    pub(super) request_done: bool,
    pub(super) response_done: bool,
    /// The owner can't take more.
    pub(super) paused: bool,
    /// The owner was told to pause.
    pub(super) waiting: bool,
    /// Bytes that were given to the owner and not released.
    pub(super) owed: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    No,
    Asked,
    Open,
}
