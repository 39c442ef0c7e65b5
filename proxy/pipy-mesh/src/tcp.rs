//! TCP: carries bytes between a client and an endpoint, each direction ending in its own time.

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
        let runtime = Rc::clone(&self.runtime);
        let endpoint = match &self.way {
            Way::Original => Some(Endpoint::new(&(self.connection.accepted.destination, None))),
            Way::Rule(rule) => match decide::tcp(rule, self.connection.caller()).verdict {
                Err(refusal) => {
                    self.refusal = Some(refusal);
                    self.connection.shared.metrics.proxy.denied.get(refusal.label()).inc();
                    return self.end(cx, CloseReason::Denied);
                }
                Ok(rule) => self.pick(rule).and_then(|position| {
                    self.cluster = Some(position);
                    let key = of_address(self.connection.accepted.peer.ip());
                    let cluster = runtime.cluster(position)?;
                    cluster.chosen(&self.connection.accepted).or_else(|| {
                        let mut dice = runtime.dice.borrow_mut();
                        let ipv6 = self.connection.accepted.destination.is_ipv6();
                        cluster.endpoint(Some(key), ipv6, cx.now(), &mut dice).cloned()
                    })
                }),
            },
        };
        let Some(endpoint) = endpoint else { return self.fail(cx, CloseReason::ConnectFailed) };
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
                return self.fail(cx, CloseReason::Overloaded);
            }
            self.active = Some(cluster.load.connection());
            self.in_hand = Some(endpoint.request(cx.now()));
        }
        match open_upstream(cx, &self.connection.shared, &endpoint, &upstream, None, &[]) {
            Some(pipeline) => {
                cx.adopt(pipeline, 0);
                self.upstream = Some(pipeline);
                if let Some(version) = config.and_then(|cluster| cluster.config.proxy_protocol) {
                    cx.send(pipeline, Event::Data(self.header(version)));
                }
            }
            None => self.fail(cx, CloseReason::TlsFailed),
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

    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.failure = Some(reason);
        if let Some(cluster) = self.cluster.and_then(|position| self.runtime.cluster(position)) {
            match reason {
                CloseReason::ConnectFailed if self.upstream.is_some() => {
                    cluster.load.counters.cx_connect_fail.inc();
                }
                CloseReason::ConnectTimeout => cluster.load.counters.cx_connect_timeout.inc(),
                _ => {}
            }
            let unreachable = matches!(reason, CloseReason::ConnectFailed | CloseReason::ConnectTimeout);
            if let Some(in_hand) = self.in_hand.as_ref().filter(|_| unreachable) {
                in_hand.report(cluster, HealthResult::Unreachable, cx.now());
            }
        }
        // WHY: an upstream that breaks before it says a word looks to the client like one that closes, so that a client
        // in the mesh (curl: 52) can be told from one that is kept out of it (curl: 56).
        let seen = if self.received == 0 { CloseReason::Finished } else { CloseReason::Reset };
        self.end(cx, seen);
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

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if self.over {
            return;
        }
        self.last_active = cx.now();
        match event {
            Event::Data(data) => {
                self.received += data.len() as u64;
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
