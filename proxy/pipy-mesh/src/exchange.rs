//! What the stages of one request know together, and what one connection's requests know together.
//!
//! Stages write what they find out; the telemetry stages read it when the request is over. Scripts will see the same as
//! `__route`, `__service`, `__cluster`.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pipy_config::Protocol;
use pipy_filters::Peer;
use pipy_observe::Span;
use pipy_pipeline::CloseReason;
use pipy_worker::Accepted;

use crate::decide::{self, Caller, Proof, Refusal, SourcePlan};
use crate::plan::RoutePlan;
use crate::runtime::{Cluster, Runtime};
use crate::sidecar::Shared;

/// Which way a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// A connection from a client.
pub(crate) struct Connection {
    pub(crate) shared: Rc<Shared>,
    pub(crate) direction: Direction,
    pub(crate) accepted: Accepted,
    pub(crate) peer: Rc<Peer>,
    /// The rules that are for this client although it may be no member of the mesh.
    pub(crate) admitted: Vec<Arc<SourcePlan>>,
    pub(crate) id: u64,
    /// The TLS server that the client asks for, where its TLS is carried unopened.
    pub(crate) server_name: OnceCell<String>,
    /// TLS comes first.
    pub(crate) encrypted: Cell<bool>,
    /// What the client speaks, for the log.
    pub(crate) protocol: Cell<&'static str>,
}

impl Connection {
    /// Who is at the client's end, as far as decisions depend on it.
    pub(crate) fn caller(&self) -> Caller<'_> {
        let proof = Proof {
            encrypted: self.encrypted.get(),
            identity: self.peer.identity(),
            names: self.peer.names(),
            server_name: self.peer.server_name(),
        };
        decide::caller(&self.admitted, proof)
    }
}

/// A request, from its head to its end.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) started: Instant,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) status: Cell<u16>,
    /// What the server of gRPC said after the body.
    pub(crate) grpc_status: Cell<Option<u16>>,
    pub(crate) failure: Cell<Option<CloseReason>>,
    /// An answer is being waited for, or has begun and not ended.
    pub(crate) unfinished: Cell<bool>,
    pub(crate) refusal: Cell<Option<Refusal>>,
    /// Why the proxy answered for the upstream, where no failure says it.
    pub(crate) answered_by: Cell<Option<&'static str>>,
    /// Its place in a trace, where requests are traced.
    pub(crate) span: OnceCell<Span>,
    /// The variables of its plugins, once one of them has begun.
    pub(crate) script: OnceCell<pipy_script::Vars>,
    pub(crate) facts: RefCell<Facts>,
}

/// What was found out about a request.
#[derive(Default, Clone)]
pub(crate) struct Facts {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: Vec<u8>,
    pub(crate) request_id: Option<Vec<u8>>,
    /// The trace that it belongs to, and its span there, as headers have them.
    pub(crate) trace_id: Option<Vec<u8>>,
    pub(crate) span_id: Option<Vec<u8>>,
    /// What the port that was asked is said to speak.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) route: Option<Arc<RoutePlan>>,
    pub(crate) service: Option<Arc<str>>,
    pub(crate) origin: Option<Arc<str>>,
    pub(crate) allowed_by: Option<Arc<str>>,
    pub(crate) split_by: Option<Arc<str>>,
    pub(crate) cluster: Option<usize>,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) upstream_identity: Option<String>,
}

impl Exchange {
    pub(crate) fn new(connection: &Rc<Connection>, runtime: &Rc<Runtime>, now: Instant) -> Rc<Self> {
        Rc::new(Exchange {
            connection: Rc::clone(connection),
            runtime: Rc::clone(runtime),
            started: now,
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            status: Cell::new(0),
            grpc_status: Cell::new(None),
            failure: Cell::new(None),
            unfinished: Cell::new(false),
            refusal: Cell::new(None),
            answered_by: Cell::new(None),
            span: OnceCell::new(),
            script: OnceCell::new(),
            facts: RefCell::default(),
        })
    }

    /// Another request like this one, which a script makes of it: routed the same, and not sent anywhere yet.
    pub(crate) fn beside(&self) -> Rc<Self> {
        let beside = Exchange::new(&self.connection, &self.runtime, self.started);
        beside.refusal.set(self.refusal.get());
        let mut facts = self.facts.borrow().clone();
        (facts.cluster, facts.upstream, facts.upstream_identity) = (None, None, None);
        beside.facts.replace(facts);
        beside
    }

    /// The cluster that the request goes to, chosen when this is asked first. `None` without a route.
    pub(crate) fn cluster(&self) -> Option<(usize, &Cluster)> {
        let mut facts = self.facts.borrow_mut();
        let position = match facts.cluster {
            Some(position) => position,
            None => {
                let route = facts.route.clone()?;
                let target = self.runtime.target(&route.targets)?;
                facts.cluster = Some(target.cluster);
                facts.split_by = target.origin.clone();
                target.cluster
            }
        };
        Some((position, self.runtime.cluster(position)?))
    }
}
