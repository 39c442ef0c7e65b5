//! An endpoint at work in one worker: its connections, its load, its settings for TLS.
//!
//! It outlives the plan that named it first, as long as plans name it again; one that no plan names is *retired*: requests
//! in flight finish, and no connection to it is kept.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pipy_filters::{HttpVersion, Session};
use pipy_pipeline::PipelineId;
use pipy_tls::{Credentials, TlsError};
use pipy_upstream::{Health, HealthResult};
use rustls::ClientConfig;

use super::cluster::Cluster;
use super::outside::Outside;

/// LIMIT: idle connections kept per endpoint and worker. What fits a thousand concurrent clients; more would only hold
/// memory at both ends.
const IDLE_MAX: usize = 1024;

/// Which connections can stand in for each other: same address, same identity.
pub(crate) type EndpointKey = (SocketAddr, Option<String>);

/// See the module.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<String>,
    /// How it is spoken to in TLS although it has no identity.
    pub(crate) outside: Option<Rc<Outside>>,
    /// Exclusive sessions that are idle.
    idle: RefCell<Vec<Rc<Session>>>,
    /// Multiplexed sessions, all the time.
    shared: RefCell<Vec<Rc<Session>>>,
    /// It was asked for HTTP/2 and did not agree.
    pub(crate) only_http1: Rc<Cell<bool>>,
    /// Settings towards this endpoint, and the generation of credentials that they were made of.
    tls: RefCell<Option<(u64, Arc<ClientConfig>)>>,
    retired: Cell<bool>,
    /// Requests that it has in hand.
    pub(crate) requests: Cell<u32>,
    pub(crate) health: RefCell<Health>,
}

impl Endpoint {
    pub(crate) fn new(key: &EndpointKey) -> Rc<Self> {
        Endpoint::outside(key, None)
    }

    /// One that is spoken to in TLS outside of the mesh, if that is wanted.
    pub(crate) fn outside(key: &EndpointKey, outside: Option<&Rc<Outside>>) -> Rc<Self> {
        Rc::new(Endpoint {
            address: key.0,
            identity: key.1.clone(),
            outside: outside.cloned(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            only_http1: Rc::default(),
            tls: RefCell::default(),
            retired: Cell::new(false),
            requests: Cell::new(0),
            health: RefCell::default(),
        })
    }

    pub(crate) fn key(&self) -> EndpointKey {
        (self.address, self.identity.clone())
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.health.borrow().is_ejected()
    }

    /// Whether a session has room.
    pub(crate) fn has_room(&self) -> bool {
        let room = |sessions: &RefCell<Vec<Rc<Session>>>| sessions.borrow().iter().any(|s| s.has_room());
        room(&self.idle) || room(&self.shared)
    }

    /// Whether requests share a connection to it at this moment.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.borrow().iter().any(|session| session.active() > 0)
    }

    /// A request goes to it; it counts as long as what is returned lives.
    pub(crate) fn request(self: &Rc<Self>, now: Instant) -> InHand {
        self.requests.set(self.requests.get() + 1);
        self.health.borrow_mut().begin(now);
        InHand { endpoint: Rc::clone(self), reported: Cell::new(false) }
    }

    /// A session of that version with room, the one used last: it is the likeliest to be still there.
    pub(crate) fn take(&self, version: HttpVersion) -> Option<Rc<Session>> {
        match version {
            HttpVersion::Http1 => {
                let mut idle = self.idle.borrow_mut();
                std::iter::from_fn(|| idle.pop()).find(|session| session.has_room())
            }
            HttpVersion::Http2 => {
                let mut shared = self.shared.borrow_mut();
                // One that is merely full has room again later.
                shared.retain(|session| session.reusable());
                shared.iter().rfind(|session| session.has_room()).cloned()
            }
        }
    }

    /// Keeps a session for further requests: an exclusive one when it was let go, a multiplexed one from the start. False
    /// when there are enough, or the endpoint is no longer wanted.
    pub(crate) fn keep(&self, session: &Rc<Session>) -> bool {
        if self.retired.get() {
            session.retire();
            return false;
        }
        let place = if session.is_multiplexed() { &self.shared } else { &self.idle };
        let mut sessions = place.borrow_mut();
        if sessions.len() >= IDLE_MAX {
            sessions.retain(|session| session.reusable());
        }
        let room = sessions.len() < IDLE_MAX;
        if room {
            sessions.push(Rc::clone(session));
        }
        room
    }

    /// No plan names it any more. Returns the connections that carry nothing and can be closed.
    pub(crate) fn retire(&self) -> Vec<PipelineId> {
        self.retired.set(true);
        let sessions = [self.idle.take(), self.shared.take()].concat();
        sessions.iter().for_each(|session| session.retire());
        sessions.iter().filter(|session| session.active() == 0).filter_map(|s| s.pipeline()).collect()
    }

    /// TLS settings that accept only this endpoint's identity.
    pub(crate) fn client_config(
        &self,
        identity: &str,
        generation: u64,
        credentials: &Credentials,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let mut cached = self.tls.borrow_mut();
        if let Some((made_of, config)) = &*cached
            && *made_of == generation
        {
            return Ok(Arc::clone(config));
        }
        let config = credentials.client(identity)?;
        *cached = Some((generation, Arc::clone(&config)));
        Ok(config)
    }
}

/// Counts a request at an endpoint as long as it lives.
pub(crate) struct InHand {
    pub(crate) endpoint: Rc<Endpoint>,
    /// How it went was told: else nothing is known of the endpoint by it.
    reported: Cell<bool>,
}

impl InHand {
    /// How it went; told once.
    pub(crate) fn report(&self, cluster: &Cluster, result: HealthResult, now: Instant) {
        if !self.reported.replace(true) {
            cluster.report(&self.endpoint, result, now);
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let requests = &self.endpoint.requests;
        requests.set(requests.get().saturating_sub(1));
        if !self.reported.get() {
            self.endpoint.health.borrow_mut().abandon();
        }
    }
}
