//! Probes of the application that the sidecar carries out.
//!
//! The kubelet is no member of the mesh and has no certificate, so the application's port is closed to it. It asks the
//! sidecar instead, on a listener of its own, and names the original target in headers; the sidecar asks the application.
//! What is not listed here is not asked: the listeners are open to everyone who reaches the Pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Origin;

/// A probe of the application: which question may come in on which listener, and what is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Where the kubelet asks.
    pub listener: ProbeListener,
    /// What is asked of the application.
    pub kind: ProbeKind,
    /// Port of the application, on loopback.
    pub port: u16,
    /// With `http`: path and query, as the kubelet names them.
    #[serde(default)]
    pub path: Option<String>,
    /// With `http`: the Host header that the probe sets. Absent: the Pod's address and `port`, as the kubelet would.
    #[serde(default)]
    pub host: Option<String>,
    /// With `http`: lower-case names of the headers that the probe sets; they are passed on, with `user-agent` and
    /// `accept`, and no others.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How long the answer may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The probe's place, such as `Pod/bookstore/bookstore-v1-5d4#bookstore.readinessProbe`.
    pub origin: Origin,
}

/// What the kubelet waits when a probe says nothing.
fn timeout_ms() -> u64 {
    1_000
}

/// Where the kubelet asks; one listener for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeListener {
    /// Liveness, port 15901.
    Liveness,
    /// Readiness, port 15902.
    Readiness,
    /// Startup, port 15903.
    Startup,
    /// Probes that only connect, of any of the three, port 15904.
    Tcp,
}

/// What is asked of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// A GET, answered with the application's status.
    Http,
    /// A connection: 200 when it is made, 404 when not.
    Tcp,
}
