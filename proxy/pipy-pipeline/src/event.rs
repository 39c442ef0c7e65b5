//! What travels through a pipeline.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, RequestHead, ResponseHead};

/// One event. Each direction of a pipeline carries a sequence of bare `Data`, or of messages
/// (`Start Data* End`), and ends with one `Close`; `Pause` and `Resume` may come at any time.
#[derive(Debug)]
pub enum Event {
    /// Bytes: of a message's body between `Start` and `End`, else of a stream.
    Data(Bytes),
    /// A message begins. A response with a 1xx status other than 101 is interim: it has no `End`, another `Start` follows.
    Start(Head, BodyLength),
    /// A message is complete; the trailers that came with it.
    End(Option<Box<Headers>>),
    /// This direction is over.
    Close(CloseReason),
    /// The side that this comes from can't take more; whoever produces for it should stop until `Resume`.
    Pause,
    /// The side that this comes from can take more again.
    Resume,
    /// What only some filters understand, such as the messages of other protocols than HTTP. Others pass it on; an end that
    /// is a socket takes [`Custom::plain`] for it.
    Custom(Box<dyn Custom>),
}

/// An event of a kind that the graph does not know. See [`Event::Custom`].
pub trait Custom: Any + fmt::Debug {
    /// What this says to a filter that does not understand it; `None` where that is nothing.
    fn plain(self: Box<Self>) -> Option<Event>;
}

/// How a message begins.
#[derive(Debug)]
pub enum Head {
    /// An HTTP request.
    Request(Box<RequestHead>),
    /// An HTTP response.
    Response(Box<ResponseHead>),
}

/// Why a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer said all it had to say.
    Finished,
    /// The connection was reset, by the peer or by us for the sake of the other side.
    Reset,
    /// No connection could be made: refused or unreachable.
    ConnectFailed,
    /// No connection could be made in time.
    ConnectTimeout,
    /// Nothing came in time.
    IdleTimeout,
    /// Nothing was read in time, though something may have been sent.
    ReadTimeout,
    /// Nothing of what waits was taken in time.
    WriteTimeout,
    /// TLS failed: no handshake, or a broken record.
    TlsFailed,
    /// The peer is not who it should be.
    WrongPeer,
    /// The peer broke the protocol.
    Protocol,
    /// A policy refused it.
    Denied,
    /// A limit of ours was reached.
    Overloaded,
    /// The name has no address.
    CannotResolve,
    /// A script has failed, or said so.
    Script,
}

impl CloseReason {
    /// Whether the peer just finished: everything else is a failure.
    pub fn is_clean(self) -> bool {
        self == CloseReason::Finished
    }

    /// The word for it in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::Finished => "finished",
            CloseReason::Reset => "reset",
            CloseReason::ConnectFailed => "connect_failed",
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::ReadTimeout => "read_timeout",
            CloseReason::WriteTimeout => "write_timeout",
            CloseReason::TlsFailed => "tls_failed",
            CloseReason::WrongPeer => "wrong_peer",
            CloseReason::Protocol => "protocol_error",
            CloseReason::Denied => "denied",
            CloseReason::Overloaded => "overloaded",
            CloseReason::CannotResolve => "cannot_resolve",
            CloseReason::Script => "script_error",
        }
    }
}
