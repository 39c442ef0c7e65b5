//! Traffic to the application: what the inbound listener does with a redirected connection.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostRule, Origin, Protocol, RateLimit, SpiffeId, TcpRule};

/// The inbound side of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inbound {
    /// Tried by port; the first whose port is the connection's original destination port is taken. A port without a
    /// match is refused with a reset.
    pub matches: Vec<InboundMatch>,
}

/// What happens on one port of the application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundMatch {
    /// Port that the client meant (the application's own port).
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Object that made this match, such as `Service/bookstore/bookstore-v1`.
    pub origin: Origin,
    /// Whether mesh members must prove who they are.
    #[serde(default)]
    pub mtls: Mtls,
    /// Peers, such as load balancers, that begin every connection with a PROXY header (version 1 or 2). Theirs must, and
    /// the client that it names is the one that `sources` and logs see. Others' must not: it would be taken for data.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// Clients outside the mesh that are let in, by address. Tried before the mesh's own rule.
    #[serde(default)]
    pub sources: Vec<SourceRule>,
    /// Virtual hosts, for HTTP and gRPC. The first rule that names the request's host is taken; `*` names every host.
    #[serde(default)]
    pub hosts: Vec<HostRule>,
    /// The rule for TCP.
    #[serde(default)]
    pub tcp: Option<TcpRule>,
    /// How many connections are let in; those beyond are reset.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
}

/// Whether a connection from a mesh member is encrypted and authenticated both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mtls {
    /// Only mutual TLS with a certificate of the mesh is accepted.
    #[default]
    Strict,
    /// Plain text; the mesh runs with its encryption switched off.
    Disabled,
}

/// Lets clients in that are no members of the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRule {
    /// Client addresses.
    #[schemars(with = "Vec<String>")]
    pub cidrs: Vec<IpNet>,
    /// Object that made this rule, such as `IngressBackend/httpbin/httpbin`.
    pub origin: Origin,
    /// The client must speak mutual TLS.
    #[serde(default)]
    pub mtls: bool,
    /// Without `mtls`: the client must speak TLS, but is asked for no certificate.
    #[serde(default)]
    pub tls: bool,
    /// With `mtls`: names (CN, DNS or URI) of which the client's certificate must carry one. Empty: any.
    #[serde(default)]
    pub principals: Vec<SpiffeId>,
    /// With TLS: server names of which the client must ask for one, lower case; `*.` at the begin stands for one label or
    /// more. Empty: any, or none.
    #[serde(default)]
    pub server_names: Vec<String>,
    /// Origins of the routes that the client may use, whoever else may. `null`: every route. For HTTP and gRPC. Rules that
    /// cover the same client and expect it to speak alike add up.
    #[serde(default)]
    pub routes: Option<Vec<Origin>>,
}
