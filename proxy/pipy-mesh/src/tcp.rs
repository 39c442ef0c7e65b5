//! TCP: carries bytes between a client and an endpoint, each direction ending in its own time.
//!
//! An endpoint that can't be reached costs the client nothing: another one is told what it has said. INVARIANT: bytes go to
//! another endpoint only while certainly none of them has reached one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pipy_config::ProxyProtocol;
use pipy_filters::proxy_protocol::{Header, Version};
use pipy_filters::{Spoken, client_hello, detect};
use pipy_observe::{Decision, Entry};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use pipy_upstream::HealthResult;

use crate::decide::{self, Refusal};
use crate::exchange::Connection;
use crate::plan::TcpPlan;
use crate::runtime::{Active, Endpoint, InHand, Runtime};
use crate::stages::{Upstream, also, of_address, open_upstream, source};

/// What plugins and the rest of a chain know together of a connection.
#[derive(Default)]
pub(crate) struct TcpFacts {
    /// Picked already.
    pub(crate) cluster: Cell<Option<usize>>,
    pub(crate) upstream: Cell<Option<SocketAddr>>,
}

/// Where the bytes go.
#[derive(Clone)]
pub(crate) enum Way {
    /// Where a rule sends them.
    Rule(Arc<TcpPlan>),
    /// Where they were meant to go, as they are.
    Original,
}

/// See the module.
pub(crate) struct TcpForward {
    connection: Rc<Connection>,
    runtime: Rc<Runtime>,
    way: Way,
    facts: Option<Rc<TcpFacts>>,
    /// TLS comes first: the peer is known when the first event comes.
    after_tls: bool,
    begun: bool,
    /// The client's first bytes, until it is known what is spoken; `None` where that does not matter.
    seen: Option<BytesMut>,
    spoken: Option<Spoken>,
    upstream: Option<PipelineId>,
    active: Option<Active>,
    in_hand: Option<InHand>,
    address: Option<SocketAddr>,
    cluster: Option<usize>,
    /// Number of the attempt; the slot that its events come under.
    attempt: Slot,
    /// The endpoint's place in its cluster.
    place: Option<usize>,
    /// Endpoints of the cluster that could not be reached.
    tried: Vec<usize>,
    /// Clusters that have no endpoint left.
    failed: Vec<usize>,
    /// What the client has said, as long as another endpoint may be told it instead.
    kept: Option<Vec<Bytes>>,
    refusal: Option<Refusal>,
    failure: Option<CloseReason>,
    received: u64,
    sent: u64,
    started: Instant,
    last_active: Instant,
    client_finished: bool,
    server_finished: bool,
    over: bool,
}

impl TcpForward {
    pub(crate) fn new(
        connection: Rc<Connection>,
        runtime: Rc<Runtime>,
        way: Way,
        after_tls: bool,
        now: Instant,
    ) -> Self {
        let seen = matches!(way, Way::Original).then(BytesMut::new);
        TcpForward {
            connection,
            runtime,
            way,
            facts: None,
            after_tls,
            begun: false,
            seen,
            spoken: None,
            upstream: None,
            active: None,
            in_hand: None,
            address: None,
            cluster: None,
            attempt: 0,
            place: None,
            tried: Vec::new(),
            failed: Vec::new(),
            kept: Some(Vec::new()),
            refusal: None,
            failure: None,
            received: 0,
            sent: 0,
            started: now,
            last_active: now,
            client_finished: false,
            server_finished: false,
            over: false,
        }
    }

    /// Together with the plugins before it.
    pub(crate) fn knowing(self, facts: Rc<TcpFacts>) -> Self {
        TcpForward { facts: Some(facts), ..self }
    }

    /// The cluster that it goes to, by the rule or by what was decided before.
    fn pick(&self, rule: &TcpPlan) -> Option<usize> {
        let known = self.facts.as_ref().and_then(|facts| facts.cluster.get());
        known.or_else(|| self.runtime.target(&rule.targets).map(|target| target.cluster))
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.begun = true;
        if let Way::Rule(rule) = &self.way {
            match decide::tcp(rule, self.connection.caller()).verdict {
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.connection.shared.metrics.proxy.denied.get(refusal.label()).inc();
                    return self.end(cx, CloseReason::Denied);
                }
                Ok(rule) => self.cluster = self.pick(rule),
            }
        }
        if let Err(reason) = self.connect(cx) {
            self.fail(cx, reason);
        }
    }

    /// An endpoint that was not tried: where the client wants to go, or the next of the cluster.
    fn endpoint(&mut self, cx: &Cx<'_>) -> Option<Rc<Endpoint>> {
        let accepted = &self.connection.accepted;
        if let Way::Original = &self.way {
            self.place = Some(0);
            return self.tried.is_empty().then(|| Endpoint::new(&(accepted.destination, None)));
        }
        let cluster = self.runtime.cluster(self.cluster?)?;
        if let Some(chosen) = cluster.chosen(accepted) {
            self.place = Some(0);
            return self.tried.is_empty().then_some(chosen);
        }
        let key = of_address(accepted.peer.ip());
        let ipv6 = accepted.destination.is_ipv6();
        let mut dice = self.runtime.dice.borrow_mut();
        let (place, endpoint) = cluster.pick(Some(key), &self.tried, ipv6, cx.now(), &mut dice)?;
        self.place = Some(place);
        Some(Rc::clone(endpoint))
    }

    fn connect(&mut self, cx: &mut Cx<'_>) -> Result<(), CloseReason> {
        let runtime = Rc::clone(&self.runtime);
        let endpoint = self.endpoint(cx).ok_or(CloseReason::ConnectFailed)?;
        self.address = Some(endpoint.address);
        if let Some(facts) = &self.facts {
            facts.upstream.set(Some(endpoint.address));
        }
        let config = self.cluster.and_then(|position| runtime.plan.clusters.get(position));
        let upstream = Upstream {
            address: endpoint.address,
            source: source(self.connection.direction, endpoint.address, &self.connection.accepted),
            also: also(self.connection.direction, endpoint.address),
            timeout: Duration::from_millis(
                config.map_or(CONNECT_TIMEOUT_MS, |c| c.config.connect_timeout_ms),
            ),
            handshake: Duration::from_millis(runtime.plan.timeouts.handshake_ms),
        };
        let cluster = self.cluster.and_then(|position| runtime.cluster(position));
        if let Some(cluster) = cluster {
            if !cluster.load.may_connect() {
                cluster.load.counters.cx_overflow.inc();
                return Err(CloseReason::Overloaded);
            }
            self.active = Some(cluster.load.connection());
            self.in_hand = Some(endpoint.request(cx.now()));
        }
        let pipeline = open_upstream(cx, &self.connection.shared, &endpoint, &upstream, None, &[])
            .ok_or(CloseReason::TlsFailed)?;
        self.attempt = self.attempt.wrapping_add(1);
        cx.adopt(pipeline, self.attempt);
        self.upstream = Some(pipeline);
        if let Some(version) = config.and_then(|cluster| cluster.config.proxy_protocol) {
            cx.send(pipeline, Event::Data(self.header(version)));
        }
        Ok(())
    }

    /// The endpoint could not be reached, so that no byte has reached anybody: tries another one, of this cluster or of a
    /// spare one. False when there is none.
    fn elsewhere(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.kept.is_none() || self.attempt >= ENDPOINTS_MAX {
            return false;
        }
        if let Some(upstream) = self.upstream.take() {
            cx.destroy(upstream);
        }
        (self.active, self.in_hand) = (None, None);
        self.tried.extend(self.place.take());
        if self.connect(cx).is_err() && !self.spare(cx) {
            return false;
        }
        let Some(upstream) = self.upstream else { return false };
        for piece in self.kept.iter().flatten() {
            cx.send(upstream, Event::Data(piece.clone()));
        }
        if self.client_finished {
            cx.send(upstream, Event::Close(CloseReason::Finished));
        }
        true
    }

    /// Goes to a cluster of weight 0, when the one before has no endpoint left.
    fn spare(&mut self, cx: &mut Cx<'_>) -> bool {
        let Way::Rule(rule) = &self.way else { return false };
        self.failed.extend(self.cluster);
        let Some(target) = self.runtime.failover(&rule.targets, &self.failed) else { return false };
        self.cluster = Some(target.cluster);
        self.tried.clear();
        self.connect(cx).is_ok()
    }

    /// Keeps what the client says, up to a bound, until the server says something.
    fn keep(&mut self, data: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        kept.push(data.clone());
        if self.received > 0 || self.sent > KEPT_BYTES_MAX {
            self.kept = None;
        }
    }

    /// Who the client is, for an upstream that wants to be told.
    fn header(&self, version: ProxyProtocol) -> Bytes {
        let accepted = &self.connection.accepted;
        let version = match version {
            ProxyProtocol::V1 => Version::V1,
            ProxyProtocol::V2 => Version::V2,
        };
        let mut bytes = Vec::new();
        Header::stream(accepted.peer, accepted.destination).encode(version, &mut bytes);
        bytes.into()
    }

    /// Finds out in passing what is spoken, where no rule says: nothing waits for the answer.
    fn watch(&mut self, data: &Bytes) {
        let Some(seen) = &mut self.seen else { return };
        seen.extend_from_slice(data);
        let Some(spoken) = detect(seen) else { return };
        if spoken == Spoken::Tls
            && let Ok(Some(hello)) = client_hello(seen)
            && let Some(name) = hello.server_name
        {
            let _ = self.connection.server_name.set(name);
        }
        self.connection.shared.metrics.proxy.detected.get(spoken.label()).inc();
        self.spoken = Some(spoken);
        self.seen = None;
    }

    /// Counts what was wrong with the upstream.
    fn blame(&self, cx: &Cx<'_>, reason: CloseReason) {
        let Some(cluster) = self.cluster.and_then(|position| self.runtime.cluster(position)) else { return };
        match reason {
            CloseReason::ConnectFailed | CloseReason::TlsFailed | CloseReason::WrongPeer
                if self.upstream.is_some() =>
            {
                cluster.load.counters.cx_connect_fail.inc();
            }
            CloseReason::ConnectTimeout => cluster.load.counters.cx_connect_timeout.inc(),
            _ => {}
        }
        if let Some(in_hand) = self.in_hand.as_ref().filter(|_| is_unreachable(reason)) {
            in_hand.report(cluster, HealthResult::Unreachable, cx.now());
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.blame(cx, reason);
        if is_unreachable(reason) && self.upstream.is_some() && self.elsewhere(cx) {
            return;
        }
        self.failure = Some(reason);
        // WHY: an upstream that breaks before it says a word looks to the client like one that closes, so that a client
        // in the mesh (curl: 52) can be told from one that is kept out of it (curl: 56). A protocol that is unknown may have
        // no form of an answer that would be missed: there only a reset says that something failed.
        let silent = self.received == 0 && self.spoken != Some(Spoken::Tcp);
        self.end(cx, if silent { CloseReason::Finished } else { CloseReason::Reset });
    }

    fn end(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        if let Some(upstream) = self.upstream.take() {
            cx.destroy(upstream);
        }
        cx.back(Event::Close(reason));
        cx.timer(LINGER, TIMER_LINGER);
    }

    fn log(&self, cx: &Cx<'_>) {
        let (decision, reason) = match (self.refusal, self.failure, &self.way) {
            (Some(refusal), ..) => (Decision::Denied, Some(refusal.words())),
            (None, Some(failure), _) => (Decision::Failed, Some(failure.label())),
            (None, None, Way::Original) => (Decision::Passthrough, None),
            (None, None, Way::Rule(_)) => (Decision::Allowed, None),
        };
        let plan = &self.runtime.plan;
        if !plan.logs(decision) {
            return;
        }
        let duration = cx.now().saturating_duration_since(self.started);
        let rule = match &self.way {
            Way::Rule(rule) => Some(rule),
            Way::Original => None,
        };
        self.connection.shared.log(
            plan,
            &Entry {
                protocol: match self.spoken {
                    Some(Spoken::Http1) => "http",
                    Some(Spoken::Http2) => "h2",
                    Some(Spoken::Tls) => "tls",
                    _ if self.connection.server_name.get().is_some() => "tls",
                    _ => "tcp",
                },
                host: self.connection.server_name.get().map(String::as_bytes),
                decision,
                reason,
                origin: rule.map(|rule| &*rule.origin),
                service: rule.map(|rule| &*rule.service),
                cluster: self.cluster.and_then(|position| plan.clusters.get(position)).map(|c| &*c.name),
                upstream: self.address,
                request_bytes: Some(self.sent),
                response_bytes: Some(self.received),
                duration_us: u64::try_from(duration.as_micros()).ok(),
                ..self.connection.entry(plan, self.started)
            },
        );
    }
}

/// LIMIT: how long a connection to a destination outside of the configuration may take to be made.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// LIMIT: how long a client may take to close after our end of the stream.
const LINGER: Duration = Duration::from_secs(1);

/// LIMIT: bytes of the client's that are kept for another endpoint while none has answered.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

/// LIMIT: endpoints that one connection is tried at; as for requests.
const ENDPOINTS_MAX: Slot = 3;

/// Whether certainly no byte has reached a server.
fn is_unreachable(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::ConnectFailed | CloseReason::ConnectTimeout)
}

const TIMER_IDLE: u32 = 0;
const TIMER_LINGER: u32 = 1;

impl Filter for TcpForward {
    fn name(&self) -> &'static str {
        "tcp-load-balancing"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let idle = self.runtime.plan.timeouts.idle_ms;
        if idle > 0 {
            cx.timer(Duration::from_millis(idle), TIMER_IDLE);
        }
        // A server that speaks first must be reached without waiting for the client.
        if !self.after_tls {
            self.begin(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.last_active = cx.now();
        if self.over {
            return;
        }
        if !self.begun && matches!(event, Event::Data(_)) {
            self.begin(cx);
        }
        match (event, self.upstream) {
            (Event::Data(data), Some(upstream)) => {
                self.sent += data.len() as u64;
                self.watch(&data);
                self.keep(&data);
                cx.send(upstream, Event::Data(data));
            }
            (Event::Close(reason), Some(_)) if !reason.is_clean() => self.end(cx, reason),
            (event, Some(upstream)) => {
                self.client_finished |= matches!(event, Event::Close(_));
                cx.send(upstream, event);
            }
            (Event::Close(_), None) => self.end(cx, CloseReason::Finished),
            (_, None) => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if self.over || slot != self.attempt {
            return;
        }
        self.last_active = cx.now();
        match event {
            Event::Data(data) => {
                self.received += data.len() as u64;
                self.kept = None;
                let cluster = self.cluster.and_then(|position| self.runtime.cluster(position));
                if let (Some(cluster), Some(in_hand)) = (cluster, &self.in_hand) {
                    in_hand.report(cluster, HealthResult::Success, cx.now());
                }
                cx.back(Event::Data(data));
            }
            Event::Close(reason) if !reason.is_clean() => self.fail(cx, reason),
            other => {
                self.server_finished |= matches!(other, Event::Close(_));
                cx.back(other);
            }
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        if token == TIMER_LINGER {
            return cx.back(Event::Close(CloseReason::IdleTimeout));
        }
        let limit = Duration::from_millis(self.runtime.plan.timeouts.idle_ms);
        let idle = cx.now().saturating_duration_since(self.last_active);
        match limit.checked_sub(idle) {
            Some(left) if !left.is_zero() => {
                cx.timer(left, TIMER_IDLE);
            }
            _ => {
                self.failure = Some(CloseReason::IdleTimeout);
                self.end(cx, CloseReason::Finished);
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(cluster) = self.cluster.and_then(|position| self.runtime.cluster(position)) {
            cluster.load.counters.cx_tx_bytes.add(self.sent);
            cluster.load.counters.cx_rx_bytes.add(self.received);
        }
        match self.upstream.take() {
            // Both have finished: what the client said last may still wait to be sent.
            Some(upstream) if self.client_finished && self.server_finished => cx.close(upstream),
            Some(upstream) => cx.destroy(upstream),
            None => {}
        }
        if self.begun && self.seen.take().is_some() {
            self.connection.shared.metrics.proxy.detected.get("silent").inc();
        }
        if self.begun {
            self.log(cx);
        }
    }
}
