//! Routing: asks for the decision and notes it. It neither answers nor connects: later stages do, so that metrics and
//! logs see refused requests too.

use std::rc::Rc;
use std::sync::Arc;

use pipy_config::Protocol;
use pipy_http::{Method, RequestHead, normalise_path};
use pipy_pipeline::{Cx, Dir, Event, Filter, Head};

use crate::decide::{self, Caller, OutboundConnection, Refusal, Request};
use crate::exchange::{Direction, Exchange};
use crate::plan::HostTable;

pub(super) fn inbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Routing { exchange: Rc::clone(exchange), name: "inbound-http-routing" })
}

pub(super) fn outbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Routing { exchange: Rc::clone(exchange), name: "outbound-http-routing" })
}

struct Routing {
    exchange: Rc<Exchange>,
    name: &'static str,
}

impl Routing {
    /// The hosts that apply to this connection now, and the object that says so; the configuration may have changed since
    /// it was accepted.
    fn hosts(&self) -> Option<(&HostTable, &Arc<str>, Protocol)> {
        let (plan, connection) = (&self.exchange.runtime.plan, &self.exchange.connection);
        let destination = connection.accepted.destination;
        match connection.direction {
            Direction::Inbound => {
                let rule = plan.inbound.as_ref()?.get(&destination.port())?;
                Some((&rule.hosts, &rule.origin, rule.protocol))
            }
            Direction::Outbound => match decide::outbound_connection(plan, destination) {
                OutboundConnection::Match(rule) => Some((&rule.hosts, &rule.origin, rule.protocol)),
                OutboundConnection::Passthrough | OutboundConnection::Refuse(_) => None,
            },
        }
    }

    fn route(&self, head: &mut RequestHead) {
        let exchange = &self.exchange;
        let mut facts = exchange.facts.borrow_mut();
        facts.method = head.method.as_str().to_owned();
        if let Some(authority) = head.authority() {
            facts.authority = authority.into_owned();
        }
        facts.request_id = head.headers.get("x-request-id").map(<[u8]>::to_vec);
        // WHY: what is authorised, what is routed by and what is forwarded must be one and the same path.
        let normal = match normalise_path(head.path()) {
            // A tunnel has no path: only a rule for every path fits it.
            _ if head.method == Method::Connect => None,
            Ok(normal) => (normal != head.path()).then(|| normal.into_owned()),
            Err(_) => return exchange.refusal.set(Some(Refusal::BadPath)),
        };
        let rewritten = match normal {
            Some(normal) => head.set_path(&normal),
            None => head.use_origin_form(),
        };
        if rewritten.is_err() {
            return exchange.refusal.set(Some(Refusal::BadPath));
        }
        facts.path = head.path_and_query().into_owned();
        let Some((hosts, match_origin, protocol)) = self.hosts() else {
            return exchange.refusal.set(Some(Refusal::NoMatch));
        };
        facts.protocol = Some(protocol);
        let connection = &exchange.connection;
        let request = Request {
            authority: &facts.authority,
            port: connection.accepted.destination.port(),
            method: &head.method,
            path: head.path(),
            path_and_query: &facts.path,
            headers: &head.headers,
        };
        let decision = decide::request(hosts, request, connection.caller());
        let service = decision.service.cloned();
        let origin = decision.origin.or(Some(match_origin)).cloned();
        let allowed_by = decision.allowed_by.cloned();
        let route = match decision.verdict {
            Ok(route) => Some(route.clone()),
            Err(refusal) => {
                exchange.refusal.set(Some(refusal));
                None
            }
        };
        (facts.service, facts.origin, facts.allowed_by, facts.route) = (service, origin, allowed_by, route);
        let outside =
            facts.route.as_ref().is_some_and(|route| exchange.runtime.plan.leads_outside(&route.targets));
        tell_identity(exchange, head, outside);
    }
}

impl Filter for Routing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ignores(&self, dir: Dir) -> bool {
        dir == Dir::Output
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Start(Head::Request(mut head), length) => {
                self.route(&mut head);
                cx.forward(Event::Start(Head::Request(head), length));
            }
            other => cx.forward(other),
        }
    }
}

/// Tells the application who is calling, in `serviceidentity: <service account>.<namespace>`. What a client says of itself
/// there is overwritten or taken away.
/// Servers outside of the mesh have no business with it.
fn tell_identity(exchange: &Exchange, head: &mut RequestHead, outside: bool) {
    let connection = &exchange.connection;
    let own = &exchange.runtime.plan.service_identity;
    let name = match (connection.direction, connection.caller()) {
        (Direction::Outbound, _) if outside => None,
        (Direction::Outbound, _) => own.clone(),
        (Direction::Inbound, Caller::Member(identity)) => service_account(identity),
        (Direction::Inbound, Caller::Bounded(bounds)) => bounds.identity().and_then(service_account),
        (Direction::Inbound, Caller::Admitted) => None,
        // The mesh runs with its encryption off: there is nothing better than what the client says.
        (Direction::Inbound, Caller::Unknown | Caller::Stranger(_)) => return,
    };
    match name {
        // A name that came from a certificate or a ServiceAccount is a valid header value.
        Some(name) => drop(head.headers.insert("serviceidentity", name.as_str())),
        None => drop(head.headers.remove("serviceidentity")),
    }
}

/// `<service account>.<namespace>` of `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
fn service_account(identity: &str) -> Option<String> {
    // From the end, where only what is needed is looked at: this is asked for every request.
    let (rest, account) = identity.rsplit_once('/')?;
    let (rest, namespace) = rest.strip_suffix("/sa")?.rsplit_once('/')?;
    let domain = rest.strip_suffix("/ns")?.strip_prefix("spiffe://")?;
    (!domain.contains('/')).then(|| [account, ".", namespace].concat())
}

#[cfg(test)]
mod tests {
    use super::service_account;

    #[test]
    fn a_spiffe_id_gives_the_name_that_applications_see() {
        assert_eq!(
            service_account("spiffe://cluster.local/ns/bookbuyer/sa/book.buyer").as_deref(),
            Some("book.buyer.bookbuyer")
        );
    }

    #[test]
    fn an_id_of_another_form_gives_no_name() {
        for other in [
            "spiffe://a/ns/b",
            "spiffe://a/ns/b/sa/c/d",
            "spiffe://a/sa/b/ns/c",
            "bookbuyer.bookbuyer",
            "spiffe://a/x/ns/b/sa/c",
            "https://a/ns/b/sa/c",
            "a/ns/b/sa/c",
            "spiffe://a/ns/b/c/sa/d",
        ] {
            assert_eq!(service_account(other), None, "{other}");
        }
    }
}
