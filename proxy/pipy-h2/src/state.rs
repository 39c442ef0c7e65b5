//! The states of a stream (RFC 9113 §5.1), as two tables: how they change, and what may be received.
//!
//! ```text
//!            ┌──HEADERS sent or received──► Open ──┐
//!   Idle ────┤                                     ├─ END sent ─────► HalfClosedLocal ──┐
//!            └─────────────────────────────────────┤                                    ├──► Closed
//!                                                  └─ END received ─► HalfClosedRemote ─┘
//!   any ── RST_STREAM sent or received ──► Closed
//! ```
//!
//! The two reserved states do not exist here: nobody may push to us, and we never push.
//!
//! Not done here: which messages the frames make (`stream.rs`), closed streams that are remembered
//! (`streams.rs`).

use std::fmt;

use crate::frame::Kind;

/// The state of a stream, as this side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was sent on it.
    Idle,
    /// Both sides may send.
    Open,
    /// We have ended, the peer may send.
    HalfClosedLocal,
    /// The peer has ended, we may send.
    HalfClosedRemote,
    /// Both sides have ended, or one has reset it.
    Closed,
}

/// What changes a state. A reset does not: it takes the stream out of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// HEADERS, in either direction.
    Headers,
    SendEnd,
    ReceiveEnd,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Ignore,
    /// An error of the stream: STREAM_CLOSED.
    StreamError,
    /// An error of the connection: PROTOCOL_ERROR on an idle stream, else STREAM_CLOSED.
    ConnectionError,
}

impl State {
    /// The state after a change. A change that cannot be leaves it as it is.
    pub(crate) fn after(self, change: Change) -> State {
        use Change::*;
        use State::*;
        match (self, change) {
            (Idle, Headers) => Open,
            (Open, SendEnd) => HalfClosedLocal,
            (Open, ReceiveEnd) => HalfClosedRemote,
            (HalfClosedLocal, ReceiveEnd) | (HalfClosedRemote, SendEnd) => Closed,
            (state, _) => state,
        }
    }

    /// What to do with a frame that is received in this state.
    pub(crate) fn on_receive(self, kind: Kind) -> Verdict {
        use State::*;
        use Verdict::*;
        match (kind, self) {
            // May come in any state (§5.1, §6.3).
            (Kind::PRIORITY, _) => Accept,
            // Idle streams are opened by the code that knows whose they are.
            (Kind::HEADERS, Idle) => Accept,
            (_, Idle) => ConnectionError,
            (_, Open | HalfClosedLocal) => Accept,
            (Kind::WINDOW_UPDATE | Kind::RST_STREAM, HalfClosedRemote) => Accept,
            (_, HalfClosedRemote) => StreamError,
            // They may cross our end of the stream (§5.1).
            (Kind::WINDOW_UPDATE | Kind::RST_STREAM, Closed) => Ignore,
            // As of a stream that the peer reset; what follows its END_STREAM is worse, and is no
            // worse for being told so.
            (Kind::DATA, Closed) => StreamError,
            // A header block on a closed stream is an error of the connection (§5.1).
            (_, Closed) => ConnectionError,
        }
    }

    /// Whether the peer may still send on it.
    pub(crate) fn may_receive(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedLocal)
    }

    /// Whether we may still send on it.
    pub(crate) fn may_send(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedRemote)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Open => "open",
            Self::HalfClosedLocal => "half-closed (local)",
            Self::HalfClosedRemote => "half-closed (remote)",
            Self::Closed => "closed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_those_of_rfc_9113_figure_2() {
        use State::*;
        // Columns: headers, end sent, end received.
        let table = [
            (Idle, [Open, Idle, Idle]),
            (Open, [Open, HalfClosedLocal, HalfClosedRemote]),
            (HalfClosedLocal, [HalfClosedLocal, HalfClosedLocal, Closed]),
            (HalfClosedRemote, [HalfClosedRemote, Closed, HalfClosedRemote]),
            (Closed, [Closed, Closed, Closed]),
        ];
        for (state, after) in table {
            let changes = [Change::Headers, Change::SendEnd, Change::ReceiveEnd];
            assert_eq!(changes.map(|change| state.after(change)), after, "{state}");
        }
    }

    #[test]
    fn frames_are_received_as_rfc_9113_5_1_says() {
        use Verdict::*;
        // Columns: idle, open, half-closed (local), half-closed (remote), closed.
        let table = [
            (Kind::DATA, [ConnectionError, Accept, Accept, StreamError, StreamError]),
            (Kind::HEADERS, [Accept, Accept, Accept, StreamError, ConnectionError]),
            (Kind::PRIORITY, [Accept; 5]),
            (Kind::RST_STREAM, [ConnectionError, Accept, Accept, Accept, Ignore]),
            (Kind::WINDOW_UPDATE, [ConnectionError, Accept, Accept, Accept, Ignore]),
        ];
        let states =
            [State::Idle, State::Open, State::HalfClosedLocal, State::HalfClosedRemote, State::Closed];
        for (kind, expected) in table {
            assert_eq!(states.map(|state| state.on_receive(kind)), expected, "{kind}");
        }
    }
}
