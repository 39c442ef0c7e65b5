//! The sidecar.
//!
//! [`Plan`] is a configuration made ready; [`decide`] answers what becomes of a connection or request, purely; the stages
//! carry the answer out; [`Sidecar`] is what a worker runs.

#![forbid(unsafe_code)]

mod callers;
pub mod decide;
mod exchange;
pub mod explain;
mod front;
mod outbound_table;
mod outlets;
mod pages;
mod plan;
pub mod probes;
mod runtime;
mod sidecar;
mod sniff;
mod stages;
mod tcp;
mod udp;

pub use outbound_table::OutboundTable;
pub use pages::{Page, Pages};
pub use runtime::{script_id, try_plugin};
pub use sidecar::{PROBE_LISTENERS, Sidecar, Update, listener};
pub use stages::{unknown_stages, unknown_tcp_stages};

pub use plan::{
    Allowed, ClusterPlan, HostPlan, HostTable, InboundMatch, LimitPlan, Outbound, OutboundMatch, PathPlan,
    Plan, RoutePlan, Target, Targets, TcpPlan, TlsTable,
};
