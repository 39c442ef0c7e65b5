//! The stages of the HTTP chains, and the table that lists them.
//!
//! A chain is an ordered list of stage names. Each request runs through filters made of its chain's stages; they share
//! what they know in an [`Exchange`].

mod circuit_breaker;
mod default;
mod load_balancing;
mod logging;
mod metrics;
mod routing;
mod throttle;
mod tracing;

use std::rc::Rc;

use pipy_pipeline::Filter;

use crate::exchange::Exchange;

pub(crate) use load_balancing::{Upstream, of_address, open_upstream, source};

/// Makes the filter of a stage for one request.
pub(crate) type Stage = fn(&Rc<Exchange>) -> Box<dyn Filter>;

/// Which of the HTTP chains.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chain {
    InboundHttp,
    OutboundHttp,
}

/// What a configuration must have for a stage to have anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Always,
    Limits,
    Breakers,
    Tracing,
}

/// Every built-in stage of the HTTP chains: its name, when it is needed, and its filter. A name without a filter is work
/// that is done before requests are told apart (TLS).
const STAGES: &[(&str, Need, Option<Stage>)] = &[
    ("modules/inbound-tls-termination.js", Need::Always, None),
    ("modules/inbound-http-routing.js", Need::Always, Some(routing::inbound)),
    ("modules/inbound-metrics-http.js", Need::Always, Some(metrics::inbound)),
    ("modules/inbound-tracing-http.js", Need::Tracing, Some(tracing::inbound)),
    ("modules/inbound-logging-http.js", Need::Always, Some(logging::stage)),
    ("modules/inbound-throttle-service.js", Need::Limits, Some(throttle::service)),
    ("modules/inbound-throttle-route.js", Need::Limits, Some(throttle::route)),
    ("modules/inbound-http-load-balancing.js", Need::Always, Some(load_balancing::stage)),
    ("modules/inbound-http-default.js", Need::Always, Some(default::stage)),
    ("modules/outbound-http-routing.js", Need::Always, Some(routing::outbound)),
    ("modules/outbound-metrics-http.js", Need::Always, Some(metrics::outbound)),
    ("modules/outbound-tracing-http.js", Need::Tracing, Some(tracing::outbound)),
    ("modules/outbound-logging-http.js", Need::Always, Some(logging::stage)),
    ("modules/outbound-circuit-breaker.js", Need::Breakers, Some(circuit_breaker::stage)),
    ("modules/outbound-http-load-balancing.js", Need::Always, Some(load_balancing::stage)),
    ("modules/outbound-http-default.js", Need::Always, Some(default::stage)),
];

impl Chain {
    /// The stages with these names, in this order, without those that nothing needs; unknown names are passed over (they
    /// were reported when the configuration was applied).
    pub(crate) fn stages(self, names: &[String], wanted: impl Fn(Need) -> bool) -> Vec<Stage> {
        let found = names.iter().filter_map(|name| STAGES.iter().find(|(known, ..)| known == name));
        found.filter(|(_, need, _)| wanted(*need)).filter_map(|(.., stage)| *stage).collect()
    }
}

/// The names in a chain that no stage has.
pub fn unknown_stages(names: &[String]) -> Vec<&String> {
    names.iter().filter(|name| !STAGES.iter().any(|(known, ..)| known == name)).collect()
}
