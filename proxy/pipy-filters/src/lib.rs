//! The filters: one file each, and [`FILTERS`], the one table that lists them all.
//!
//! A filter here is general: it knows nothing of meshes, policies or clusters. Those of the sidecar are in `pipy-mesh`.

#![forbid(unsafe_code)]

mod http_client;
mod http1_server;
mod http2_server;
mod http_server;
mod ids;
mod out;
mod session;
mod spec;
mod tls;
mod tls_client;
mod tls_server;

pub use http_client::HttpClient;
pub use http_server::{HttpServer, HttpService, HttpVersion, Limits as HttpServerLimits};
pub use session::{Lease, Session};
pub use spec::{Layer, Spec};
pub use tls_client::TlsClient;
pub use tls_server::{Handshake, Peer, TlsServer};

/// Every filter there is, in the order of the path from the client to the server.
pub const FILTERS: &[Spec] = &[tls_server::SPEC, http_server::SPEC, http_client::SPEC, tls_client::SPEC];
