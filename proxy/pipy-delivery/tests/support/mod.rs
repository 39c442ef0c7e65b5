//! A control plane to test against: HTTPS on a port of its own, one thread per connection, misbehaving on request.
//!
//! `certificates` issues, `server` answers. What it does is a [`World`] that tests change while it runs; what it was
//! asked is a list of [`Call`]s that tests wait for. No test sleeps: waiting is for a state, with a deadline.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod certificates;
pub mod client;
pub mod server;

use std::time::Duration;

/// LIMIT: how long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The name that the control plane's certificate carries.
pub const SERVER_NAME: &str = "fsm-controller.fsm-system.svc";
pub const TOKEN: &str = "header.payload.signature";
pub const IDENTITY: &str = "spiffe://cluster.local/ns/bookstore/sa/bookstore-v1";
