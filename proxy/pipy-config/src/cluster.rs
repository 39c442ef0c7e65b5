//! Where traffic goes: clusters and their endpoints.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Balancing, CircuitBreaker, Origin, PassiveHealth, Retry, SpiffeId};

/// A set of endpoints that can stand in for each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Object that made this cluster, such as `Service/bookstore/bookstore-v1`.
    pub origin: Origin,
    /// How its endpoints are found.
    #[serde(default)]
    pub kind: ClusterKind,
    /// Its endpoints. Empty: requests are answered 404 `Not found`, connections closed.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// How long a connection attempt may take, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Connections to it begin with a PROXY header that names the client. For TCP to plain-text endpoints: requests of many
    /// clients share connections, and sidecars tell each other the client in their own ways.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long a connection is kept unused, in milliseconds; 0: not at all. The default is below the keep-alive of
    /// common servers, so that most connections are closed by us and not under a request.
    #[serde(default = "idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// How much it may be loaded.
    #[serde(default)]
    pub limits: ConnectionLimits,
    /// How an endpoint is picked.
    #[serde(default)]
    pub balancing: Balancing,
    /// Which failed requests are tried again.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// When nothing is asked of it for a while.
    #[serde(default)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When one of its endpoints gets no requests for a while.
    #[serde(default)]
    pub health: PassiveHealth,
    /// Name that its metrics carry; its own where there is none. Clusters of single Pods are counted as their Service's:
    /// a name for each Pod would make as many metrics as the mesh has Pods.
    #[serde(default)]
    pub counted_as: Option<String>,
}

fn connect_timeout_ms() -> u64 {
    5_000
}

fn idle_timeout_ms() -> u64 {
    60_000
}

/// How a PROXY header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// How the endpoints of a cluster are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterKind {
    /// They are listed.
    #[default]
    Static,
    /// The address that the application dialled.
    OriginalDestination,
}

/// One address of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `ip:port`, IPv6 in brackets.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// Its share among the endpoints. 0 beside others: used only after a failure of theirs.
    #[serde(default = "one")]
    pub weight: u32,
    /// How near it is, 0 first: others are used when none of a lower number can be.
    #[serde(default)]
    pub priority: u32,
    /// Who must be there. Present: mutual TLS, and the peer's certificate must carry exactly this identity. Absent:
    /// plain text.
    #[serde(default)]
    pub identity: Option<SpiffeId>,
}

fn one() -> u32 {
    1
}

/// Limits per worker; `0` means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionLimits {
    /// Open connections.
    pub connections_max: u32,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests in flight.
    pub requests_max: u32,
    /// Requests after which a connection is not used again.
    pub requests_per_connection_max: u32,
    /// The age, in milliseconds, more or less a tenth, at which a connection is not used again. What is under way on it
    /// ends first. Not for TCP, which has no such moment.
    pub connection_age_ms: u64,
    /// Requests at once on a connection of HTTP/2, if the server takes as many; 0: a thousand.
    pub streams_max: u32,
    /// Retries under way; 0: a fifth of the requests, and ten always.
    pub retries_max: u32,
    /// Object that says so; absent where there are none.
    pub origin: Option<Origin>,
}
