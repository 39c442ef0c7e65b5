//! Rules: virtual hosts, routes, and who may use them. The same types serve both directions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Origin, RateLimit, SpiffeId};

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.x or HTTP/2.
    Http,
    /// HTTP/2 with gRPC on top.
    Grpc,
    /// Bytes.
    Tcp,
    /// Bytes, and the server speaks first: nothing may wait for the client.
    TcpServerFirst,
    /// TLS that the application ends itself. It is carried on unopened; the server name that the client asks for says
    /// where to.
    Tls,
    /// Not known: a connection that begins with an HTTP request goes by `hosts`, any other by `tcp`, as does one whose
    /// client is silent for `timeouts.detect_ms`.
    Auto,
    /// Datagrams, carried as they are: nobody proves who they are. `tcp` is the rule; a match for UDP stands beside one for
    /// the same port over TCP. To the application, who may is said by `sources` alone where `tcp.allowed` is not null.
    Udp,
}

/// A virtual host: the names it answers to and its routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Host header values, lower case, with the port where one is meant (`bookstore.bookstore:14001`); `*` is any.
    pub names: Vec<String>,
    /// The service that this host stands for, `namespace/name`; names the rule in logs and statistics.
    pub service: String,
    /// Object that made this host.
    pub origin: Origin,
    /// Tried in order; the first that fits decides.
    pub routes: Vec<Route>,
    /// How many requests are let in. Inbound.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// What the service tells plugins, by their names.
    #[serde(default)]
    pub plugins: BTreeMap<String, serde_json::Value>,
}

/// What a request must look like, who may send it, and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Object that made this route, with `#match` where it has several.
    pub origin: Origin,
    /// The path that it fits.
    pub path: Path,
    /// The methods that it fits. Empty: any but CONNECT, which must be named.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Headers that must all fit.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// Who may use it. `null`: everyone who reached it. Empty: no one.
    #[serde(default)]
    pub allowed: Option<Vec<Allow>>,
    /// Where it goes, by weight. All weights 0: every cluster alike.
    pub clusters: Vec<WeightedCluster>,
    /// How many requests are let in, after the host's own limit. Inbound.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
}

/// A request path. Regular expressions search, unanchored, in linear time; path and query are searched together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// The path, whole, without the query.
    Exact(String),
    /// The path or a parent of it, by whole segments.
    Prefix(String),
    /// A regular expression over path and query.
    Regex(String),
}

/// A header that must be there and fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Header name, lower case.
    pub name: String,
    /// Regular expression, searched unanchored in the value; an absent header has the value ``.
    pub regex: String,
}

/// An identity that may use a route, and the object that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Who.
    pub identity: SpiffeId,
    /// Which object says so, such as `TrafficTarget/bookstore/bookstore-v1`.
    pub origin: Origin,
}

/// A share of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedCluster {
    /// Name of a cluster of this configuration.
    pub cluster: String,
    /// Its share, relative to the other weights. 0 beside others: used only after a failure of theirs.
    pub weight: u32,
    /// Object that set the share, where it is not the route's own, such as `TrafficSplit/bookstore/bookstore-split`.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// What happens to TLS connections for some server names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsRule {
    /// Server names, lower case. `*.` at the begin stands for one label or more. A name that is spelled out is tried
    /// before those that are not, and of these the longer before the shorter; the order of rules plays no part.
    pub names: Vec<String>,
    /// What happens to them.
    pub tcp: TcpRule,
}

/// What happens to a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpRule {
    /// Object that made this rule.
    pub origin: Origin,
    /// The service that this rule stands for, `namespace/name`.
    pub service: String,
    /// Who may connect. `null`: everyone who reached it. Empty: no one.
    #[serde(default)]
    pub allowed: Option<Vec<Allow>>,
    /// Where it goes, by weight.
    pub clusters: Vec<WeightedCluster>,
    /// What the service tells plugins, by their names.
    #[serde(default)]
    pub plugins: BTreeMap<String, serde_json::Value>,
}
