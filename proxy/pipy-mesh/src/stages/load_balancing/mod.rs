//! Load balancing: picks a cluster and an endpoint for the request, takes a connection to it, and carries both messages.
//!
//! A request that was sent on a kept connection which the server was just closing is sent once more on a new one, when
//! that is safe: it has no body, its method is idempotent, and no byte of a response came (RFC 9110 section 9.2.2).

mod open;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_filters::Lease;
use pipy_http::{BodyLength, RequestHead};
use pipy_observe::ClusterCounters;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot};

use crate::exchange::Exchange;
use crate::runtime::Endpoint;
use crate::stages::default::respond;

pub(crate) use open::{Active, Upstream, open_upstream, source};

pub(super) fn stage(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(LoadBalancing { exchange: Rc::clone(exchange), current: None, congested: false })
}

struct LoadBalancing {
    exchange: Rc<Exchange>,
    current: Option<Current>,
    /// The client's side can't take more.
    congested: bool,
}

/// The connection in use.
struct Current {
    lease: Lease,
    endpoint: Rc<Endpoint>,
    counters: Arc<ClusterCounters>,
    fresh: bool,
    bodiless: bool,
    request_done: bool,
    response_begun: bool,
    response_done: bool,
    /// The endpoint's side can't take more.
    paused: bool,
    /// In a tunnel: which of the two has finished.
    client_finished: bool,
    server_finished: bool,
}

impl LoadBalancing {
    fn request(&mut self, cx: &mut Cx<'_>, head: Box<RequestHead>, length: BodyLength) {
        let Some((endpoint, cluster)) = self.pick() else {
            return cx.forward(Event::Start(Head::Request(head), length));
        };
        self.send(cx, &endpoint, cluster, true, head, length);
    }

    /// The endpoint whose turn it is, and the position of its cluster.
    fn pick(&self) -> Option<(Rc<Endpoint>, usize)> {
        let mut facts = self.exchange.facts.borrow_mut();
        let route = facts.route.clone()?;
        let target = self.exchange.runtime.target(&route.targets)?;
        facts.cluster = Some(target.cluster);
        facts.split_by = target.origin.clone();
        let endpoint = self.exchange.runtime.cluster(target.cluster)?.endpoint()?;
        facts.upstream = Some(endpoint.address);
        facts.upstream_identity.clone_from(&endpoint.identity);
        Some((Rc::clone(endpoint), target.cluster))
    }

    fn send(
        &mut self,
        cx: &mut Cx<'_>,
        endpoint: &Rc<Endpoint>,
        cluster: usize,
        kept: bool,
        head: Box<RequestHead>,
        length: BodyLength,
    ) {
        let exchange = &self.exchange;
        let Some(counters) = exchange.runtime.cluster(cluster).map(|c| Arc::clone(&c.counters)) else {
            return;
        };
        let reused = if kept { endpoint.take() } else { None };
        let fresh = reused.is_none();
        let session = match reused {
            Some(session) => session,
            None => {
                let config = exchange.runtime.plan.clusters.get(cluster).map(|plan| &plan.config);
                let timeout = Duration::from_millis(config.map_or(0, |config| config.connect_timeout_ms));
                let handshake_ms = exchange.runtime.plan.timeouts.handshake_ms;
                let upstream = Upstream {
                    address: endpoint.address,
                    source: source(exchange.connection.direction, endpoint.address),
                    timeout,
                    handshake: Duration::from_millis(handshake_ms),
                };
                match open::open_session(cx, exchange, endpoint, &upstream, &counters) {
                    Some(session) => session,
                    None => {
                        exchange.failure.set(Some(CloseReason::TlsFailed));
                        return respond(cx, 502, "no credentials to reach the upstream with");
                    }
                }
            }
        };
        let Some(lease) = Lease::take(&session, cx, 0) else { return };
        if self.congested {
            lease.send(cx, Event::Pause);
        }
        lease.send(cx, Event::Start(Head::Request(head), length));
        self.current = Some(Current {
            lease,
            endpoint: Rc::clone(endpoint),
            counters,
            fresh,
            bodiless: length == BodyLength::None,
            request_done: false,
            response_begun: false,
            response_done: false,
            paused: false,
            client_finished: false,
            server_finished: false,
        });
    }

    /// The connection broke.
    fn broken(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        let Some(current) = self.current.take() else { return };
        count_bytes(&current);
        let again = current.lease.take_request().filter(|head| head.method.is_idempotent());
        match reason {
            // The alert that tells the peer what is wrong with it must still reach it.
            CloseReason::WrongPeer | CloseReason::TlsFailed => current.lease.close(cx),
            _ => current.lease.abort(cx),
        }
        if current.response_done {
            return;
        }
        if current.paused {
            cx.back(Event::Resume);
        }
        if current.response_begun {
            self.exchange.failure.set(Some(reason));
            current.counters.cx_destroy_remote_with_active_rq.inc();
            return cx.back(Event::Close(if reason.is_clean() { reason } else { CloseReason::Reset }));
        }
        if !current.fresh && current.bodiless && reason == CloseReason::Reset {
            let cluster = self.exchange.facts.borrow().cluster;
            if let (Some(head), Some(cluster)) = (again, cluster) {
                self.send(cx, &current.endpoint, cluster, false, head, BodyLength::None);
                if let Some(next) = &mut self.current
                    && current.request_done
                {
                    next.request_done = true;
                    next.lease.send(cx, Event::End(None));
                }
                return;
            }
        }
        self.exchange.failure.set(Some(reason));
        match reason {
            CloseReason::ConnectTimeout => {
                current.counters.cx_connect_timeout.inc();
                respond(cx, 504, "upstream connect timeout");
            }
            CloseReason::ConnectFailed => {
                current.counters.cx_connect_fail.inc();
                respond(cx, 502, "upstream connect failure");
            }
            CloseReason::WrongPeer => respond(cx, 502, "upstream has another identity than expected"),
            CloseReason::TlsFailed => respond(cx, 502, "upstream TLS failure"),
            CloseReason::Protocol => respond(cx, 502, "upstream protocol error"),
            _ => {
                current.counters.cx_destroy_remote_with_active_rq.inc();
                respond(cx, 502, "upstream closed the connection");
            }
        }
    }

    /// Both messages are complete: the connection is free.
    fn release(&mut self, cx: &mut Cx<'_>) {
        let Some(current) = self.current.take_if(|c| c.request_done && c.response_done) else { return };
        count_bytes(&current);
        if self.congested {
            current.lease.send(cx, Event::Resume);
        }
        let keep = !current.paused && !cx.draining();
        if let Some(session) = current.lease.release(cx, keep)
            && !current.endpoint.keep(&session)
            && let Some(pipeline) = session.pipeline()
        {
            cx.close(pipeline);
        }
    }
}

fn count_bytes(current: &Current) {
    let (sent, received) = current.lease.session().take_bytes();
    current.counters.cx_tx_bytes.add(sent);
    current.counters.cx_rx_bytes.add(received);
}

impl Filter for LoadBalancing {
    fn name(&self) -> &'static str {
        "http-load-balancing"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Start(Head::Request(head), length) => self.request(cx, head, length),
            Event::Pause | Event::Resume => {
                self.congested = matches!(event, Event::Pause);
                if let Some(current) = &self.current {
                    current.lease.send(cx, event);
                }
            }
            other => {
                let Some(current) = &mut self.current else { return cx.forward(other) };
                let end = matches!(other, Event::End(_));
                current.client_finished |= matches!(other, Event::Close(reason) if reason.is_clean());
                current.request_done |= end;
                current.bodiless &= end;
                current.lease.send(cx, other);
                self.release(cx);
            }
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        let Some(current) = &mut self.current else { return };
        match event {
            Event::Start(ref head, _) => {
                current.response_begun |= !matches!(head, Head::Response(head) if head.is_interim());
                cx.back(event);
            }
            Event::End(_) => {
                current.response_done = true;
                cx.back(event);
                self.release(cx);
            }
            // Only in a tunnel is the end of the server's words no failure; the client may go on.
            Event::Close(reason) if reason.is_clean() && current.response_begun => {
                current.server_finished = true;
                cx.back(event);
            }
            Event::Close(reason) => self.broken(cx, reason),
            Event::Pause | Event::Resume => {
                current.paused = matches!(event, Event::Pause);
                cx.back(event);
            }
            Event::Data(_) | Event::Custom(_) => cx.back(event),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(current) = self.current.take() {
            count_bytes(&current);
            if current.client_finished && current.server_finished {
                return current.lease.close(cx);
            }
            if !current.response_done {
                current.counters.cx_destroy_local_with_active_rq.inc();
            }
            current.lease.abort(cx);
        }
    }
}
