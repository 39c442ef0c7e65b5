//! Circuit breaker: answers for a cluster that has failed too often of late.
//!
//! The cluster is chosen here already, so that what is spared is what the request would have gone to. Each answer of the
//! cluster is told to its breaker; what the breaker itself answers is not.

use std::rc::Rc;
use std::time::Instant;

use pipy_http::{BodyLength, ResponseHead};
use pipy_pipeline::{Cx, Event, Filter, Head};
use pipy_script::log;
use pipy_upstream::{Change, Counts};

use crate::exchange::Exchange;
use crate::runtime::Cluster;

pub(super) fn stage(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(CircuitBreaker { exchange: Rc::clone(exchange), passed: None, refused: false })
}

struct CircuitBreaker {
    exchange: Rc<Exchange>,
    /// Since when the answer to a request that passed is awaited.
    passed: Option<Instant>,
    refused: bool,
}

impl CircuitBreaker {
    fn request(&mut self, cx: &mut Cx<'_>) {
        let exchange = &self.exchange;
        let Some((position, cluster)) = exchange.cluster() else { return };
        let now = cx.now();
        let (passes, change) = match &mut *cluster.load.breaker.borrow_mut() {
            Some(breaker) => breaker.request(now),
            None => return,
        };
        if let Some(change) = change {
            self.tell(position, cluster, change);
        }
        if passes {
            self.passed = Some(now);
            return;
        }
        self.refused = true;
        cluster.load.counters.rq_degraded.inc();
        let config = exchange.runtime.plan.clusters.get(position).map(|plan| &plan.config);
        let Some(config) = config.and_then(|config| config.circuit_breaker.as_ref()) else { return };
        exchange.answered_by.set(Some("the circuit breaker is open"));
        let mut head = ResponseHead::new(config.status);
        // A fixed header is a valid one.
        let _ = head.headers.append("content-type", "text/plain");
        let body = config.body.clone().into_bytes();
        cx.back(Event::Start(Head::Response(Box::new(head)), BodyLength::Length(body.len() as u64)));
        cx.back(Event::Data(body.into()));
        cx.back(Event::End(None));
    }

    fn response(&mut self, cx: &Cx<'_>, status: u16) {
        let Some(since) = self.passed.take() else { return };
        let Some((position, cluster)) = self.exchange.cluster() else { return };
        let now = cx.now();
        let took = now.saturating_duration_since(since);
        let change = match &mut *cluster.load.breaker.borrow_mut() {
            Some(breaker) => breaker.response(status, took, now),
            None => None,
        };
        if let Some(change) = change {
            self.tell(position, cluster, change);
        }
    }

    /// Tells whoever runs the mesh, in the form that they know.
    fn tell(&self, position: usize, cluster: &Cluster, change: Change) {
        let name = self.exchange.runtime.plan.clusters.get(position).map_or("", |plan| &*plan.name);
        let (word, Counts { total, slow, errors }) = match change {
            Change::Opened(counts) => ("open", counts),
            Change::Closed(counts) => ("close", counts),
        };
        match change {
            Change::Opened(_) => cluster.load.counters.breaker_open.inc(),
            Change::Closed(_) => cluster.load.counters.breaker_open.dec(),
        }
        // Rare: at most two lines per window and cluster.
        let what = "[circuit_breaker] total/slowAmount/errorAmount";
        log::line("INF", &format!("{what} ({word}) {name} {total} {slow} {errors}"));
    }
}

impl Filter for CircuitBreaker {
    fn name(&self) -> &'static str {
        "outbound-circuit-breaker"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Start(Head::Request(_), _) = event {
            self.request(cx);
        }
        // Nobody hears the body of a request that was answered here.
        if !self.refused {
            cx.forward(event);
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Start(Head::Response(head), _) = &event
            && !head.is_interim()
        {
            self.response(cx, head.status);
        }
        cx.back(event);
    }
}
