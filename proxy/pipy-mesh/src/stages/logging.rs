//! Logging: one line of the access log per request, when it is over.

use std::rc::Rc;

use pipy_observe::{Decision, Entry};
use pipy_pipeline::{Cx, Dir, Filter};

use crate::exchange::Exchange;

pub(super) fn stage(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Logging { exchange: Rc::clone(exchange) })
}

struct Logging {
    exchange: Rc<Exchange>,
}

impl Logging {
    /// What became of the request, and why.
    fn outcome(&self) -> (Decision, Option<&'static str>) {
        let exchange = &self.exchange;
        if let Some(refusal) = exchange.refusal.get() {
            return (Decision::Denied, Some(refusal.words()));
        }
        if let Some(failure) = exchange.failure.get() {
            return (Decision::Failed, Some(failure.label()));
        }
        if let Some(why) = exchange.answered_by.get() {
            return (Decision::Failed, Some(why));
        }
        if exchange.unfinished.get() {
            return (Decision::Failed, Some("client_closed"));
        }
        let facts = exchange.facts.borrow();
        if facts.cluster.is_some() && facts.upstream.is_none() {
            return (Decision::Failed, Some("the cluster has no endpoints"));
        }
        match exchange.status.get() {
            0 => (Decision::Failed, Some("the exchange ended before a response")),
            _ => (Decision::Allowed, None),
        }
    }
}

impl Filter for Logging {
    fn name(&self) -> &'static str {
        "http-logging"
    }

    fn ignores(&self, _dir: Dir) -> bool {
        true
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        let plan = &self.exchange.runtime.plan;
        let (decision, reason) = self.outcome();
        if !plan.logs(decision) {
            return;
        }
        let exchange = &self.exchange;
        let connection = &exchange.connection;
        let facts = exchange.facts.borrow();
        let duration = cx.now().saturating_duration_since(exchange.started);
        connection.shared.log(
            plan,
            &Entry {
                protocol: connection.protocol.get(),
                host: Some(facts.authority.as_bytes()),
                method: Some(facts.method.as_bytes()),
                path: Some(&facts.path),
                status: Some(exchange.status.get()).filter(|status| *status > 0),
                grpc_status: exchange.grpc_status.get(),
                decision,
                reason,
                origin: facts.allowed_by.as_deref().or(facts.origin.as_deref()),
                rule_origin: facts.origin.as_deref(),
                split_origin: facts.split_by.as_deref(),
                service: facts.service.as_deref(),
                cluster: facts.cluster.and_then(|position| plan.clusters.get(position)).map(|c| &*c.name),
                upstream: facts.upstream,
                destination: connection.destination_identity(plan, facts.upstream_identity.as_deref()),
                request_bytes: Some(exchange.request_bytes.get()),
                response_bytes: Some(exchange.response_bytes.get()),
                duration_us: u64::try_from(duration.as_micros()).ok(),
                request_id: facts.request_id.as_deref(),
                trace_id: facts.trace_id.as_deref(),
                span_id: facts.span_id.as_deref(),
                ..connection.entry(plan, exchange.started)
            },
        );
    }
}
