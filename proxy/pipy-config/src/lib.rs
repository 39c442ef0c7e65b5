//! The contract: everything one proxy is told, as types.
//!
//! The control plane compiles a [`ProxyConfig`] for each proxy; the proxy parses it with [`parse`], which refuses what
//! it does not know, naming the path. `contract/proxy-config.schema.json` is generated from these types and both sides
//! test against the samples beside it.
//!
//! Principles:
//! - **Compiled, not raw**: listeners, matches, identities, clusters, endpoints. No Kubernetes kinds.
//! - **Every rule knows where it came from**: `origin` names the object, `Kind/namespace/name`, with `#part` where one
//!   object makes several rules (`HTTPRouteGroup/bookstore/routes#buy-a-book`).
//! - **No private keys.** A proxy makes its own key and has it certified.
//! - Maps and lists are in the order in which they are tried; the compiler sorts them, the proxy never does.
//!
//! Not here: how a configuration is carried out (`pipy-mesh`), how it arrives (`pipy-delivery`).

#![forbid(unsafe_code)]

mod cluster;
mod exclusions;
mod inbound;
mod originate;
mod outbound;
mod parse;
mod plugin;
mod probe;
mod route;
mod telemetry;
mod upstream;

pub use cluster::{Cluster, ClusterKind, ConnectionLimits, Endpoint, ProxyProtocol};
pub use exclusions::Exclusions;
pub use inbound::{Inbound, InboundMatch, Mtls, SourceRule};
pub use originate::{ClientCertificate, Hidden, Originate};
pub use outbound::{Outbound, OutboundMatch, Unmatched};
pub use parse::{ConfigError, REGEX_BYTES_MAX, parse, schema};
pub use plugin::Plugin;
pub use probe::{Probe, ProbeKind, ProbeListener};
pub use route::{Allow, Header, HostRule, Path, Protocol, Route, TcpRule, TlsRule, WeightedCluster};
pub use telemetry::{AccessLog, Collector, RemoteLog, Telemetry, Tracing};
pub use upstream::{
    Balancing, BalancingPolicy, CircuitBreaker, ExtraHeader, PassiveHealth, RateLimit, Retry, StatusRange,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names the object that a rule was made from: `Kind/namespace/name` or `Kind/name`, optionally `#part`.
pub type Origin = String;

/// A workload identity: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
pub type SpiffeId = String;

/// The whole configuration of one proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Hash of everything else; two configurations with the same version are the same.
    pub version: String,
    /// Who this proxy is. Absent for a proxy that stands outside the mesh.
    #[serde(default)]
    pub identity: Option<SpiffeId>,
    /// What this proxy answers for, as the mesh's users name it; goes into metrics and headers.
    #[serde(default)]
    pub workload: Workload,
    /// Whom this proxy believes.
    #[serde(default)]
    pub trust: Trust,
    /// Traffic to the application. Absent: the inbound listener is closed.
    #[serde(default)]
    pub inbound: Option<Inbound>,
    /// Traffic from the application. Absent: the outbound listener is closed, connections are refused.
    #[serde(default)]
    pub outbound: Option<Outbound>,
    /// What the outbound listener leaves alone. It is open when there is any.
    #[serde(default)]
    pub exclusions: Exclusions,
    /// Where traffic goes, by cluster name (`namespace/service|port`; `…|local` for the application itself).
    #[serde(default)]
    pub clusters: std::collections::BTreeMap<String, Cluster>,
    /// Clusters, by name, whose servers outside of the mesh are spoken to in TLS.
    #[serde(default)]
    pub originates: std::collections::BTreeMap<String, Originate>,
    /// The ordered stages of the four chains.
    #[serde(default)]
    pub chains: Chains,
    /// The scripts that the chains name.
    #[serde(default)]
    pub plugins: Vec<Plugin>,
    /// Probes of the application that the proxy carries out. A probe listener without any is closed.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// What this proxy tells about its traffic.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Time limits that hold for every connection.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How many connections are taken.
    #[serde(default)]
    pub connection_limits: DownstreamLimits,
}

/// Limits on accepted connections, per worker, and on what each may take; `0` means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DownstreamLimits {
    /// Open connections to the application. One beyond a limit is reset and counted.
    pub inbound_connections_max: u32,
    /// Open connections of the application.
    pub outbound_connections_max: u32,
    /// Both together.
    pub connections_max: u32,
    /// The age, in milliseconds, more or less a tenth, at which a connection of HTTP takes no more requests. What is under
    /// way is answered; HTTP/1 is told by `Connection: close`, HTTP/2 by GOAWAY.
    pub connection_age_ms: u64,
    /// Requests after which a connection of HTTP takes no more; it is told in the same way.
    pub requests_per_connection_max: u32,
    /// Requests at once on a connection of HTTP/2; 0: a hundred.
    pub streams_max: u32,
}

/// What a proxy's workload is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Kind of the object that owns the Pod, such as `Deployment`.
    pub kind: String,
    /// Name of that object.
    pub name: String,
    /// Name of the Pod.
    pub pod: String,
    /// Name of the Pod's ServiceAccount.
    pub service_account: String,
}

/// The certificate authorities whose certificates are accepted as those of mesh members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// Trust domain of the mesh, such as `cluster.local`.
    pub domain: String,
    /// Root certificates, one PEM block each. During a rotation there are two.
    pub roots: Vec<String>,
}

/// The stages of the four chains, in the order in which they run. Built-in stages are known by name; any other name
/// is a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Chains {
    /// Requests to the application.
    #[serde(rename = "inbound-http")]
    pub inbound_http: Vec<String>,
    /// Connections to the application.
    #[serde(rename = "inbound-tcp")]
    pub inbound_tcp: Vec<String>,
    /// Requests of the application.
    #[serde(rename = "outbound-http")]
    pub outbound_http: Vec<String>,
    /// Connections of the application.
    #[serde(rename = "outbound-tcp")]
    pub outbound_tcp: Vec<String>,
}

impl Chains {
    /// The four chains by name.
    pub fn all(&self) -> [(&'static str, &[String]); 4] {
        [
            ("inbound-http", &self.inbound_http),
            ("inbound-tcp", &self.inbound_tcp),
            ("outbound-http", &self.outbound_http),
            ("outbound-tcp", &self.outbound_tcp),
        ]
    }
}

impl Default for Chains {
    fn default() -> Self {
        let chain = |names: &[&str]| names.iter().map(|name| format!("modules/{name}.js")).collect();
        Chains {
            inbound_http: chain(&[
                "inbound-tls-termination",
                "inbound-http-routing",
                "inbound-metrics-http",
                "inbound-tracing-http",
                "inbound-logging-http",
                "inbound-throttle-service",
                "inbound-throttle-route",
                "inbound-http-load-balancing",
                "inbound-http-default",
            ]),
            inbound_tcp: chain(&[
                "inbound-tls-termination",
                "inbound-tcp-routing",
                "inbound-tcp-load-balancing",
                "inbound-tcp-default",
            ]),
            outbound_http: chain(&[
                "outbound-http-routing",
                "outbound-metrics-http",
                "outbound-tracing-http",
                "outbound-logging-http",
                "outbound-circuit-breaker",
                "outbound-http-load-balancing",
                "outbound-http-default",
            ]),
            outbound_tcp: chain(&[
                "outbound-tcp-routing",
                "outbound-tcp-load-balancing",
                "outbound-tcp-default",
            ]),
        }
    }
}

/// Time limits, in milliseconds; `0` means no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// A TLS handshake, from the first byte awaited to completion.
    pub handshake_ms: u64,
    /// A request head, from its first byte to its last.
    pub request_head_ms: u64,
    /// How long a client may be silent before a connection of unknown protocol is taken for bytes. Not 0: a server that
    /// speaks first would never be reached.
    pub detect_ms: u64,
    /// A connection on which nothing moves, in either direction.
    pub idle_ms: u64,
    /// After SIGTERM or a removed listener: how long connections may finish what they do.
    pub drain_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            handshake_ms: 10_000,
            request_head_ms: 30_000,
            detect_ms: 500,
            idle_ms: 3_600_000,
            drain_ms: 30_000,
        }
    }
}
