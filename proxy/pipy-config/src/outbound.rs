//! Traffic from the application: what the outbound listener does with a redirected connection.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HostRule, Origin, Protocol, TcpRule, TlsRule};

/// The outbound side of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// The first match whose port and destinations fit the connection's original destination is taken; matches with
    /// destinations are tried before those without.
    pub matches: Vec<OutboundMatch>,
    /// What happens where none fits.
    pub unmatched: Unmatched,
}

/// What happens to connections towards one port of some addresses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutboundMatch {
    /// Port that the application dialled.
    pub port: u16,
    /// Addresses that the application dialled. Empty: any.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub destinations: Vec<IpNet>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Object that made this match, such as `Service/bookstore/bookstore`.
    pub origin: Origin,
    /// Virtual hosts, for HTTP and gRPC. The first rule that names the request's host is taken; `*` names every host.
    #[serde(default)]
    pub hosts: Vec<HostRule>,
    /// The rule for TCP; with the protocol `tls`, for connections whose server name is in no rule of `tls`.
    #[serde(default)]
    pub tcp: Option<TcpRule>,
    /// Rules by server name, for TLS that is carried unopened.
    #[serde(default)]
    pub tls: Vec<TlsRule>,
}

/// What the outbound listener does with a destination that no match names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Close the connection without a word.
    #[default]
    Refuse,
    /// Carry the bytes to the original destination, unencrypted.
    Passthrough,
}
