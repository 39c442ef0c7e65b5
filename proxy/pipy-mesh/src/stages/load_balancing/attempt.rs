//! One try: the way to an endpoint that is taken for a request, and how it ends.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_filters::Lease;
use pipy_observe::ClusterCounters;
use pipy_pipeline::{CloseReason, Cx, Event};
use pipy_upstream::HealthResult;

use super::open::{self, Keeping, Upstream, also, source};
use super::{Found, LoadBalancing, TIMER_LINE, TIMER_TRY, WAKE};
use crate::runtime::{Cluster, InHand, Load};
use crate::stages::default::respond;

/// A connection in use for one request.
pub(super) struct Attempt {
    pub(super) lease: Lease,
    pub(super) load: Rc<Load>,
    pub(super) in_hand: InHand,
    /// The endpoint's position in its cluster.
    pub(super) position: usize,
    /// The connection was made for it.
    pub(super) fresh: bool,
    pub(super) request_done: bool,
    pub(super) response_begun: bool,
    pub(super) response_done: bool,
    /// The endpoint's side can't take more.
    pub(super) paused: bool,
    /// In a tunnel: which of the two has finished.
    pub(super) client_finished: bool,
    pub(super) server_finished: bool,
}

impl Attempt {
    pub(super) fn counters(&self) -> &ClusterCounters {
        &self.load.counters
    }

    /// How it went with the endpoint; told once.
    pub(super) fn report(&self, cluster: &Cluster, result: HealthResult, now: Instant) {
        self.in_hand.report(cluster, result, now);
    }

    /// Both messages were complete.
    pub(super) fn release(self, cx: &mut Cx<'_>) {
        self.count_bytes();
        let keep = !self.paused && !cx.draining();
        if let Some(session) = self.lease.release(cx, keep) {
            if !self.in_hand.endpoint.keep(&session)
                && let Some(pipeline) = session.pipeline()
            {
                cx.close(pipeline);
            }
            self.load.wake_next();
        } else {
            // A stream of a connection that carries many has become free.
            self.load.wake_next();
        }
    }

    /// Ends it in the middle.
    pub(super) fn give_up(self, cx: &mut Cx<'_>) {
        self.count_bytes();
        self.lease.abort(cx);
    }

    /// Ends it; what was said last still reaches the server.
    pub(super) fn close(self, cx: &mut Cx<'_>) {
        self.count_bytes();
        self.lease.close(cx);
    }

    fn count_bytes(&self) {
        let (sent, received) = self.lease.session().take_bytes();
        self.load.counters.cx_tx_bytes.add(sent);
        self.load.counters.cx_rx_bytes.add(received);
    }
}

impl LoadBalancing {
    /// Finds an endpoint and a connection for the request, or a place in line; `woken`: it comes from there.
    pub(super) fn find(&mut self, cx: &mut Cx<'_>, woken: bool) -> Found {
        let exchange = Rc::clone(&self.exchange);
        loop {
            let Some((position, cluster)) = exchange.cluster() else { return Found::Nothing };
            let chosen = cluster.chosen(&exchange.connection.accepted);
            let picked = match &chosen {
                Some(endpoint) => self.tried.is_empty().then_some((0, endpoint)),
                None => {
                    let mut dice = exchange.runtime.dice.borrow_mut();
                    let ipv6 = exchange.connection.accepted.destination.is_ipv6();
                    cluster.pick(self.key, &self.tried, ipv6, cx.now(), &mut dice)
                }
            };
            let Some((mut place, mut endpoint)) = picked else {
                if self.next_cluster(position) {
                    continue;
                }
                return Found::Nothing;
            };
            let mut version = self.version(cluster, endpoint);
            let mut session = endpoint.take(version);
            if session.is_none() && !cluster.load.may_connect() {
                match cluster.with_idle(&self.tried) {
                    Some((other, idle)) => {
                        (place, endpoint) = (other, idle);
                        version = self.version(cluster, endpoint);
                        session = idle.take(version);
                    }
                    None => {
                        self.line_up(cx, cluster, woken);
                        return Found::Done;
                    }
                }
            }
            self.waiting = false;
            let mut facts = exchange.facts.borrow_mut();
            facts.upstream = Some(endpoint.address);
            facts.upstream_identity.clone_from(&endpoint.identity);
            drop(facts);
            let fresh = session.is_none();
            let session = session.or_else(|| {
                let config = &exchange.runtime.plan.clusters.get(position)?.config;
                let connection = &exchange.connection;
                let upstream = Upstream {
                    address: endpoint.address,
                    source: source(connection.direction, endpoint.address, &connection.accepted),
                    also: also(connection.direction, endpoint.address),
                    timeout: Duration::from_millis(config.connect_timeout_ms),
                    handshake: Duration::from_millis(exchange.runtime.plan.timeouts.handshake_ms),
                };
                let keeping = Keeping {
                    load: &cluster.load,
                    idle: Duration::from_millis(config.idle_timeout_ms),
                    age: exchange.runtime.age(config.limits.connection_age_ms),
                    streams_max: config.limits.streams_max,
                };
                let session = open::open_session(cx, &exchange, endpoint, &upstream, &keeping, version)?;
                session.set_requests_max(cluster.load.requests_per_connection_max());
                Some(session)
            });
            let Some(session) = session else {
                exchange.failure.set(Some(CloseReason::TlsFailed));
                self.kept = None;
                respond(cx, 502, "no credentials to reach the upstream with");
                return Found::Done;
            };
            self.tries = self.tries.wrapping_add(1);
            if let Some(lease) = Lease::take(&session, cx, self.tries) {
                let in_hand = endpoint.request(cx.now());
                self.begin(
                    cx,
                    cluster,
                    Attempt {
                        lease,
                        load: Rc::clone(&cluster.load),
                        in_hand,
                        position: place,
                        fresh,
                        request_done: false,
                        response_begun: false,
                        response_done: false,
                        paused: false,
                        client_finished: false,
                        server_finished: false,
                    },
                );
            }
            return Found::Done;
        }
    }

    /// A spare cluster, when the one before has no endpoint left.
    fn next_cluster(&mut self, position: usize) -> bool {
        let exchange = &self.exchange;
        self.failed.push(position);
        let mut facts = exchange.facts.borrow_mut();
        let Some(route) = facts.route.clone() else { return false };
        let Some(target) = exchange.runtime.failover(&route.targets, &self.failed) else { return false };
        facts.cluster = Some(target.cluster);
        facts.split_by.clone_from(&target.origin);
        self.tried.clear();
        true
    }

    fn begin(&mut self, cx: &mut Cx<'_>, cluster: &Cluster, mut attempt: Attempt) {
        let Some(kept) = &mut self.kept else { return attempt.give_up(cx) };
        let Some(head) = kept.head.take() else { return attempt.give_up(cx) };
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        // WHY only with a policy: it costs a copy, and without one an answer is never waited for before the head may go.
        if cluster.retry.is_some() && kept.is_whole(false) {
            kept.head = Some(head.clone());
        }
        if self.congested {
            attempt.lease.send(cx, Event::Pause);
        }
        attempt.request_done = kept.has_ended();
        kept.send(cx, &attempt.lease, head);
        if std::mem::take(&mut self.held) {
            cx.back(Event::Resume);
        }
        if let Some(limit) = self.per_try() {
            self.timer = Some(cx.timer(limit, TIMER_TRY));
        }
        self.current = Some(attempt);
    }

    fn per_try(&self) -> Option<Duration> {
        let (position, _) = self.exchange.cluster()?;
        let retry = self.exchange.runtime.plan.clusters.get(position)?.config.retry.as_ref()?;
        (retry.per_try_timeout_ms > 0).then(|| Duration::from_millis(retry.per_try_timeout_ms))
    }

    /// Gets in line for a connection of the cluster, for as long as making one might take.
    fn line_up(&mut self, cx: &mut Cx<'_>, cluster: &Cluster, woken: bool) {
        let waker = cx.waker(WAKE);
        if woken && self.waiting {
            return cluster.load.wait_again(waker);
        }
        if !cluster.load.wait(waker) {
            cluster.load.counters.rq_pending_overflow.inc();
            return self.overflow(cx, "upstream overflow: too many requests wait for a connection");
        }
        cluster.load.counters.cx_overflow.inc();
        self.waiting = true;
        let plan = self.exchange.cluster().and_then(|(p, _)| self.exchange.runtime.plan.clusters.get(p));
        let limit = plan.map_or(0, |plan| plan.config.connect_timeout_ms);
        if limit > 0 {
            self.timer = Some(cx.timer(Duration::from_millis(limit), TIMER_LINE));
        }
    }
}
