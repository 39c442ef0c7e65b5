//! A cluster at work in one worker: its endpoints, whose turn it is, and how they do.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipy_config as config;
use pipy_config::{BalancingPolicy, ClusterKind};
use pipy_upstream::{
    Balancer, Breaker, BreakerPolicy, Candidate, Dice, HealthPolicy, HealthResult, Policy, RetryPolicy,
    Standing, StatusRange, ejected_max, hash,
};
use pipy_worker::Accepted;

use super::dialled::Dialled;
use super::endpoint::Endpoint;
use super::load::Load;
use super::outside::Outside;

/// See the module.
pub(crate) struct Cluster {
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    /// How its servers outside of the mesh are spoken to in TLS, if that is wanted.
    outside: Option<Rc<Outside>>,
    /// Where the address that a client dialled is the endpoint: those of late.
    pub(crate) dialled: Option<Rc<Dialled>>,
    pub(crate) load: Rc<Load>,
    pub(crate) retry: Option<RetryPolicy>,
    balancer: RefCell<Balancer>,
    /// For clients that come over IPv6, where there are endpoints of both families.
    balancer6: Option<RefCell<Balancer>>,
    health: HealthPolicy,
    ejected_percent_max: u32,
}

impl Cluster {
    pub(crate) fn new(
        config: &config::Cluster,
        outside: Option<Rc<Outside>>,
        endpoints: Vec<Rc<Endpoint>>,
        load: Rc<Load>,
        before: Option<&Cluster>,
    ) -> Self {
        let policy = match config.balancing.policy {
            BalancingPolicy::RoundRobin => Policy::RoundRobin,
            BalancingPolicy::LeastWork => Policy::LeastWork,
            BalancingPolicy::Hash => Policy::Hash,
        };
        // A Pod with addresses of both families stands there twice: the other one is for when the first has failed.
        let candidates = |ipv6: bool| {
            let candidate = |endpoint: &config::Endpoint| Candidate {
                weight: endpoint.weight,
                priority: match endpoint.address.is_ipv6() == ipv6 {
                    true => endpoint.priority,
                    false => endpoint.priority.saturating_add(OTHER_FAMILY),
                },
                name: hash(endpoint.address.to_string().as_bytes()),
            };
            config.endpoints.iter().map(candidate).collect()
        };
        let mut balancer = Balancer::new(policy, candidates(false));
        let has = |ipv6: bool| config.endpoints.iter().any(|endpoint| endpoint.address.is_ipv6() == ipv6);
        let mut balancer6 = (has(true) && has(false)).then(|| Balancer::new(policy, candidates(true)));
        if let Some(before) = before {
            balancer.go_on(&before.balancer.borrow());
            if let (Some(now), Some(before)) = (&mut balancer6, &before.balancer6) {
                now.go_on(&before.borrow());
            }
        }
        load.set_limits(&config.limits);
        let breaker = config.circuit_breaker.as_ref().map(breaker);
        let mut place = load.breaker.borrow_mut();
        if place.as_ref().map(|known| *known.policy()) != breaker {
            if place.as_ref().is_some_and(Breaker::has_opened) {
                load.counters.breaker_open.dec();
            }
            *place = breaker.map(Breaker::new);
        }
        drop(place);
        let known = before.filter(|before| before.speaks(outside.as_ref().map(|outside| &outside.config)));
        let dialled = (config.kind == ClusterKind::OriginalDestination).then(|| {
            let same = known.and_then(|before| before.dialled.clone());
            same.unwrap_or_else(|| Rc::new(Dialled::new(outside.clone())))
        });
        Cluster {
            endpoints,
            outside,
            dialled,
            load,
            retry: config.retry.as_ref().map(retry),
            balancer: RefCell::new(balancer),
            balancer6: balancer6.map(RefCell::new),
            health: health(&config.health),
            ejected_percent_max: config.health.ejected_percent_max,
        }
    }

    /// Whether its endpoints are spoken to as is wanted now: else connections that are kept must not be used.
    pub(crate) fn speaks(&self, originate: Option<&Arc<config::Originate>>) -> bool {
        self.outside.as_ref().map(|outside| &outside.config) == originate
    }

    /// The endpoint for a request that was tried at others before. Those that are well come first, of these the ones of the
    /// client's address family; if none is, any that was not tried. `None` when all were.
    pub(crate) fn pick(
        &self,
        key: Option<u64>,
        tried: &[usize],
        ipv6: bool,
        now: Instant,
        dice: &mut Dice,
    ) -> Option<(usize, &Rc<Endpoint>)> {
        let work = |position: usize| self.endpoints.get(position).map_or(0, |e| e.requests.get());
        let untried = |position: usize| !tried.contains(&position);
        let well = |position: usize| {
            let endpoint = self.endpoints.get(position);
            endpoint.is_some_and(|e| e.health.borrow().standing(now) != Standing::Ejected)
        };
        let mut balancer = self.balancer6.as_ref().filter(|_| ipv6).unwrap_or(&self.balancer).borrow_mut();
        let position = match balancer.pick(key, |p| untried(p) && well(p), work, dice) {
            Some(position) => position,
            None => balancer.pick(key, untried, work, dice)?,
        };
        Some((position, self.endpoints.get(position)?))
    }

    /// The endpoint that the client itself chose, where that is the cluster's kind.
    pub(crate) fn chosen(&self, accepted: &Accepted) -> Option<Rc<Endpoint>> {
        // A client that calls the listener itself would be connected to it again, without end.
        let dialled = self.dialled.as_ref().filter(|_| accepted.destination != accepted.local)?;
        Some(dialled.endpoint(accepted.destination))
    }

    /// An endpoint that has an idle connection, for when no other may be opened.
    pub(crate) fn with_idle(&self, tried: &[usize]) -> Option<(usize, &Rc<Endpoint>)> {
        let mut all = self.endpoints.iter().enumerate();
        all.find(|(position, endpoint)| !tried.contains(position) && endpoint.has_room())
    }

    /// How an exchange with one of the endpoints went.
    pub(crate) fn report(&self, endpoint: &Endpoint, result: HealthResult, now: Instant) {
        let may_eject = || {
            let ejected = self.endpoints.iter().filter(|e| e.is_ejected()).count();
            ejected < ejected_max(self.endpoints.len(), self.ejected_percent_max)
        };
        // WHY asked before: counting looks at the health of all, this one's too.
        let may_eject = result != HealthResult::Success && may_eject();
        if endpoint.health.borrow_mut().report(&self.health, result, now, || may_eject) {
            self.load.counters.ejections.inc();
        }
    }
}

/// Added to the priority of endpoints whose address family is not the client's. Above any priority in use.
const OTHER_FAMILY: u32 = 1 << 24;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn retry(config: &config::Retry) -> RetryPolicy {
    RetryPolicy {
        statuses: config.statuses.iter().map(|range| StatusRange(range.first, range.last)).collect(),
        connect_failure: config.connect_failure,
        reset: config.reset,
        retries_max: config.retries_max,
        backoff: ms(config.backoff_ms),
    }
}

fn breaker(config: &config::CircuitBreaker) -> BreakerPolicy {
    BreakerPolicy {
        window: ms(config.window_ms),
        requests_min: config.requests_min,
        open: ms(config.open_ms),
        slow: ms(config.slow_ms),
        slow_amount: config.slow_amount,
        slow_ratio: f64::from(config.slow_permille) / 1_000.0,
        error_amount: config.error_amount,
        error_ratio: f64::from(config.error_permille) / 1_000.0,
    }
}

fn health(config: &config::PassiveHealth) -> HealthPolicy {
    HealthPolicy {
        connect_failures: config.connect_failures,
        consecutive_failures: config.consecutive_failures,
        failure_percent: config.failure_percent,
        requests_min: config.requests_min,
        window: ms(config.window_ms),
        ejection: ms(config.ejection_ms),
        ejection_max: ms(config.ejection_max_ms),
    }
}
