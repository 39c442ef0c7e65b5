//! What a connection tells its caller: messages, as `pipy-http` knows them, and what became of streams.
//!
//! A message is `Request` or `Response`, then `Data` any number of times, then `End`: the same order
//! as HTTP/1 items, so that one filter can serve both. `Interim` may precede `Response`. `Reset` may
//! come instead of all that is missing, and is the last event of its stream.

use std::fmt;

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, RequestHead, ResponseHead};

use crate::{ErrorCode, Scheme, StreamError};

/// A stream of one connection. Never used twice on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The identifier on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What has happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request begins. `host` is its first header, and stands for `:authority`.
    ///
    /// An extended CONNECT (RFC 8441) is a GET with `upgrade`, and is answered with 101.
    Request {
        /// Its stream, for the answer.
        stream: StreamId,
        /// Target in origin form, or `host:port` of a CONNECT.
        head: Box<RequestHead>,
        /// What the client believes the connection to be. Its word only.
        scheme: Scheme,
        /// `Chunked` stands for an unknown length.
        body: BodyLength,
    },
    /// A 1xx response; the final one follows.
    Interim {
        /// The stream of the request.
        stream: StreamId,
        /// Its head.
        head: Box<ResponseHead>,
    },
    /// The final response begins.
    Response {
        /// The stream of the request.
        stream: StreamId,
        /// Its head. 101 is an upgrade that was accepted.
        head: Box<ResponseHead>,
        /// `Chunked` stands for an unknown length.
        body: BodyLength,
    },
    /// Some of the body, never empty, as a slice of what was received; or bytes of a tunnel. To be
    /// given back by [`Connection::release`](crate::Connection::release), whatever becomes of the stream.
    Data {
        /// Whose.
        stream: StreamId,
        /// The bytes.
        data: Bytes,
    },
    /// The peer's message is complete, or its direction of a tunnel has ended.
    End {
        /// Whose.
        stream: StreamId,
        /// The trailers that came with it.
        trailers: Option<Box<Headers>>,
    },
    /// The queue of a stream that was full has room again.
    Writable {
        /// Whose.
        stream: StreamId,
    },
    /// The stream is gone. Not sent for [`Connection::reset`](crate::Connection::reset), whose caller knows.
    Reset {
        /// Which.
        stream: StreamId,
        /// The code that was received or sent.
        code: ErrorCode,
        /// Why.
        cause: ResetCause,
    },
    /// A request was so wrong that it was answered here: for logs and counters only.
    Refused {
        /// Its stream, which no other event names.
        stream: StreamId,
        /// What was wrong.
        error: Box<StreamError>,
    },
    /// The peer takes no new streams on this connection.
    GoAway {
        /// The last stream of ours that it looks at.
        last_stream: u32,
        /// Why.
        code: ErrorCode,
        /// Its words: foreign bytes, cut to 256.
        debug: Bytes,
    },
    /// The answer to [`Connection::ping`](crate::Connection::ping).
    Pong {
        /// What was sent.
        payload: [u8; 8],
    },
}

/// Why a stream is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The peer reset it.
    Peer,
    /// The peer broke its rules, and we reset it.
    Error(Box<StreamError>),
    /// A GOAWAY says that the peer never looked at it.
    GoAway,
    /// The connection has failed or ended.
    ConnectionEnded,
}

impl Event {
    /// The stream it is about.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Request { stream, .. }
            | Self::Interim { stream, .. }
            | Self::Response { stream, .. }
            | Self::Data { stream, .. }
            | Self::End { stream, .. }
            | Self::Writable { stream }
            | Self::Reset { stream, .. }
            | Self::Refused { stream, .. } => Some(*stream),
            Self::GoAway { .. } | Self::Pong { .. } => None,
        }
    }

    /// Whether it says that a request was not looked at, so that it may be sent again, whatever its
    /// method (RFC 9113 §8.7).
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Reset { code, cause, .. } => {
                *cause == ResetCause::GoAway
                    || (*cause == ResetCause::Peer && *code == ErrorCode::REFUSED_STREAM)
            }
            _ => false,
        }
    }
}
