//! What the proxy tells about its traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs and, later, traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Which requests and connections are logged to standard output, one JSON object a line.
    pub access_log: AccessLog,
}

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
