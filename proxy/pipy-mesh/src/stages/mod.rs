//! The stages of the HTTP chains, and the table that lists them.
//!
//! A chain is an ordered list of stage names. Each request runs through filters made of its chain's stages; they share
//! what they know in an [`Exchange`].

mod default;
mod load_balancing;
mod logging;
mod metrics;
mod routing;

use std::rc::Rc;

use pipy_pipeline::Filter;

use crate::exchange::Exchange;

pub(crate) use load_balancing::{Active, Upstream, open_upstream, source};

/// Makes the filter of a stage for one request.
pub(crate) type Stage = fn(&Rc<Exchange>) -> Box<dyn Filter>;

/// Which of the HTTP chains.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chain {
    InboundHttp,
    OutboundHttp,
}

/// Every built-in stage of the HTTP chains: its name, and its filter. A name without a filter is work that is done
/// before requests are told apart (TLS), or is not done yet by anything that a configuration can switch on.
const STAGES: &[(&str, Option<Stage>)] = &[
    ("modules/inbound-tls-termination.js", None),
    ("modules/inbound-http-routing.js", Some(routing::inbound)),
    ("modules/inbound-metrics-http.js", Some(metrics::inbound)),
    ("modules/inbound-tracing-http.js", None),
    ("modules/inbound-logging-http.js", Some(logging::stage)),
    ("modules/inbound-throttle-service.js", None),
    ("modules/inbound-throttle-route.js", None),
    ("modules/inbound-http-load-balancing.js", Some(load_balancing::stage)),
    ("modules/inbound-http-default.js", Some(default::stage)),
    ("modules/outbound-http-routing.js", Some(routing::outbound)),
    ("modules/outbound-metrics-http.js", Some(metrics::outbound)),
    ("modules/outbound-tracing-http.js", None),
    ("modules/outbound-logging-http.js", Some(logging::stage)),
    ("modules/outbound-circuit-breaker.js", None),
    ("modules/outbound-http-load-balancing.js", Some(load_balancing::stage)),
    ("modules/outbound-http-default.js", Some(default::stage)),
];

impl Chain {
    /// The stages with these names, in this order; unknown names are passed over (they were reported when the
    /// configuration was applied).
    pub(crate) fn stages(self, names: &[String]) -> Vec<Stage> {
        names.iter().filter_map(|name| STAGES.iter().find(|(known, _)| known == name)?.1).collect()
    }
}

/// The names in a chain that no stage has.
pub fn unknown_stages(names: &[String]) -> Vec<&String> {
    names.iter().filter(|name| !STAGES.iter().any(|(known, _)| known == name)).collect()
}
