//! Which version of HTTP a request is sent in.
//!
//! ```text
//!   ports of gRPC ───────────────────────────────────────────────► HTTP/2
//!   ports of HTTP, to another sidecar, many requests at once ────► HTTP/2
//!   everything else ─────────────────────────────────────────────► HTTP/1.1
//! ```
//!
//! Sidecars speak HTTP/2 to each other for its price, not for its features: many requests in one record and one system call
//! cost a third less than each on its own, and a few at once cost a tenth more (`docs/explanation/performance.md`). Where
//! connections are limited, a limit on connections must go on to be a limit on requests, so those have HTTP/1.1. So do
//! requests that become tunnels, which would share the fate of one connection, and those without a host, which HTTP/2 has no
//! way to say.

use pipy_config::Protocol;
use pipy_filters::HttpVersion;
use pipy_http::{Method, RequestHead};

use super::LoadBalancing;
use super::attempt::Attempt;
use crate::runtime::{Cluster, Endpoint};

/// LIMIT: requests under way to an endpoint that have a connection each. From here on they share.
const ALONE_MAX: u32 = 5;

impl LoadBalancing {
    pub(super) fn version(&self, cluster: &Cluster, endpoint: &Endpoint) -> HttpVersion {
        let protocol = self.exchange.facts.borrow().protocol;
        let head = self.kept.as_ref().and_then(|kept| kept.head.as_ref());
        let shares = match protocol {
            Some(Protocol::Grpc) => true,
            Some(Protocol::Http) => {
                endpoint.identity.is_some()
                    && (endpoint.requests.get() >= ALONE_MAX || endpoint.is_shared())
                    && !endpoint.only_http1.get()
                    && !cluster.load.limits_connections()
                    && head.is_some_and(|head| fits(head))
            }
            _ => false,
        };
        if shares { HttpVersion::Http2 } else { HttpVersion::Http1 }
    }

    /// Whether the endpoint of a try turned out not to speak HTTP/2, and need not.
    pub(super) fn speaks_less(&self, attempt: &Attempt) -> bool {
        let protocol = self.exchange.facts.borrow().protocol;
        protocol == Some(Protocol::Http) && attempt.in_hand.endpoint.only_http1.get()
    }
}

/// Whether a request means the same in HTTP/2.
fn fits(head: &RequestHead) -> bool {
    head.method != Method::Connect && !head.is_upgrade() && head.authority().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_and_requests_without_a_host_stay_in_http1() {
        let head = |fields: &[(&str, &str)]| {
            let mut head = RequestHead::new(Method::Get, "/");
            for (name, value) in fields {
                head.headers.append(*name, *value).expect("a valid field");
            }
            head
        };
        assert!(fits(&head(&[("host", "a")])));
        assert!(!fits(&head(&[])));
        assert!(!fits(&head(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")])));
        assert!(!fits(&RequestHead {
            headers: head(&[("host", "a")]).headers,
            ..RequestHead::new(Method::Connect, "a:1")
        }));
    }
}
