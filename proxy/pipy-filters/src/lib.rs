//! The filters: one file each, and [`FILTERS`], the one table that lists them all.
//!
//! A filter here is general: it knows nothing of meshes, policies or clusters. Those of the sidecar are in `pipy-mesh`.

#![forbid(unsafe_code)]

mod codec_bytes;
mod detect_protocol;
mod h2c;
mod http1_server;
mod http2_client;
mod http2_server;
mod http_client;
mod http_server;
mod ids;
mod out;
pub mod proxy_protocol;
mod session;
mod spec;
mod tls;
mod tls_client;
mod tls_client_hello;
mod tls_server;
mod websocket;

pub use codec_bytes::CodecBytes;
pub use detect_protocol::{DETECT_BYTES_MAX, Spoken, detect};
pub use http_client::HttpClient;
pub use http_server::{HttpServer, HttpService, HttpVersion, Limits as HttpServerLimits};
pub use http2_client::{Http2Client, Http2Settings, STREAMS_FIRST};
pub use pipy_h2::Scheme;
pub use session::{Lease, Session, is_of_gateway};
pub use spec::{Layer, Spec};
pub use tls_client::{Believes, TlsClient};
pub use tls_client_hello::{CLIENT_HELLO_BYTES_MAX, ClientHello, HelloError, client_hello};
pub use tls_server::{Handshake, Peer, TlsServer};

/// Every filter there is, in the order of the path from the client to the server.
pub const FILTERS: &[Spec] = &[
    proxy_protocol::ACCEPT_SPEC,
    tls_server::SPEC,
    http_server::SPEC,
    http_client::SPEC,
    tls_client::SPEC,
    proxy_protocol::SEND_SPEC,
];
