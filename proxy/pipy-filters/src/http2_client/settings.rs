//! How a connection of HTTP/2 to a server is used, and the limits of that.

use std::time::Duration;

use pipy_h2::Scheme;

use crate::codec_bytes::CodecBytes;

/// LIMIT: requests at once on one connection, whatever the server takes: more connections spread better.
pub(super) const STREAMS_MAX: u32 = 1000;

/// LIMIT: requests at once before the server has said how many it takes (RFC 9113 section 6.5.2 recommends no fewer).
pub const STREAMS_FIRST: u32 = 100;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Http2Settings {
    /// What requests say that they are made over.
    pub scheme: Scheme,
    /// How long the connection is kept without a request; zero: for ever.
    pub idle: Duration,
    /// After how long a silence, with requests under way, the server is asked whether it is still there; zero: never.
    pub keepalive: Duration,
    /// The age at which it takes no more requests; zero: none.
    pub age: Duration,
    /// Requests at once, if the server takes as many; 0: a thousand.
    pub streams_max: u32,
    /// What the server may send ahead and at once.
    pub bytes: CodecBytes,
}

impl Http2Settings {
    /// Requests at once, at most.
    pub fn streams(&self) -> u32 {
        if self.streams_max == 0 { STREAMS_MAX } else { self.streams_max.min(STREAMS_MAX) }
    }

    /// Requests at once, before the server has said how many it takes.
    pub fn streams_first(&self) -> u32 {
        self.streams().min(STREAMS_FIRST)
    }
}
