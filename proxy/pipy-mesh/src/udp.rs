//! UDP: carries the datagrams of one session between a client and an endpoint, as they are.
//!
//! In: the datagrams of a peer to one destination, captured by the firewall. Out: the same to an endpoint, or to the
//! application; what comes back goes to the peer. A session has no beginning and no end of its own: it begins with its first
//! datagram and is over after a quiet minute.
//!
//! INVARIANT: each datagram is carried or dropped by the rules of now: another plan is asked again before the next one. One
//! that is not allowed is dropped without a word, as a network does; the session stays meanwhile, so that a flood is noted
//! once and not by the datagram.
//!
//! Not here: who is there is not proved, and nothing is encrypted (`docs/decisions`); the rules (`decide`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipy_observe::{Decision, Entry};
use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, PipelineId, Slot};
use pipy_upstream::HealthResult;
use pipy_worker::Accepted;

use crate::decide::{self, Caller, OutboundConnection, Refusal};
use crate::exchange::Direction;
use crate::plan::{Plan, TcpPlan};
use crate::runtime::{Active, Endpoint, InHand, Runtime};
use crate::sidecar::Shared;
use crate::stages::{of_address, source};

/// LIMIT: how long a session may be quiet. What Envoy takes; longer than most protocols wait for an answer.
const IDLE: Duration = Duration::from_secs(60);

/// LIMIT: the same while the proxy ends: an answer that is on its way still comes.
const IDLE_DRAINING: Duration = Duration::from_secs(1);

/// What the rules say about a session.
#[derive(Clone)]
enum Way {
    /// By a rule, let in by an object where one says so.
    Rule(Arc<TcpPlan>, Option<Arc<str>>),
    /// To where they were meant to go.
    Original,
    /// Nowhere; the object that says so, where there is one.
    Refused(Refusal, Option<Arc<str>>),
}

/// Where a session's datagrams go.
struct Upstream {
    pipeline: PipelineId,
    endpoint: Rc<Endpoint>,
    /// Of the cluster in the plan, and of the endpoint in the cluster.
    place: Option<(usize, usize)>,
    _active: Option<Active>,
    in_hand: Option<InHand>,
}

/// See the module.
pub(crate) struct UdpForward {
    shared: Rc<Shared>,
    direction: Direction,
    accepted: Accepted,
    id: u64,
    runtime: Rc<Runtime>,
    way: Way,
    upstream: Option<Upstream>,
    /// Endpoints where nobody listened.
    tried: Vec<usize>,
    /// The last that was used, for the log.
    address: Option<SocketAddr>,
    cluster: Option<Arc<str>>,
    received: u64,
    sent: u64,
    started: Instant,
    last_active: Instant,
    /// That it is refused is in the log and the counters.
    noted: bool,
    draining: bool,
}

impl UdpForward {
    pub(crate) fn new(
        shared: &Rc<Shared>,
        direction: Direction,
        accepted: Accepted,
        id: u64,
        now: Instant,
    ) -> Self {
        let runtime = shared.runtime.borrow().clone();
        let listener = shared.metrics.proxy.listeners.get(label(direction));
        listener.cx_total.inc();
        listener.cx_active.inc();
        UdpForward {
            way: decide(&runtime.plan, direction, accepted),
            shared: Rc::clone(shared),
            direction,
            accepted,
            id,
            runtime,
            upstream: None,
            tried: Vec::new(),
            address: None,
            cluster: None,
            received: 0,
            sent: 0,
            started: now,
            last_active: now,
            noted: false,
            draining: false,
        }
    }

    /// Another plan may say something else.
    fn ask_again(&mut self, cx: &mut Cx<'_>) {
        let runtime = self.shared.runtime.borrow().clone();
        if Rc::ptr_eq(&runtime, &self.runtime) {
            return;
        }
        self.way = decide(&runtime.plan, self.direction, self.accepted);
        let stays = match (&self.way, &self.upstream) {
            (Way::Rule(rule, _), Some(upstream)) => rule
                .targets
                .clusters
                .iter()
                .filter_map(|target| runtime.cluster(target.cluster))
                .any(|cluster| cluster.endpoints.iter().any(|e| Rc::ptr_eq(e, &upstream.endpoint))),
            (Way::Original, Some(upstream)) => upstream.place.is_none(),
            _ => false,
        };
        self.runtime = runtime;
        self.tried.clear();
        self.noted = false;
        if !stays {
            self.leave(cx);
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(upstream) = self.upstream.take() {
            cx.close(upstream.pipeline);
        }
    }

    fn refuse(&mut self, refusal: Refusal, origin: Option<&str>) {
        let proxy = &self.shared.metrics.proxy;
        proxy.datagrams_dropped.get(refusal.label()).inc();
        if std::mem::replace(&mut self.noted, true) {
            return;
        }
        proxy.denied.get(refusal.label()).inc();
        self.log(Decision::Denied, Some(refusal.words()), origin);
    }

    /// The endpoint for the session, anew where the one before was none.
    fn open(&mut self, cx: &mut Cx<'_>, rule: Option<&TcpPlan>) -> Option<PipelineId> {
        let runtime = Rc::clone(&self.runtime);
        let (endpoint, place) = match rule {
            None => (Endpoint::new(&(self.accepted.destination, None)), None),
            Some(rule) => {
                let position = runtime.target(&rule.targets)?.cluster;
                let cluster = runtime.cluster(position)?;
                let key = Some(of_address(self.accepted.peer.ip()));
                let ipv6 = self.accepted.destination.is_ipv6();
                let mut dice = runtime.dice.borrow_mut();
                let found = cluster.pick(key, &self.tried, ipv6, cx.now(), &mut dice);
                let (place, endpoint) = match found {
                    Some(found) => found,
                    None => {
                        self.tried.clear();
                        cluster.pick(key, &[], ipv6, cx.now(), &mut dice)?
                    }
                };
                (Rc::clone(endpoint), Some((position, place)))
            }
        };
        let cluster = place.and_then(|(position, _)| runtime.cluster(position));
        if let Some(cluster) = cluster.filter(|cluster| !cluster.load.may_connect()) {
            cluster.load.counters.cx_overflow.inc();
            return None;
        }
        let pipeline = cx.open_free(Vec::new());
        let (address, source) = match (self.direction, endpoint.address.ip()) {
            // WHY not over loopback: the application answers from the address that suits its peer's, which is not ::1.
            (Direction::Inbound, IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
                ((self.accepted.destination.ip(), endpoint.address.port()).into(), None)
            }
            _ => (endpoint.address, source(self.direction, endpoint.address, &self.accepted)),
        };
        let to = ConnectTo { address, source, also: None, timeout: Duration::ZERO, tell: false };
        cx.connect_datagrams(pipeline, to);
        cx.adopt(pipeline, 0);
        self.address = Some(endpoint.address);
        let plan = place.and_then(|(position, _)| runtime.plan.clusters.get(position));
        self.cluster = plan.map(|plan| Arc::clone(&plan.name));
        self.upstream = Some(Upstream {
            pipeline,
            _active: cluster.map(|cluster| cluster.load.connection()),
            in_hand: cluster.map(|_| endpoint.request(cx.now())),
            endpoint,
            place,
        });
        Some(pipeline)
    }

    /// What became of the endpoint, told once.
    fn report(&self, result: HealthResult, now: Instant) {
        let Some(upstream) = &self.upstream else { return };
        let cluster = upstream.place.and_then(|(position, _)| self.runtime.cluster(position));
        if let (Some(cluster), Some(in_hand)) = (cluster, &upstream.in_hand) {
            in_hand.report(cluster, result, now);
        }
    }

    fn log(&self, decision: Decision, reason: Option<&str>, origin: Option<&str>) {
        let plan = &self.runtime.plan;
        if !plan.logs(decision) {
            return;
        }
        let (rule, let_in) = match &self.way {
            Way::Rule(rule, let_in) => (Some(rule), let_in.as_deref()),
            _ => (None, None),
        };
        let duration = self.last_active.saturating_duration_since(self.started);
        let entry = Entry {
            unix_ms: self.shared.unix_ms(self.started),
            direction: match self.direction {
                Direction::Inbound => pipy_observe::Direction::Inbound,
                Direction::Outbound => pipy_observe::Direction::Outbound,
            },
            protocol: "udp",
            source: match self.direction {
                Direction::Inbound => None,
                Direction::Outbound => plan.identity.as_deref(),
            },
            peer: Some(self.accepted.peer),
            original_destination: Some(self.accepted.destination),
            connection_id: Some(self.id),
            decision,
            reason,
            origin: origin.or(let_in).or(rule.map(|rule| &*rule.origin)),
            service: rule.map(|rule| &*rule.service),
            cluster: self.cluster.as_deref(),
            upstream: self.address,
            request_bytes: Some(self.sent),
            response_bytes: Some(self.received),
            duration_us: u64::try_from(duration.as_micros()).ok(),
            ..Entry::default()
        };
        self.shared.log(plan, &entry);
    }
}

fn decide(plan: &Plan, direction: Direction, accepted: Accepted) -> Way {
    match direction {
        Direction::Inbound => {
            match decide::inbound_datagrams(plan, accepted.destination, accepted.peer.ip()) {
                Ok((rule, by)) => match &rule.tcp {
                    Some(tcp) => Way::Rule(Arc::clone(tcp), by.cloned()),
                    // The contract's parser lets none of these through.
                    None => Way::Refused(Refusal::NoMatch, Some(Arc::clone(&rule.origin))),
                },
                Err((refusal, origin)) => Way::Refused(refusal, origin.cloned()),
            }
        }
        Direction::Outbound => match decide::outbound_datagrams(plan, accepted.destination) {
            OutboundConnection::Match(rule) => match &rule.tcp {
                Some(tcp) => {
                    let own = plan.identity.as_deref().map_or(Caller::Unknown, Caller::Member);
                    let decision = decide::tcp(tcp, own);
                    match decision.verdict {
                        Ok(rule) => Way::Rule(Arc::clone(rule), decision.allowed_by.cloned()),
                        Err(refusal) => Way::Refused(refusal, Some(Arc::clone(&tcp.origin))),
                    }
                }
                None => Way::Refused(Refusal::NoMatch, Some(Arc::clone(&rule.origin))),
            },
            OutboundConnection::Passthrough => Way::Original,
            OutboundConnection::Refuse(refusal) => Way::Refused(refusal, None),
        },
    }
}

/// What the listener is called in the counters.
fn label(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound-udp",
        Direction::Outbound => "outbound-udp",
    }
}

const TIMER_IDLE: u32 = 0;

impl Filter for UdpForward {
    fn name(&self) -> &'static str {
        "udp-load-balancing"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        cx.timer(IDLE, TIMER_IDLE);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Data(data) = event else { return };
        self.last_active = cx.now();
        self.shared.metrics.proxy.datagrams_received.get(label(self.direction)).inc();
        self.ask_again(cx);
        let way = self.way.clone();
        let pipeline = match (&way, &self.upstream) {
            (Way::Refused(refusal, origin), _) => return self.refuse(*refusal, origin.as_deref()),
            (_, Some(upstream)) => Some(upstream.pipeline),
            (Way::Rule(rule, _), None) => self.open(cx, Some(rule)),
            (Way::Original, None) => self.open(cx, None),
        };
        match pipeline {
            Some(pipeline) => {
                self.sent += data.len() as u64;
                let place = self.upstream.as_ref().and_then(|upstream| upstream.place);
                if let Some(cluster) = place.and_then(|(position, _)| self.runtime.cluster(position)) {
                    cluster.load.counters.cx_tx_bytes.add(data.len() as u64);
                }
                cx.send(pipeline, Event::Data(data));
            }
            None => self.shared.metrics.proxy.datagrams_dropped.get("no_endpoint").inc(),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        match event {
            Event::Data(data) => {
                self.last_active = cx.now();
                self.received += data.len() as u64;
                self.report(HealthResult::Success, cx.now());
                self.shared.metrics.proxy.datagrams_sent.get(label(self.direction)).inc();
                let place = self.upstream.as_ref().and_then(|upstream| upstream.place);
                if let Some(cluster) = place.and_then(|(position, _)| self.runtime.cluster(position)) {
                    cluster.load.counters.cx_rx_bytes.add(data.len() as u64);
                }
                cx.back(Event::Data(data));
            }
            Event::Close(reason) => {
                // Nobody listens there. The next datagram goes to another, or there again.
                if reason == CloseReason::ConnectFailed {
                    self.report(HealthResult::Unreachable, cx.now());
                    if let Some(upstream) = &self.upstream
                        && let Some((position, place)) = upstream.place
                        && let Some(cluster) = self.runtime.cluster(position)
                    {
                        cluster.load.counters.cx_connect_fail.inc();
                        self.tried.push(place);
                    }
                }
                self.leave(cx);
            }
            _ => {}
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let quiet = cx.now().saturating_duration_since(self.last_active);
        let limit = if self.draining { IDLE_DRAINING } else { IDLE };
        match limit.checked_sub(quiet) {
            Some(left) if !left.is_zero() => {
                cx.timer(left, TIMER_IDLE);
            }
            // Of the two timers of a proxy that ends the second finds the session gone.
            _ => cx.back(Event::Close(CloseReason::IdleTimeout)),
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.draining = true;
        cx.timer(IDLE_DRAINING, TIMER_IDLE);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.leave(cx);
        self.shared.metrics.proxy.listeners.get(label(self.direction)).cx_active.dec();
        match self.way {
            Way::Refused(..) => {}
            Way::Original => self.log(Decision::Passthrough, None, None),
            Way::Rule(..) => self.log(Decision::Allowed, None, None),
        }
    }
}
