//! The worker: the only shell around the graph of pipelines.
//!
//! One thread, one event loop, its own listeners (SO_REUSEPORT), its own sockets and timers; workers share nothing but
//! what an [`App`] hands each of them. The loop waits for readiness, reads, gives what it read to the graph, lets it
//! run, and carries out what the graph asks for. Only here is the clock read and are sockets touched.
//!
//! UDP: an [`App`] gives listeners with [`App::datagram_listeners`] and decides about each new peer with
//! [`App::accept_datagrams`]; its verdict's filters are the peer's session, each `Data` one datagram. A filter reaches an
//! upstream with `Cx::connect_datagrams`, in the same words, and the kernel with `Cx::connect_netlink`. `Close` from either side ends a session or socket.
//!
//! Not here: what bytes mean (filters), who may talk to whom (`pipy-mesh`).

#![forbid(unsafe_code)]

mod app;
mod captured;
mod connect;
mod datagrams;
mod leaving;
mod listen;
mod netlink;
mod socket;
mod worker;

pub use app::{Accepted, App, Handle, Settings, Verdict};
pub use captured::{bind_captured, bind_captured_once};
pub use datagrams::{bind_datagrams, bind_datagrams_once};
pub use listen::{bind, bind_once, original_destination};
pub use worker::Worker;
