//! The repository of scripts.
//!
//! ```text
//!   curl, CI ──/api/v1/repo…──►┐                        ┌──/repo/NAME/──► follow (in each instance)
//!                              api ── store (a folder)  │                     │ files of one version
//!                              └── instances ◄──status──┘                     ▼ runs them, says how it went
//! ```
//!
//! INVARIANT: what an instance pulls is one committed version, never a mix of two.
//! Not here: what scripts mean; a repository takes any file, an instance refuses what does not load.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod auth;
mod follow;
mod http;
mod instances;
mod link;
mod links;
mod metrics;
mod relay;
mod store;
mod tls;
mod websocket;

pub use api::Api;
pub use auth::Guard;
pub use follow::{Follower, Report, Snapshot};
pub use http::{Request, Response, Service, Talk, serve};
pub use link::Logs;
pub use links::{Feed, watch_log};
pub use relay::Relay;
pub use store::{Store, random_id};
pub use tls::TlsFiles;
pub use websocket::{Message, Socket};
