//! A plan at work in one worker: balancers, endpoints with their idle connections, counters. Replaced with the plan;
//! endpoints that the new plan has too are carried over, with their connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pipy_filters::Session;
use pipy_observe::{ClusterCounters, WorkerMetrics};
use pipy_tls::{Credentials, TlsError};
use pipy_upstream::RoundRobin;
use rustls::ClientConfig;

use crate::plan::{Plan, Target, Targets};
use crate::stages::{Chain, Stage};

/// LIMIT: idle connections kept per endpoint and worker. What fits a thousand concurrent clients; more would only hold
/// memory at both ends.
const IDLE_MAX: usize = 1024;

/// A plan at work.
pub(crate) struct Runtime {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) inbound_http: Vec<Stage>,
    pub(crate) outbound_http: Vec<Stage>,
    /// What `fsm-stats` says of us: namespace, kind, ServiceAccount, pod. Empty without a workload.
    pub(crate) stats_header: String,
    balancers: Vec<RefCell<Option<RoundRobin>>>,
}

/// A cluster at work.
pub(crate) struct Cluster {
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    pub(crate) counters: Arc<ClusterCounters>,
    balancer: RefCell<RoundRobin>,
}

/// Which connections can stand in for each other: same address, same identity.
pub(crate) type EndpointKey = (SocketAddr, Option<String>);

/// An endpoint at work.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<String>,
    idle: RefCell<Vec<Rc<Session>>>,
    /// Settings towards this endpoint, and the generation of credentials that they were made of.
    tls: RefCell<Option<(u64, Arc<ClientConfig>)>>,
}

impl Runtime {
    pub(crate) fn new(plan: Arc<Plan>, before: Option<&Runtime>, metrics: &WorkerMetrics) -> Self {
        let mut known: HashMap<EndpointKey, Rc<Endpoint>> = HashMap::new();
        for endpoint in before.iter().flat_map(|runtime| &runtime.clusters).flat_map(|c| &c.endpoints) {
            known.insert(endpoint.key(), Rc::clone(endpoint));
        }
        let names: Vec<&str> = plan.clusters.iter().map(|cluster| &*cluster.name).collect();
        metrics.set_clusters(&names);
        let clusters = plan
            .clusters
            .iter()
            .map(|cluster| {
                let endpoints = &cluster.config.endpoints;
                Cluster {
                    counters: metrics.cluster(&cluster.name),
                    balancer: RefCell::new(RoundRobin::new(endpoints.iter().map(|endpoint| endpoint.weight))),
                    endpoints: endpoints
                        .iter()
                        .map(|endpoint| {
                            let key = (endpoint.address, endpoint.identity.clone());
                            Rc::clone(known.entry(key).or_insert_with_key(Endpoint::new))
                        })
                        .collect(),
                }
            })
            .collect();
        let workload = &plan.workload;
        let stats_header = match workload.pod.as_str() {
            "" => String::new(),
            pod => format!("{},{},{},{pod}", workload.namespace, workload.kind, workload.service_account),
        };
        Runtime {
            stats_header,
            clusters,
            inbound_http: Chain::InboundHttp.stages(&plan.chains.inbound_http),
            outbound_http: Chain::OutboundHttp.stages(&plan.chains.outbound_http),
            balancers: (0..plan.targets).map(|_| RefCell::new(None)).collect(),
            plan,
        }
    }

    /// Whose turn it is among a rule's targets.
    pub(crate) fn target<'t>(&self, targets: &'t Targets) -> Option<&'t Target> {
        if let [only] = targets.clusters.as_slice() {
            return Some(only);
        }
        let mut place = self.balancers.get(targets.id)?.borrow_mut();
        let balancer =
            place.get_or_insert_with(|| RoundRobin::new(targets.clusters.iter().map(|target| target.weight)));
        targets.clusters.get(balancer.pick()?)
    }

    pub(crate) fn cluster(&self, position: usize) -> Option<&Cluster> {
        self.clusters.get(position)
    }
}

impl Cluster {
    /// Whose turn it is among the endpoints.
    pub(crate) fn endpoint(&self) -> Option<&Rc<Endpoint>> {
        self.endpoints.get(self.balancer.borrow_mut().pick()?)
    }
}

impl Endpoint {
    pub(crate) fn new(key: &EndpointKey) -> Rc<Self> {
        Rc::new(Endpoint {
            address: key.0,
            identity: key.1.clone(),
            idle: RefCell::default(),
            tls: RefCell::default(),
        })
    }

    fn key(&self) -> EndpointKey {
        (self.address, self.identity.clone())
    }

    /// An idle connection, the one used last: it is the likeliest to be still there.
    pub(crate) fn take_idle(&self) -> Option<Rc<Session>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(session) = idle.pop() {
            if session.reusable() {
                session.set_idle(None);
                return Some(session);
            }
        }
        None
    }

    /// Keeps a connection for the next request; false when there are enough.
    pub(crate) fn keep_idle(&self, session: &Rc<Session>, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_MAX {
            idle.retain(|session| session.reusable());
        }
        let room = idle.len() < IDLE_MAX;
        if room {
            session.set_idle(Some(now));
            idle.push(Rc::clone(session));
        }
        room
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
