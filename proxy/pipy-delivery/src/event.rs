//! What the client tells its owner, and what it wants to hear.

use std::fmt;
use std::time::SystemTime;

use crate::error::FailureKind;

/// Something happened. The client's thread waits until the owner has dealt with it.
#[derive(Clone)]
pub enum Event {
    /// A certificate was issued. Use it for new connections; a new one comes in time.
    Credentials {
        /// Our chain, leaf first, PEM.
        chain_pem: String,
        /// The leaf's private key, PEM. Never printed, never sent.
        key_pem: String,
        /// Whom to believe, PEM.
        roots_pem: String,
        /// Who we are: `spiffe://…`.
        identity: String,
        /// When the leaf ends, seconds since the epoch.
        not_after: u64,
    },
    /// There is another configuration.
    Config {
        /// The document, JSON.
        bytes: Vec<u8>,
        /// Its version.
        version: String,
    },
    /// The control plane can't be used; the client keeps trying. Comes once per outage and kind of failure.
    Lost {
        /// Which kind.
        kind: FailureKind,
        /// Why, in words.
        reason: String,
        /// Since when.
        since: SystemTime,
    },
    /// The control plane answers again; follows every outage that was told of.
    Restored,
}

/// What became of an event. Answers to [`Event::Lost`] and [`Event::Restored`] mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// It is in effect.
    Applied,
    /// It is not, because; what was in effect before still is.
    Refused(String),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The key must not get into a log.
            Event::Credentials { identity, not_after, .. } => f
                .debug_struct("Credentials")
                .field("identity", identity)
                .field("not_after", not_after)
                .finish_non_exhaustive(),
            Event::Config { bytes, version } => {
                f.debug_struct("Config").field("version", version).field("bytes", &bytes.len()).finish()
            }
            Event::Lost { kind, reason, since } => f
                .debug_struct("Lost")
                .field("kind", kind)
                .field("reason", reason)
                .field("since", since)
                .finish(),
            Event::Restored => f.write_str("Restored"),
        }
    }
}
