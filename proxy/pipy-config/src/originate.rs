//! TLS that the proxy speaks to servers outside of the mesh, for applications that speak plain text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Origin;

/// How connections of a cluster are encrypted whose servers are no members of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Originate {
    /// Object that says so, such as `Egress/shop/payments`.
    pub origin: Origin,
    /// The server that is asked for, which its certificate must name. Absent: the address that is connected to.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Certificates (PEM) of which one must have signed the server's. Empty: the mesh's roots.
    #[serde(default)]
    pub roots: Vec<String>,
    /// What the proxy shows. Absent: its own certificate of the mesh.
    #[serde(default)]
    pub certificate: Option<ClientCertificate>,
}

/// A certificate that was made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM. No page shows it.
    #[schemars(with = "String")]
    pub key: Hidden,
}

/// A text that is not for logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
