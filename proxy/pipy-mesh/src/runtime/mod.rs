//! A plan at work in one worker: balancers, endpoints with their connections, limits, counters. Replaced with the plan.
//!
//! What has grown while running outlives the plan where the next one has the same: rounds that were begun are ended,
//! connections stay, ejections and open breakers too, buckets are as full as they were, requests in flight go on to count.
//! What only the old plan names is retired: see [`Runtime::retire`].

mod cluster;
mod dialled;
mod endpoint;
mod load;
mod outside;

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use pipy_observe::WorkerMetrics;
use pipy_pipeline::PipelineId;
use pipy_script::log;
use pipy_script::plugin::{Plugins, Source};
use pipy_upstream::{Dice, Rate, RoundRobin, TokenBucket, hash};

use crate::plan::{ClusterPlan, LimitPlan, Plan, Target, Targets};
use crate::stages::{Chain, Need, Step, TcpStep, built_in_names};

pub(crate) use cluster::Cluster;
pub(crate) use endpoint::{Endpoint, EndpointKey, InHand};
pub(crate) use load::{Active, InFlight, Load, Retrying, Wakers};
use outside::Outside;

/// A plan at work.
pub(crate) struct Runtime {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) inbound_http: Vec<Step>,
    pub(crate) outbound_http: Vec<Step>,
    /// Plugins only: the built-in stages are one filter.
    pub(crate) inbound_tcp: Vec<TcpStep>,
    pub(crate) outbound_tcp: Vec<TcpStep>,
    /// Absent where the chains have none: then there is no script engine either.
    pub(crate) plugins: Option<Rc<Plugins>>,
    /// What `fsm-stats` says of us: namespace, kind, ServiceAccount, pod. Empty without a workload.
    pub(crate) stats_header: String,
    pub(crate) wakers: Wakers,
    pub(crate) dice: Rc<RefCell<Dice>>,
    /// By the keys of rules and limits.
    balancers: Rc<RefCell<HashMap<u64, RoundRobin>>>,
    buckets: Rc<RefCell<HashMap<u64, TokenBucket>>>,
}

/// What the dice of a worker begin with: not the same in each, or all proxies would pick alike.
fn seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// The plugins of a plan, loaded; those at work where they are the same.
fn plugins(plan: &Plan, before: Option<&Runtime>) -> Option<Rc<Plugins>> {
    if plan.plugins.is_empty() {
        return None;
    }
    if let Some(same) = before.and_then(|before| before.plugins.as_ref())
        && same.sources == plan.plugins
    {
        return Some(Rc::clone(same));
    }
    match Plugins::load(&plan.plugins, &built_in_names()) {
        Ok(plugins) => Some(plugins),
        Err(error) => {
            // The main thread has loaded them before; what differs here is the state of the world.
            log::line("ERR", &format!("the plugins do not load on this worker: {error}"));
            None
        }
    }
}

/// Tries a plugin out, among the built-in stages. Returns what is doubtful in it.
///
/// # Errors
/// When it does not load: why, with file, line and column.
pub fn try_plugin(name: &str, script: &str) -> Result<Vec<String>, String> {
    let source = Source { name: name.to_owned(), script: script.into() };
    let tried = Plugins::doubted(&[source], &built_in_names());
    tried.map(|(_, doubts)| doubts).map_err(|error| error.to_string())
}

/// What tells a plugin's script from others.
pub fn script_id(script: &str) -> u64 {
    hash(script.as_bytes())
}

impl Plan {
    /// Whether the plugins load.
    ///
    /// # Errors
    /// Which does not, and where.
    pub fn check_plugins(&self) -> Result<(), String> {
        if self.plugins.is_empty() {
            return Ok(());
        }
        Plugins::load(&self.plugins, &built_in_names()).map(drop).map_err(|error| error.to_string())
    }
}

impl Runtime {
    pub(crate) fn new(plan: Arc<Plan>, before: Option<&Runtime>, metrics: &WorkerMetrics) -> Self {
        let earlier: HashMap<&str, &Cluster> = before
            .iter()
            .flat_map(|runtime| runtime.plan.clusters.iter().zip(&runtime.clusters))
            .map(|(plan, cluster)| (&*plan.name, cluster))
            .collect();
        let (wakers, dice, balancers, buckets) = match before {
            Some(before) => (
                Rc::clone(&before.wakers),
                Rc::clone(&before.dice),
                Rc::clone(&before.balancers),
                Rc::clone(&before.buckets),
            ),
            None => {
                let dice = Rc::new(RefCell::new(Dice::new(seed())));
                (Wakers::default(), dice, Rc::default(), Rc::default())
            }
        };
        balancers.borrow_mut().retain(|key, _| plan.balancers.contains(key));
        buckets.borrow_mut().retain(|key, _| plan.limits.contains(key));
        let names: Vec<&str> = plan.clusters.iter().map(ClusterPlan::counted_as).collect();
        metrics.set_clusters(&names);
        let clusters = plan
            .clusters
            .iter()
            .map(|cluster| {
                let before = earlier.get(&*cluster.name).copied();
                let originate = cluster.originate.as_ref();
                let outside = originate.map(Outside::new);
                let mut known: HashMap<EndpointKey, Rc<Endpoint>> = before
                    .filter(|before| before.speaks(originate))
                    .iter()
                    .flat_map(|cluster| &cluster.endpoints)
                    .map(|endpoint| (endpoint.key(), Rc::clone(endpoint)))
                    .collect();
                let endpoints = cluster.config.endpoints.iter().map(|endpoint| {
                    let key = (endpoint.address, endpoint.identity.clone());
                    let fresh = |key: &EndpointKey| Endpoint::outside(key, outside.as_ref());
                    Rc::clone(known.entry(key).or_insert_with_key(fresh))
                });
                let endpoints = endpoints.collect();
                let load = match before {
                    Some(before) => Rc::clone(&before.load),
                    None => Load::new(metrics.cluster(cluster.counted_as()), &wakers),
                };
                Cluster::new(&cluster.config, outside, endpoints, load, before)
            })
            .collect();
        let workload = &plan.workload;
        let stats_header = match workload.pod.as_str() {
            "" => String::new(),
            pod => format!("{},{},{},{pod}", workload.namespace, workload.kind, workload.service_account),
        };
        let plugins = plugins(&plan, before);
        let position = |name: &str| plugins.as_ref()?.position(name);
        let limited = !plan.limits.is_empty();
        let tracing = plan.telemetry.tracing.is_some();
        let breaking = plan.clusters.iter().any(|cluster| cluster.config.circuit_breaker.is_some());
        // WHY: a stage that no rule asks for would cost every request something.
        let wanted = |need| match need {
            Need::Always => true,
            Need::Limits => limited,
            Need::Breakers => breaking,
            Need::Tracing => tracing,
        };
        Runtime {
            stats_header,
            clusters,
            inbound_http: Chain::InboundHttp.stages(&plan.chains.inbound_http, wanted, position),
            outbound_http: Chain::OutboundHttp.stages(&plan.chains.outbound_http, wanted, position),
            inbound_tcp: TcpStep::of(&plan.chains.inbound_tcp, position),
            outbound_tcp: TcpStep::of(&plan.chains.outbound_tcp, position),
            plugins,
            wakers,
            dice,
            balancers,
            buckets,
            plan,
        }
    }

    /// Whose turn it is among a rule's targets.
    pub(crate) fn target<'t>(&self, targets: &'t Targets) -> Option<&'t Target> {
        if let [only] = targets.clusters.as_slice() {
            return Some(only);
        }
        let fresh = || RoundRobin::new(targets.clusters.iter().map(|target| target.weight));
        let mut balancers = self.balancers.borrow_mut();
        let position = balancers.entry(targets.key).or_insert_with(fresh).pick()?;
        targets.clusters.get(position)
    }

    /// A target of weight 0, for when those before it have failed; `failed` are their clusters.
    pub(crate) fn failover<'t>(&self, targets: &'t Targets, failed: &[usize]) -> Option<&'t Target> {
        // Where all are 0, all are picked in turn anyway.
        let spare = targets.clusters.iter().any(|target| target.weight > 0);
        let mut all = targets.clusters.iter().filter(|target| spare && target.weight == 0);
        all.find(|target| !failed.contains(&target.cluster))
    }

    /// Whether a rule lets another one in; counts it.
    pub(crate) fn lets_in(&self, limit: &LimitPlan, now: Instant) -> bool {
        let rate = Rate {
            amount: limit.config.amount,
            window: Duration::from_millis(limit.config.window_ms),
            burst: limit.config.burst,
        };
        self.buckets.borrow_mut().entry(limit.key).or_insert_with(|| TokenBucket::new(rate)).take(now)
    }

    /// The plan after this one is at work: endpoints that only this one names take no more requests. Returns the connections
    /// that carry nothing and can be closed.
    pub(crate) fn retire(&self, next: &Runtime) -> Vec<PipelineId> {
        let wanted: HashSet<*const Endpoint> =
            next.clusters.iter().flat_map(|c| &c.endpoints).map(Rc::as_ptr).collect();
        let endpoints = self.clusters.iter().flat_map(|c| &c.endpoints);
        let mut idle: Vec<PipelineId> =
            endpoints.filter(|e| !wanted.contains(&Rc::as_ptr(e))).flat_map(|e| e.retire()).collect();
        let going_on: Vec<_> =
            next.clusters.iter().filter_map(|c| c.dialled.as_ref()).map(Rc::as_ptr).collect();
        let dialled = self.clusters.iter().filter_map(|c| c.dialled.as_ref());
        idle.extend(dialled.filter(|d| !going_on.contains(&Rc::as_ptr(d))).flat_map(|d| d.retire()));
        idle
    }

    /// How old a connection may become: more or less a tenth, so that those that began together do not all end together.
    pub(crate) fn age(&self, ms: u64) -> Duration {
        let fifth = self.dice.borrow_mut().below(ms / 5 + 1);
        Duration::from_millis(ms - ms / 10 + fifth)
    }

    pub(crate) fn cluster(&self, position: usize) -> Option<&Cluster> {
        self.clusters.get(position)
    }
}
