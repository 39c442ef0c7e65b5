//! Why a codec gave up, by whose fault it is.
//!
//! In the log an error reads as one clause: which protocol, at which byte of the stream, what was wrong
//! and what was expected. After an error a decoder or encoder is of no further use: the connection is to
//! be closed, since nobody knows where the next message would start.

use std::borrow::Cow;

/// Why bytes could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer sent what the protocol does not allow.
    #[error("malformed {protocol} at byte {position}: {reason}")]
    Malformed {
        /// The protocol's name.
        protocol: &'static str,
        /// How many bytes of the stream came before.
        position: u64,
        /// What was wrong, and what was expected.
        reason: Cow<'static, str>,
    },
    /// The peer sent more than we are ready to hold.
    #[error("{protocol} at byte {position}: {what} exceeds the limit of {max}")]
    TooLarge {
        /// The protocol's name.
        protocol: &'static str,
        /// How many bytes of the stream came before.
        position: u64,
        /// What is too large, with its unit.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The stream ended within a message.
    #[error("{protocol} ended at byte {position}, within a message")]
    Truncated {
        /// The protocol's name.
        protocol: &'static str,
        /// How many bytes there were.
        position: u64,
    },
    /// A script gave us what the protocol cannot say.
    #[error("cannot write {protocol}: {reason}")]
    Unencodable {
        /// The protocol's name.
        protocol: &'static str,
        /// What was wrong, and what was expected.
        reason: Cow<'static, str>,
    },
}

impl Error {
    /// The peer's fault.
    pub fn malformed(protocol: &'static str, position: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { protocol, position, reason: reason.into() }
    }

    /// The script's fault.
    pub fn unencodable(protocol: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unencodable { protocol, reason: reason.into() }
    }

    /// Whether the peer is to blame, and not a script of ours.
    #[must_use]
    pub const fn is_peers_fault(&self) -> bool {
        !matches!(self, Self::Unencodable { .. })
    }

    /// A word for metrics: few, and stable.
    #[must_use]
    pub const fn metric_label(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::Truncated { .. } => "truncated",
            Self::Unencodable { .. } => "unencodable",
        }
    }
}
