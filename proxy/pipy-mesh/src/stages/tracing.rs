//! Tracing: gives each request its place in a trace, tells the next one in headers, and the collector when it is over.
//!
//! The proxies at both ends of a call tell one span, each its half: the outbound one makes it (`CLIENT`), the inbound one
//! takes it over (`SERVER`, shared). What the application sends on of the headers becomes the parent of its own calls. A
//! request that says nothing begins a trace, of which a share is told; one that says whether it is sampled is believed.
//!
//! Not here: ids, headers and the collector's form (`pipy_observe`), how spans travel (its `Exporter`).

use std::rc::Rc;

use pipy_http::RequestHead;
use pipy_observe::{Span, SpanReport, TraceContext, TraceId};
use pipy_pipeline::{Cx, Event, Filter, Head};

use crate::exchange::{Direction, Exchange};

pub(super) fn inbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Tracing { exchange: Rc::clone(exchange), name: "inbound-tracing-http", seen: Seen::default() })
}

pub(super) fn outbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Tracing { exchange: Rc::clone(exchange), name: "outbound-tracing-http", seen: Seen::default() })
}

struct Tracing {
    exchange: Rc<Exchange>,
    name: &'static str,
    seen: Seen,
}

/// What the span's tags tell of the request's head.
#[derive(Default)]
struct Seen {
    scheme: Vec<u8>,
    user_agent: Vec<u8>,
}

impl Tracing {
    fn begin(&mut self, head: &mut RequestHead) {
        let exchange = &self.exchange;
        let Some(config) = &exchange.runtime.plan.telemetry.tracing else { return };
        let roll = || exchange.runtime.dice.borrow_mut().roll();
        let given = TraceContext::read(|name| head.headers.get(name));
        let trace = given.ids.map_or_else(|| TraceId::new(roll(), roll()), |(trace, _)| trace);
        let sampled = given.sampled.unwrap_or_else(|| trace.is_in_share(config.sampled_per_million));
        let above = given.ids.map(|(_, span)| span);
        let span = match (exchange.connection.direction, above) {
            (Direction::Inbound, Some(id)) if given.b3 => {
                Span { trace, id, parent: given.parent, sampled, shared: true }
            }
            _ => Span { trace, id: roll().max(1), parent: above, sampled, shared: false },
        };
        let headers = &mut head.headers;
        // Ids and flags of our own making are valid header values.
        for (name, value) in span.b3() {
            match value {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        // What says the same in one header would now say something else.
        headers.remove("b3");
        headers.remove("x-b3-flags");
        if config.traceparent || headers.contains("traceparent") {
            let _ = headers.insert("traceparent", span.traceparent());
        }
        let mut facts = exchange.facts.borrow_mut();
        if facts.request_id.is_none() {
            let id = TraceId::new(roll(), roll()).text();
            let _ = headers.insert("x-request-id", id.as_str());
            facts.request_id = Some(id.into_bytes());
        }
        // What is redirected to us is what the application sends in plain text, whatever encryption comes after.
        if !headers.contains("x-forwarded-proto") {
            let _ = headers.insert("x-forwarded-proto", "http");
        }
        if exchange.connection.direction == Direction::Outbound {
            let workload = &exchange.runtime.plan.workload;
            // Names of Kubernetes objects are valid header values. What the application claims is overwritten.
            for (name, value) in [
                ("fsm-stats-namespace", &workload.namespace),
                ("fsm-stats-kind", &workload.kind),
                ("fsm-stats-name", &workload.service_account),
                ("fsm-stats-pod", &workload.pod),
            ] {
                match value.as_str() {
                    "" => drop(headers.remove(name)),
                    value => drop(headers.insert(name, value)),
                }
            }
        }
        facts.trace_id = Some(span.trace.text().into_bytes());
        facts.span_id = Some(span.id_text().into_bytes());
        self.seen.scheme = headers.get("x-forwarded-proto").unwrap_or_default().to_vec();
        self.seen.user_agent = headers.get("user-agent").unwrap_or_default().to_vec();
        let _ = exchange.span.set(span);
        let proxy = &exchange.connection.shared.metrics.proxy;
        let counts = match exchange.connection.direction {
            Direction::Inbound => &proxy.traced_inbound,
            Direction::Outbound => &proxy.traced_outbound,
        };
        counts[usize::from(sampled)].inc();
    }

    fn report(&self, cx: &Cx<'_>, span: Span) {
        let exchange = &self.exchange;
        let connection = &exchange.connection;
        let plan = &exchange.runtime.plan;
        let facts = exchange.facts.borrow();
        let number = |value: u64| value.to_string().into_bytes();
        let status = match exchange.status.get() {
            // As clients see an exchange that ends without an answer.
            0 => 502,
            status => status,
        };
        let url = [&self.seen.scheme, b"://".as_slice(), facts.authority.as_bytes(), &facts.path].concat();
        let cluster = facts.cluster.and_then(|position| plan.clusters.get(position));
        let (client, address, peer) = match connection.direction {
            Direction::Outbound => (true, connection.accepted.peer.ip(), facts.upstream),
            Direction::Inbound => {
                (false, connection.accepted.destination.ip(), Some(connection.accepted.peer))
            }
        };
        let protocol = if connection.protocol.get() == "h2" { "HTTP/2" } else { "HTTP/1.1" };
        let denied = exchange.refusal.get().map(|refusal| refusal.words());
        let error = denied.or_else(|| exchange.failure.get().map(|failure| failure.label()));
        let error = error.or((status >= 500).then_some("the status says so")).unwrap_or_default();
        let duration = cx.now().saturating_duration_since(exchange.started);
        connection.shared.outlets.span(&SpanReport {
            span,
            client,
            name: facts.authority.as_bytes(),
            start_unix_us: connection.shared.unix_us(exchange.started),
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            service: &plan.workload.service_account,
            address,
            tags: &[
                ("component", b"proxy"),
                ("http.url", &url),
                ("http.method", facts.method.as_bytes()),
                ("http.protocol", protocol.as_bytes()),
                ("http.status_code", &number(u64::from(status))),
                ("guid:x-request-id", facts.request_id.as_deref().unwrap_or_default()),
                ("user_agent", &self.seen.user_agent),
                ("node_id", plan.workload.pod.as_bytes()),
                ("upstream_cluster", cluster.map_or(b"", |cluster| cluster.name.as_bytes())),
                ("request_size", &number(exchange.request_bytes.get())),
                ("response_size", &number(exchange.response_bytes.get())),
                ("peer.address", peer.map(|peer| peer.to_string()).unwrap_or_default().as_bytes()),
                ("origin", facts.origin.as_deref().unwrap_or_default().as_bytes()),
                ("error", error.as_bytes()),
            ],
        });
    }
}

impl Filter for Tracing {
    fn name(&self) -> &'static str {
        self.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, mut event: Event) {
        if let Event::Start(Head::Request(head), _) = &mut event {
            self.begin(head);
        }
        cx.forward(event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(span) = self.exchange.span.get().filter(|span| span.sampled) {
            self.report(cx, *span);
        }
    }
}
