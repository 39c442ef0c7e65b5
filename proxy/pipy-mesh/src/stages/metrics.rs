//! Metrics: counts what passes, and tells the two sidecars of a request about each other.
//!
//! The inbound sidecar says in `fsm-stats` whose response it is; the outbound one takes that away again and counts the
//! duration under it. Clients outside the mesh see the header.

use std::rc::Rc;

use pipy_http::{BodyLength, Headers, ResponseHead};
use pipy_observe::DestinationLabels;
use pipy_pipeline::{Cx, Event, Filter, Head};

use crate::exchange::{Direction, Exchange};

pub(super) fn inbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Metrics { exchange: Rc::clone(exchange), stats: None, name: "inbound-metrics-http" })
}

pub(super) fn outbound(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Metrics { exchange: Rc::clone(exchange), stats: None, name: "outbound-metrics-http" })
}

struct Metrics {
    exchange: Rc<Exchange>,
    /// What the other sidecar said of itself.
    stats: Option<Vec<u8>>,
    name: &'static str,
}

impl Metrics {
    fn response(&mut self, head: &mut ResponseHead) {
        if head.is_interim() {
            return;
        }
        self.exchange.status.set(head.status);
        match self.exchange.connection.direction {
            Direction::Inbound => {
                let stats = &self.exchange.runtime.stats_header;
                if !stats.is_empty() {
                    // Names of Kubernetes objects are valid header values.
                    let _ = head.headers.insert("fsm-stats", stats.as_bytes());
                }
            }
            Direction::Outbound => {
                self.stats = head.headers.get("fsm-stats").map(<[u8]>::to_vec);
                if self.stats.is_some() {
                    head.headers.remove("fsm-stats");
                }
            }
        }
    }
}

impl Metrics {
    fn grpc_status(&self, headers: &Headers) {
        if let Some(status) = headers.get_str("grpc-status").and_then(|text| text.parse().ok()) {
            self.exchange.grpc_status.set(Some(status));
        }
    }
}

impl Filter for Metrics {
    fn name(&self) -> &'static str {
        self.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Data(data) = &event {
            self.exchange.request_bytes.set(self.exchange.request_bytes.get() + data.len() as u64);
        }
        cx.forward(event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, mut event: Event) {
        match &mut event {
            Event::Start(Head::Response(head), length) => {
                self.response(head);
                // A failure may have no body, and then says so in the head.
                if matches!(length, BodyLength::None | BodyLength::Length(0)) {
                    self.grpc_status(&head.headers);
                }
            }
            Event::End(Some(trailers)) => self.grpc_status(trailers),
            Event::Data(data) => {
                self.exchange.response_bytes.set(self.exchange.response_bytes.get() + data.len() as u64);
            }
            _ => {}
        }
        cx.back(event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        let exchange = &self.exchange;
        let metrics = &exchange.connection.shared.metrics;
        if let Some(refusal) = exchange.refusal.get() {
            metrics.proxy.denied.get(refusal.label()).inc();
        }
        let cluster = exchange.facts.borrow().cluster.and_then(|position| exchange.runtime.cluster(position));
        if let Some(cluster) = cluster {
            cluster.load.counters.request();
            cluster.load.counters.response(exchange.status.get());
        }
        if let Some(labels) = self.stats.as_deref().and_then(DestinationLabels::parse) {
            let duration = cx.now().saturating_duration_since(exchange.started);
            metrics.duration(&labels).record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
    }
}
