//! What can go wrong with a connection, with one stream, and with what the caller asks for.
//!
//! A [`ConnectionError`] ends the connection: its state is not shared any more (RFC 9113 §5.4.1). A
//! [`StreamError`] ends one stream, and the others go on (§5.4.2). A [`SendError`] is ours: nothing
//! was sent. Each maps to its [`ErrorCode`] here and nowhere else, and to a word for metrics.
//!
//! Values of headers are never shown, only names, as in `pipy-http`.

use pipy_http::HttpError;

use crate::code::ErrorCode;
use crate::floods::Nuisance;
use crate::frame::Kind;
use crate::hpack::HpackError;
use crate::state::State;

/// Why a connection cannot go on. The peer is told by a GOAWAY with [`code`](Self::code).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Not HTTP/2 at all (RFC 9113 §3.4).
    #[error("connection does not begin with the http/2 preface")]
    BadPreface,
    /// The peer's preface has no SETTINGS (§3.4).
    #[error("first frame is {found}, expected SETTINGS")]
    NoSettings {
        /// What came instead.
        found: Kind,
    },
    /// Over our SETTINGS_MAX_FRAME_SIZE (§4.2).
    #[error("{kind} frame of {len} bytes exceeds the maximum of {max}")]
    FrameTooLarge {
        /// Of which kind.
        kind: Kind,
        /// Its payload, in bytes.
        len: u32,
        /// The maximum, in bytes.
        max: u32,
    },
    /// A frame of a fixed size has another one (§6).
    #[error("{kind} frame has {len} bytes, expected {expected}")]
    FrameSize {
        /// Of which kind.
        kind: Kind,
        /// Its payload, in bytes.
        len: u32,
        /// What is right.
        expected: &'static str,
    },
    /// On stream 0 what belongs to a stream, or the other way round (§6).
    #[error("{kind} frame on stream {stream}, expected {expected}")]
    WrongStream {
        /// Of which kind.
        kind: Kind,
        /// Where.
        stream: u32,
        /// Where it belongs.
        expected: &'static str,
    },
    /// Padding as long as its frame, or longer (§6.1, §6.2).
    #[error("padding of {kind} frame fills it or more")]
    TooMuchPadding {
        /// Of which kind.
        kind: Kind,
    },
    /// A frame that the state of its stream does not allow (§5.1).
    #[error("{kind} frame on stream {stream}, which is {state}")]
    UnexpectedFrame {
        /// Of which kind.
        kind: Kind,
        /// Where.
        stream: u32,
        /// The state of the stream.
        state: State,
    },
    /// A stream of the wrong parity, or older than one already opened (§5.1.1).
    #[error("stream {found} opened, expected a stream of the peer above {last}")]
    InvalidStreamId {
        /// The identifier.
        found: u32,
        /// The highest one so far.
        last: u32,
    },
    /// A header block is interrupted (§6.10).
    #[error("{found} frame within the header block of stream {stream}, expected CONTINUATION")]
    ContinuationExpected {
        /// Whose block it is.
        stream: u32,
        /// What came instead, or a CONTINUATION of another stream.
        found: Kind,
    },
    /// A CONTINUATION that continues nothing (§6.10).
    #[error("CONTINUATION frame without a header block to continue")]
    UnexpectedContinuation,
    /// A setting out of its range (§6.5.2).
    #[error("setting {name} is {value}, expected {expected}")]
    InvalidSetting {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: u32,
        /// Its range.
        expected: &'static str,
    },
    /// A SETTINGS acknowledgement that we do not wait for.
    #[error("SETTINGS acknowledged that were not sent")]
    UnexpectedSettingsAck,
    /// A header block that HPACK cannot follow (§4.3).
    #[error(transparent)]
    Hpack(#[from] HpackError),
    /// More DATA than the window of the connection allows (§6.9.1).
    #[error("DATA exceeds the flow-control window of the connection by {excess} bytes")]
    WindowExceeded {
        /// By how much, in bytes.
        excess: u64,
    },
    /// A window beyond 2^31-1 (§6.9.1, §6.9.2).
    #[error("flow-control window of {what} exceeds 2^31-1")]
    WindowOverflow {
        /// The connection, or a stream by a change of settings.
        what: &'static str,
    },
    /// A WINDOW_UPDATE of nothing (§6.9).
    #[error("WINDOW_UPDATE of zero bytes for the connection")]
    ZeroIncrement,
    /// We disabled it, and clients can never send it (§8.4).
    #[error("PUSH_PROMISE, which is disabled")]
    PushPromise,
    /// A GOAWAY that takes back what an earlier one refused (§6.8).
    #[error("GOAWAY raises the last stream from {before} to {after}")]
    GoAwayRaised {
        /// Before.
        before: u32,
        /// Now.
        after: u32,
    },
    /// Too much of what costs us more than the peer: see [`Nuisance`].
    #[error("peer sent too many {0}")]
    Flood(Nuisance),
    /// Over [`Limits::header_block_bytes_max`](crate::Limits::header_block_bytes_max).
    #[error("header block is longer than {limit} bytes")]
    HeaderBlockTooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// Over [`Limits::continuations_max`](crate::Limits::continuations_max).
    #[error("header block has more than {limit} CONTINUATION frames")]
    TooManyContinuations {
        /// The limit, in frames.
        limit: u32,
    },
    /// Over [`Limits::reply_bytes_max`](crate::Limits::reply_bytes_max): the peer sends, and does
    /// not read.
    #[error("more than {limit} bytes of replies wait to be read by the peer")]
    RepliesUnread {
        /// The limit, in bytes.
        limit: u32,
    },
    /// The connection ended before its work did.
    #[error("connection ended inside {part}")]
    Truncated {
        /// Where.
        part: &'static str,
    },
}

impl ConnectionError {
    /// What the peer is told.
    pub fn code(&self) -> ErrorCode {
        use ConnectionError as E;
        match self {
            E::FrameTooLarge { .. } | E::FrameSize { .. } => ErrorCode::FRAME_SIZE_ERROR,
            E::UnexpectedFrame { state, .. } if *state != State::Idle => ErrorCode::STREAM_CLOSED,
            E::InvalidSetting { name: "INITIAL_WINDOW_SIZE", .. }
            | E::WindowExceeded { .. }
            | E::WindowOverflow { .. } => ErrorCode::FLOW_CONTROL_ERROR,
            E::Hpack(_) => ErrorCode::COMPRESSION_ERROR,
            E::Flood(_)
            | E::HeaderBlockTooLarge { .. }
            | E::TooManyContinuations { .. }
            | E::RepliesUnread { .. } => ErrorCode::ENHANCE_YOUR_CALM,
            _ => ErrorCode::PROTOCOL_ERROR,
        }
    }

    /// A short, stable word for a metric.
    pub fn metric_label(&self) -> &'static str {
        use ConnectionError as E;
        match self {
            E::BadPreface | E::NoSettings { .. } => "preface",
            E::FrameTooLarge { .. } | E::FrameSize { .. } | E::TooMuchPadding { .. } => "frame_size",
            E::WrongStream { .. } | E::UnexpectedFrame { .. } | E::InvalidStreamId { .. } => "stream_state",
            E::ContinuationExpected { .. } | E::UnexpectedContinuation => "continuation",
            E::InvalidSetting { .. } | E::UnexpectedSettingsAck => "settings",
            E::Hpack(_) => "hpack",
            E::WindowExceeded { .. } | E::WindowOverflow { .. } | E::ZeroIncrement => "flow_control",
            E::PushPromise => "push_promise",
            E::GoAwayRaised { .. } => "goaway",
            E::Flood(nuisance) => nuisance.metric_label(),
            E::HeaderBlockTooLarge { .. } | E::TooManyContinuations { .. } => "header_block",
            E::RepliesUnread { .. } => "replies_unread",
            E::Truncated { .. } => "truncated",
        }
    }
}

/// Why one stream cannot go on. The peer is told by a RST_STREAM with [`code`](Self::code).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A part of the message that HTTP/1.1 would refuse too.
    #[error(transparent)]
    Message(#[from] HttpError),
    /// A pseudo-header that is wrong (RFC 9113 §8.3).
    #[error("pseudo-header \"{name}\" {why}")]
    PseudoHeader {
        /// Its name.
        name: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Upper case in a name (§8.2.1).
    #[error("header name \"{name}\" is not in lower case")]
    UppercaseName {
        /// The name.
        name: Box<str>,
    },
    /// Blanks around a value (§8.2.1).
    #[error("value of header \"{name}\" begins or ends with whitespace")]
    PaddedValue {
        /// The name.
        name: Box<str>,
    },
    /// A field that is about an HTTP/1 connection, or a TE other than `trailers` (§8.2.2).
    #[error("header \"{name}\" is about the connection, which has no place in http/2")]
    ConnectionHeader {
        /// The name.
        name: Box<str>,
    },
    /// 101, which HTTP/2 does not have (§8.6).
    #[error("switching protocols does not exist in http/2")]
    SwitchingProtocols,
    /// The list of fields is over [`Config::header_list_bytes_max`](crate::Config::header_list_bytes_max).
    #[error("header list is longer than {limit} bytes")]
    HeaderListTooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// A body of another length than announced (§8.1.1).
    #[error("body is {got} its content-length")]
    ContentLength {
        /// `longer than` or `shorter than`.
        got: &'static str,
    },
    /// DATA before the head of a response.
    #[error("DATA before the final response")]
    DataBeforeHead,
    /// A second header section that does not end the message (§8.1).
    #[error("trailers do not end the message")]
    TrailersWithoutEnd,
    /// Trailers where there is no message: in a tunnel (§8.5).
    #[error("trailers in a tunnel")]
    TrailersInTunnel,
    /// An interim response that ends its stream (§8.1).
    #[error("interim response ends the stream")]
    InterimEnds,
    /// Over [`Limits::interim_max`](crate::Limits::interim_max).
    #[error("more than {limit} interim responses")]
    TooManyInterim {
        /// The limit, in responses.
        limit: u32,
    },
    /// More DATA than the window of the stream allows (§6.9.1).
    #[error("DATA exceeds the flow-control window of the stream by {excess} bytes")]
    WindowExceeded {
        /// By how much, in bytes.
        excess: u64,
    },
    /// A window beyond 2^31-1 (§6.9.1).
    #[error("flow-control window of the stream exceeds 2^31-1")]
    WindowOverflow,
    /// A WINDOW_UPDATE of nothing (§6.9).
    #[error("WINDOW_UPDATE of zero bytes for the stream")]
    ZeroIncrement,
    /// A stream that depends on itself (RFC 7540 §5.3.1).
    #[error("stream depends on itself")]
    SelfDependency,
    /// A PRIORITY frame of another size than five bytes (RFC 9113 §6.3).
    #[error("PRIORITY frame has {len} bytes, expected 5")]
    PrioritySize {
        /// Its payload, in bytes.
        len: u32,
    },
    /// A frame after the peer has ended the stream (§5.1).
    #[error("{kind} frame after the end of the stream")]
    Closed {
        /// Of which kind.
        kind: Kind,
    },
    /// More streams at once than [`Config::max_concurrent_streams`](crate::Config::max_concurrent_streams).
    #[error("more than {limit} streams at once")]
    TooManyStreams {
        /// The limit, in streams.
        limit: u32,
    },
}

impl StreamError {
    /// What the peer is told.
    pub fn code(&self) -> ErrorCode {
        use StreamError as E;
        match self {
            E::WindowExceeded { .. } | E::WindowOverflow => ErrorCode::FLOW_CONTROL_ERROR,
            E::PrioritySize { .. } => ErrorCode::FRAME_SIZE_ERROR,
            E::Closed { .. } => ErrorCode::STREAM_CLOSED,
            E::TooManyStreams { .. } => ErrorCode::REFUSED_STREAM,
            E::HeaderListTooLarge { .. } | E::TooManyInterim { .. } => ErrorCode::ENHANCE_YOUR_CALM,
            _ => ErrorCode::PROTOCOL_ERROR,
        }
    }

    /// A short, stable word for a metric; a wrapped error gives its own.
    pub fn metric_label(&self) -> &'static str {
        use StreamError as E;
        match self {
            E::Message(error) => error.metric_label(),
            E::PseudoHeader { .. } => "pseudo_header",
            E::UppercaseName { .. } => "header_name",
            E::PaddedValue { .. } => "header_value",
            E::ConnectionHeader { .. } => "connection_header",
            E::SwitchingProtocols => "unexpected_upgrade",
            E::HeaderListTooLarge { .. } => "head_too_large",
            E::ContentLength { .. } => "content_length",
            E::DataBeforeHead | E::TrailersWithoutEnd | E::TrailersInTunnel | E::InterimEnds => {
                "message_order"
            }
            E::TooManyInterim { .. } => "too_many_interim",
            E::WindowExceeded { .. } | E::WindowOverflow | E::ZeroIncrement => "flow_control",
            E::SelfDependency | E::PrioritySize { .. } => "priority",
            E::Closed { .. } => "stream_state",
            E::TooManyStreams { .. } => "too_many_streams",
        }
    }
}

/// Why something could not be sent. Nothing was, and the connection is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has failed, or the peer has gone.
    #[error("connection has ended")]
    ConnectionEnded,
    /// The stream never was.
    #[error("stream {0} does not exist")]
    UnknownStream(u32),
    /// The peer allows no more streams now; one that ends makes room.
    #[error("peer allows no more than {limit} streams at once")]
    TooManyStreams {
        /// Its SETTINGS_MAX_CONCURRENT_STREAMS.
        limit: u32,
    },
    /// A GOAWAY was received or sent: a new connection is needed.
    #[error("connection takes no new streams")]
    GoingAway,
    /// All 2^30 identifiers are used: a new connection is needed (RFC 9113 §5.1.1).
    #[error("connection has no stream identifiers left")]
    StreamIdsExhausted,
    /// The peer has not enabled extended CONNECT (RFC 8441 §3).
    #[error("peer does not accept upgrades")]
    ExtendedConnectDisabled,
    /// The header list is longer than the peer accepts (SETTINGS_MAX_HEADER_LIST_SIZE).
    #[error("header list of {len} bytes exceeds the {limit} that the peer accepts")]
    HeaderListTooLarge {
        /// Its size, in bytes.
        len: u64,
        /// The peer's limit, in bytes.
        limit: u32,
    },
    /// Over [`Limits::send_queue_bytes_max`](crate::Limits::send_queue_bytes_max): the caller went
    /// on after it was told to wait.
    #[error("more than {limit} bytes wait to be sent on the stream")]
    QueueFull {
        /// The limit, in bytes.
        limit: u32,
    },
    /// Out of order: a body before its head, a second head, data after the end.
    #[error("{what} cannot be sent now")]
    OutOfOrder {
        /// What was asked for.
        what: &'static str,
    },
    /// The message itself is not right.
    #[error(transparent)]
    Message(#[from] HttpError),
}

/// Foreign bytes for a message: escaped as in source code, and at most [`SHOWN_BYTES_MAX`] of them.
pub(crate) fn shown(bytes: &[u8]) -> Box<str> {
    match bytes.get(..SHOWN_BYTES_MAX) {
        Some(start) if bytes.len() > SHOWN_BYTES_MAX => format!("{}…", start.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
    .into_boxed_str()
}

/// LIMIT: long enough to recognise a value, short enough for one log line.
const SHOWN_BYTES_MAX: usize = 64;
