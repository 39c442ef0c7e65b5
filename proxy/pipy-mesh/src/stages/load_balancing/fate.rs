//! What the sidecar of an application tells the one of its caller about a request that the application has not answered, so
//! that it may be sent to another endpoint.
//!
//! ```text
//!   caller ──► outbound ══════════════════► inbound ──► application that has just ended, or ends
//!                 │  ◄══ 502 fsm-request-fate: unsent ══╯   no connection: nobody has got any of the request
//!                 │  ◄══ 502 fsm-request-fate: lost ════╯   the connection ended before an answer began
//!                 ▼
//!              another endpoint: what is unsent, whatever its method; what is lost, once, where its method is idempotent
//! ```
//!
//! Without it the end of an application is seen by its callers: it and its sidecar stand at one address, callers hear that
//! it leaves the endpoints a little later than it closes its listener, and the sidecar still answers.
//!
//! INVARIANTS: said only to members of the mesh, and believed only of an endpoint whose identity is proved; an application
//! can't say it, for what it says so is taken away; nor does it reach a client, for the outbound side takes it away too.

use pipy_http::ResponseHead;
use pipy_pipeline::CloseReason;

use super::LoadBalancing;
use super::failure::is_unreachable;
use crate::exchange::Direction;

const HEADER: &str = "fsm-request-fate";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// No application has got any of it.
    Unsent,
    /// Nobody knows whether it was carried out.
    Lost,
}

impl Fate {
    /// What came of a request whose last try failed so; `exposed`: an application has got some of it before.
    fn after(reason: CloseReason, exposed: bool) -> Option<Fate> {
        match reason {
            _ if is_unreachable(reason) && !exposed => Some(Fate::Unsent),
            _ if is_unreachable(reason) || reason == CloseReason::Reset => Some(Fate::Lost),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Fate::Unsent => "unsent",
            Fate::Lost => "lost",
        }
    }
}

impl LoadBalancing {
    /// The header that tells a member of the mesh.
    pub(super) fn told(&self, reason: CloseReason) -> Option<(&'static str, &'static str)> {
        let connection = &self.exchange.connection;
        if connection.direction != Direction::Inbound || connection.peer.identity().is_none() {
            return None;
        }
        Fate::after(reason, self.exposed).map(|fate| (HEADER, fate.word()))
    }

    /// Takes it away from an answer, and tells it when it comes from another sidecar.
    pub(super) fn fate(&self, head: &mut ResponseHead) -> Option<Fate> {
        let word = head.headers.get(HEADER)?;
        let fate = [Fate::Unsent, Fate::Lost].into_iter().find(|fate| fate.word().as_bytes() == word);
        head.headers.remove(HEADER);
        let proved = self.current.as_ref().is_some_and(|current| current.in_hand.endpoint.identity.is_some());
        let outbound = self.exchange.connection.direction == Direction::Outbound;
        fate.filter(|_| proved && outbound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_has_got_is_unsent() {
        use CloseReason::{ConnectFailed, ConnectTimeout, Overloaded, Protocol, Reset};
        for (reason, exposed, fate) in [
            (ConnectFailed, false, Some(Fate::Unsent)),
            (ConnectTimeout, false, Some(Fate::Unsent)),
            (ConnectFailed, true, Some(Fate::Lost)),
            (Reset, true, Some(Fate::Lost)),
            (Protocol, true, None),
            (Overloaded, false, None),
        ] {
            assert_eq!(Fate::after(reason, exposed), fate, "{reason:?} {exposed}");
        }
    }
}
