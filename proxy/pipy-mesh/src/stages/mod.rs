//! The stages of the HTTP chains, and the table that lists them.
//!
//! A chain is an ordered list of stage names. Each request runs through filters made of its chain's stages; they share
//! what they know in an [`Exchange`].

mod circuit_breaker;
mod default;
mod load_balancing;
mod logging;
mod metrics;
pub(crate) mod plugin;
mod plugin_tcp;
mod routing;
mod throttle;
mod tracing;

use std::rc::Rc;

use pipy_pipeline::Filter;

use crate::exchange::{Direction, Exchange};

pub(crate) use load_balancing::{Upstream, also, of_address, open_upstream, source};
pub(crate) use plugin_tcp::{TcpStep, carry};

/// Makes the filter of a stage for one request.
pub(crate) type Stage = fn(&Rc<Exchange>) -> Box<dyn Filter>;

/// One place of a chain.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    BuiltIn(Stage),
    /// By position among the runtime's.
    Plugin(usize),
}

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

/// The stages of the TCP chains. They are one filter: what they do is not divided.
const TCP_STAGES: &[&str] = &[
    "modules/inbound-tls-termination.js",
    "modules/inbound-tcp-routing.js",
    "modules/inbound-tcp-load-balancing.js",
    "modules/inbound-tcp-default.js",
    "modules/outbound-tcp-routing.js",
    "modules/outbound-tcp-load-balancing.js",
    "modules/outbound-tcp-default.js",
];

impl Chain {
    /// The stages with these names, in this order, without those that nothing needs; unknown names are passed over (they
    /// were reported when the configuration was applied).
    pub(crate) fn stages(
        self,
        names: &[String],
        wanted: impl Fn(Need) -> bool,
        plugin: impl Fn(&str) -> Option<usize>,
    ) -> Vec<Step> {
        let step = |name: &String| match plugin_of(name) {
            Some(name) => plugin(name).map(Step::Plugin),
            None => {
                let (_, need, stage) = STAGES.iter().find(|(known, ..)| known == name)?;
                stage.filter(|_| wanted(*need)).map(Step::BuiltIn)
            }
        };
        names.iter().filter_map(step).collect()
    }

    /// The built-in stages with these names.
    pub(crate) fn built_in(self, names: &[String]) -> Vec<Stage> {
        let found = names.iter().filter_map(|name| STAGES.iter().find(|(known, ..)| known == name));
        found.filter_map(|(.., stage)| *stage).collect()
    }
}

/// The filters of a request from a place of its chain on.
pub(crate) fn row(exchange: &Rc<Exchange>, from: usize) -> Vec<Box<dyn Filter>> {
    let runtime = &exchange.runtime;
    let chain = match exchange.connection.direction {
        Direction::Inbound => &runtime.inbound_http,
        Direction::Outbound => &runtime.outbound_http,
    };
    let mut row = Vec::with_capacity(chain.len());
    for (position, step) in chain.iter().enumerate().skip(from) {
        match step {
            Step::BuiltIn(stage) => row.push(stage(exchange)),
            Step::Plugin(plugin) => {
                // What comes after is where the script leads to, if it does.
                row.push(plugin::stage(exchange, *plugin, position + 1));
                break;
            }
        }
    }
    row
}

/// The plugin that a stage's name means.
fn plugin_of(name: &str) -> Option<&str> {
    name.strip_prefix("plugins/")?.strip_suffix(".js")
}

/// The names in a chain that no stage has.
pub fn unknown_stages(names: &[String]) -> Vec<&String> {
    let known = |name: &str| plugin_of(name).is_some() || STAGES.iter().any(|(known, ..)| *known == name);
    names.iter().filter(|name| !known(name)).collect()
}

/// The names in a chain of TCP that no stage has.
pub fn unknown_tcp_stages(names: &[String]) -> Vec<&String> {
    let known = |name: &str| plugin_of(name).is_some() || TCP_STAGES.contains(&name);
    names.iter().filter(|name| !known(name)).collect()
}

/// The names of the built-in stages.
pub(crate) fn built_in_names() -> Vec<&'static str> {
    STAGES.iter().map(|(name, ..)| *name).chain(TCP_STAGES.iter().copied()).collect()
}
