//! A plan at work in one worker: balancers, endpoints with their idle connections, counters. Replaced with the plan;
//! endpoints that the new plan has too are carried over, with their connections.

mod endpoint;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use pipy_observe::{ClusterCounters, WorkerMetrics};
use pipy_pipeline::PipelineId;
use pipy_upstream::RoundRobin;

use crate::plan::{Plan, Target, Targets};
use crate::stages::{Chain, Stage};

pub(crate) use endpoint::{Endpoint, EndpointKey};

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

    /// The plan after this one is at work: endpoints that only this one names take no more requests. Returns the connections
    /// that carry nothing and can be closed.
    pub(crate) fn retire(&self, next: &Runtime) -> Vec<PipelineId> {
        let wanted: HashSet<*const Endpoint> =
            next.clusters.iter().flat_map(|c| &c.endpoints).map(Rc::as_ptr).collect();
        let endpoints = self.clusters.iter().flat_map(|c| &c.endpoints);
        endpoints.filter(|e| !wanted.contains(&Rc::as_ptr(e))).flat_map(|e| e.retire()).collect()
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
