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
mod metrics;
mod store;
mod tls;

pub use api::Api;
pub use auth::Guard;
pub use follow::{Follower, Report, Snapshot};
pub use http::{Request, Response, serve};
pub use store::{Store, random_id};
pub use tls::TlsFiles;
