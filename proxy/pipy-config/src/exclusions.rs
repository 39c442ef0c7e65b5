//! Destinations that the mesh leaves alone although their connections reach the sidecar.
//!
//! A Pod's own redirection rules cannot be changed from outside while it runs. What is excluded after they were made is
//! excluded here: the sidecar carries the bytes to where they were meant to go and does nothing else.

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the outbound listener carries to its original destination, whatever the matches say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclusions {
    /// Destination ports.
    pub ports: Vec<u16>,
    /// Destination addresses.
    #[schemars(with = "Vec<String>")]
    pub destinations: Vec<IpNet>,
    /// If not empty, every destination address outside of these.
    #[schemars(with = "Vec<String>")]
    pub all_but: Vec<IpNet>,
}

impl Exclusions {
    /// Whether a destination is excluded.
    pub fn covers(&self, destination: SocketAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&destination.ip()));
        self.ports.contains(&destination.port())
            || within(&self.destinations)
            || (!self.all_but.is_empty() && !within(&self.all_but))
    }

    /// Whether anything is excluded.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.destinations.is_empty() && self.all_but.is_empty()
    }
}
