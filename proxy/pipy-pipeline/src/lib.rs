//! Pipelines: the events that travel, the filters that they pass, and the graph that carries them.
//!
//! ```text
//!   socket ──► filter 0 ──► filter 1 ──► … ──► filter n ──► socket or nothing
//!          ◄──          ◄──          ◄── … ◄──          ◄──
//!               input goes right, towards the upstream; output comes back left
//! ```
//!
//! A *pipeline* is a row of [`Filter`]s. [`Event`]s enter at an end, each filter does with them what it likes and sends
//! on what it likes, to the right with [`Cx::forward`], to the left with [`Cx::back`]. The ends of a pipeline are a socket,
//! another pipeline's filter (then this one is a *sub-pipeline*: one per request below an HTTP server, one per upstream
//! session below a load balancer), or nothing.
//!
//! A row of filters may also be one-directional, as scripts write them: its right end is [`End::Turn`], and what leaves
//! there leaves at the left end as the row's output, past the filters.
//!
//! Back-pressure is an event too: [`Event::Pause`] travels from the side that can't take more to the side that produces.
//!
//! The graph does no IO and reads no clock. The worker feeds it what sockets gave, lets it [`run`](Graph::run), and
//! carries out the [`Op`]s that it asks for; a test does the same with a script. INVARIANT: an event sent is delivered
//! after the filter that sent it has returned, in the order of sending; filters never call each other.

#![forbid(unsafe_code)]

mod event;
mod filter;
mod graph;
mod port;
mod socket_limits;
mod timers;

pub use event::{CloseReason, Custom, Event, Head};
pub use filter::{Cx, Filter};
pub use graph::{
    ConnectTo, Dir, End, Graph, NetlinkAddress, NetlinkTo, Op, PipelineId, Side, Slot, SocketId, Waker,
};
pub use port::Port;
pub use socket_limits::SocketLimits;
pub use timers::{TimerId, Timers};
