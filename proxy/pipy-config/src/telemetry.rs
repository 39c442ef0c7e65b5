//! What the proxy tells about its traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Origin;

/// Logs and traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Which requests and connections are logged to standard output, one JSON object a line.
    pub access_log: AccessLog,
    /// Where spans go; absent: there are none, and what requests say of traces is passed on as it is.
    pub tracing: Option<Tracing>,
    /// Where lines of the access log go besides.
    pub remote_log: Option<RemoteLog>,
}

/// How requests are traced: the proxies at both ends of a call tell a collector that speaks Zipkin (API version 2) about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Object that asks for it.
    pub origin: Origin,
    /// Where spans go.
    pub collector: Collector,
    /// The share of traces, per million, that are told, where a request does not say it itself.
    pub sampled_per_million: u32,
    /// The W3C's header is sent too, not only B3's. A request that came with one has it either way.
    #[serde(default)]
    pub traceparent: bool,
}

/// Which lines of the access log are sent elsewhere, whatever is logged to standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteLog {
    /// Object that asks for it.
    pub origin: Origin,
    /// Where lines go, one JSON object each.
    pub collector: Collector,
    /// The share of lines, per million.
    pub sampled_per_million: u32,
}

/// Where records are sent, in HTTP, not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with its query.
    pub path: String,
    /// Value of the header `authorization`. Empty: there is none.
    #[serde(default)]
    pub authorization: String,
}

impl Telemetry {
    /// What makes no sense, each with its place.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let tracing = self.tracing.iter().map(|t| ("tracing", &t.collector, t.sampled_per_million));
        let remote = self.remote_log.iter().map(|r| ("remote_log", &r.collector, r.sampled_per_million));
        for (place, collector, share) in tracing.chain(remote) {
            let mut fault = |field: &str, what: String| faults.push((format!("{place}.{field}"), what));
            let graphic = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            if !graphic(&collector.host) || collector.host.contains(['/', '@', '?', '#']) {
                fault("collector.host", format!("{:?} is no host", collector.host));
            }
            if collector.port == 0 {
                fault("collector.port", "is 0".into());
            }
            if !graphic(&collector.path) || !collector.path.starts_with('/') {
                fault("collector.path", format!("{:?} is no path", collector.path));
            }
            if collector.authorization.bytes().any(|b| !matches!(b, 0x20..0x7f)) {
                fault("collector.authorization", "holds what no header may".into());
            }
            if share > PER_MILLION_MAX {
                fault("sampled_per_million", format!("{share} is more than {PER_MILLION_MAX}"));
            }
        }
        faults
    }
}

/// All of them.
const PER_MILLION_MAX: u32 = 1_000_000;

/// Which requests and connections are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that were denied or failed.
    #[default]
    Denied,
    /// Every one.
    All,
}
