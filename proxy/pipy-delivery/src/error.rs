//! Why an exchange with the control plane failed, by whose fault it is.

use thiserror::Error;

/// One failed exchange. The text is a sentence for people.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something on this machine: a file, an address.
    #[error("{0}")]
    Local(String),
    /// No connection, or it broke, or it took too long.
    #[error("the control plane at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the operating system or the TLS library said.
        reason: String,
        /// Whether our certificate may be the reason.
        certificate: Blame,
    },
    /// Whoever answers is not the control plane that we believe.
    #[error("what answers at {address} is not the control plane: {reason}")]
    Untrusted {
        /// Where.
        address: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The control plane says no.
    #[error("the control plane refuses ({status}): {reason}")]
    Denied {
        /// 4xx.
        status: u16,
        /// In its words.
        reason: String,
    },
    /// The control plane can't yet, or can't now.
    #[error("the control plane is not ready for this proxy ({status}): {reason}")]
    NotReady {
        /// 404, 429, 5xx.
        status: u16,
        /// In its words.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("the control plane's answer cannot be used: {0}")]
    Garbage(String),
    /// We are to stop.
    #[error("stopped")]
    Stopped,
}

/// How likely it is that a broken connection is our certificate's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// There was no connection, or a working one.
    No,
    /// The other side hung up without a word. In TLS 1.3 it does so, too, when the alert about our certificate is
    /// overtaken by the end of the connection.
    Perhaps,
    /// The other side said so.
    Yes,
}

/// Kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// See [`Failure::Local`].
    Local,
    /// See [`Failure::Unreachable`].
    Unreachable,
    /// See [`Failure::Untrusted`].
    Untrusted,
    /// See [`Failure::Denied`].
    Denied,
    /// See [`Failure::NotReady`].
    NotReady,
    /// See [`Failure::Garbage`].
    Garbage,
    /// See [`Failure::Stopped`].
    Stopped,
}

impl Failure {
    /// Which kind.
    pub fn kind(&self) -> FailureKind {
        match self {
            Failure::Local(_) => FailureKind::Local,
            Failure::Unreachable { .. } => FailureKind::Unreachable,
            Failure::Untrusted { .. } => FailureKind::Untrusted,
            Failure::Denied { .. } => FailureKind::Denied,
            Failure::NotReady { .. } => FailureKind::NotReady,
            Failure::Garbage(_) => FailureKind::Garbage,
            Failure::Stopped => FailureKind::Stopped,
        }
    }

    /// Whether a new certificate may help.
    pub fn wants_certificate(&self) -> bool {
        matches!(
            self,
            Failure::Denied { status: 401 | 403, .. }
                | Failure::Unreachable { certificate: Blame::Yes, .. }
                | Failure::Untrusted { .. }
        )
    }

    /// Whether a new certificate may help if this happens again and again.
    pub(crate) fn may_want_certificate(&self) -> bool {
        matches!(self, Failure::Unreachable { certificate: Blame::Perhaps, .. })
    }
}
