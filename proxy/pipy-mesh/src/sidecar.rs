//! What a worker runs: takes plans and credentials, decides about each accepted connection, puts its pipeline together.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pipy_config::ProbeListener;
use pipy_filters::{HttpServer, HttpServerLimits, HttpService, HttpVersion};
use pipy_http::HttpError;
use pipy_observe::{Decision, Entry, LogBuffer, WorkerMetrics};
use pipy_pipeline::{Filter, Graph, PipelineId};
use pipy_script::plugin::Plugins;
use pipy_tls::Credentials;
use pipy_upstream::Dice;
use pipy_worker::{Accepted, App, Verdict};

use crate::decide::Refusal;
use crate::exchange::{Connection, Direction, Exchange};
use crate::front::Front;
use crate::outlets::Outlets;
use crate::pages::{PageService, Pages};
use crate::plan::Plan;
use crate::probes::ProbeService;
use crate::runtime::Runtime;
use crate::stages::row;
use crate::udp::UdpForward;

/// Keys of the listeners of a sidecar.
pub mod listener {
    /// Traffic to the application.
    pub const INBOUND: u32 = 0;
    /// Traffic from the application.
    pub const OUTBOUND: u32 = 1;
    /// Administration.
    pub const ADMIN: u32 = 2;
    /// Metrics and readiness.
    pub const METRICS: u32 = 3;
    /// Liveness probes.
    pub const LIVENESS: u32 = 4;
    /// Readiness probes.
    pub const READINESS: u32 = 5;
    /// Startup probes.
    pub const STARTUP: u32 = 6;
    /// Probes that only connect.
    pub const TCP_PROBES: u32 = 7;
    /// Added to the key of a listener that serves IPv4 alone: the same over IPv6.
    pub const OVER_IPV6: u32 = 16;

    /// What a listener is for, whatever family it serves.
    pub fn role(key: u32) -> u32 {
        key % OVER_IPV6
    }
}

/// The listeners of probes, with what the configuration calls them.
pub const PROBE_LISTENERS: [(u32, ProbeListener); 4] = [
    (listener::LIVENESS, ProbeListener::Liveness),
    (listener::READINESS, ProbeListener::Readiness),
    (listener::STARTUP, ProbeListener::Startup),
    (listener::TCP_PROBES, ProbeListener::Tcp),
];

/// What the main thread sends to each worker.
pub enum Update {
    /// Listeners to open, and, with `None`, to close.
    Listeners(Vec<(u32, Option<std::net::TcpListener>)>),
    /// Another plan, and the listeners that change with it.
    Plan(Arc<Plan>, Vec<(u32, Option<std::net::TcpListener>)>),
    /// UDP listeners to open, and, with `None`, to close.
    Datagrams(Vec<(u32, Option<std::net::UdpSocket>)>),
    /// Other credentials; the number grows with each.
    Credentials(u64, Credentials),
    /// How results of work that plugins have done on other threads come back; sent before the first plan.
    Way(pipy_script::Return),
    /// A result of such work.
    Done(u64, pipy_script::BackgroundResult),
}

/// What all connections of a worker share.
pub(crate) struct Shared {
    pub(crate) runtime: RefCell<Rc<Runtime>>,
    pub(crate) credentials: RefCell<Option<(u64, Credentials)>>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) outlets: Outlets,
    clock: Clock,
    pub(crate) connections: Cell<u64>,
    pub(crate) now: Cell<Instant>,
}

/// What shares are of.
const PER_MILLION: u64 = 1_000_000;

/// From the clock that only goes forward to the one that people read.
struct Clock {
    start: Instant,
    start_unix_us: u64,
}

impl Shared {
    pub(crate) fn log(&self, plan: &Plan, entry: &Entry<'_>) {
        let roll = || self.runtime.borrow().dice.borrow_mut().below(PER_MILLION);
        self.outlets.line(plan, entry, &self.metrics.proxy, roll);
    }

    pub(crate) fn unix_ms(&self, at: Instant) -> u64 {
        self.unix_us(at) / 1_000
    }

    pub(crate) fn unix_us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.clock.start);
        self.clock.start_unix_us.saturating_add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl Connection {
    /// The part of a log line that all requests of the connection share.
    pub(crate) fn entry<'a>(&'a self, plan: &'a Plan, started: Instant) -> Entry<'a> {
        Entry {
            unix_ms: self.shared.unix_ms(started),
            direction: match self.direction {
                Direction::Inbound => pipy_observe::Direction::Inbound,
                Direction::Outbound => pipy_observe::Direction::Outbound,
            },
            source: match self.direction {
                Direction::Inbound => self.peer.identity(),
                Direction::Outbound => plan.identity.as_deref(),
            },
            peer: Some(self.accepted.peer),
            original_destination: Some(self.accepted.destination),
            connection_id: Some(self.id),
            ..Entry::default()
        }
    }

    /// Who was asked.
    pub(crate) fn destination_identity<'a>(
        &self,
        plan: &'a Plan,
        upstream: Option<&'a str>,
    ) -> Option<&'a str> {
        match self.direction {
            Direction::Inbound => plan.identity.as_deref(),
            Direction::Outbound => upstream,
        }
    }

    /// Notes what the client did that no request comes of: a word for counters, what it was, and what it was answered.
    pub(crate) fn misbehaved(&self, label: &'static str, why: &dyn Display, status: Option<u16>) {
        self.shared.metrics.proxy.protocol_errors.get(label).inc();
        let runtime = self.shared.runtime.borrow().clone();
        if runtime.plan.logs(Decision::Denied) {
            self.shared.log(
                &runtime.plan,
                &Entry {
                    protocol: self.protocol.get(),
                    decision: Decision::Denied,
                    reason: Some(&why.to_string()),
                    status,
                    ..self.entry(&runtime.plan, self.shared.now.get())
                },
            );
        }
    }

    /// Notes that a connection was refused before any request.
    pub(crate) fn refused(&self, refusal: Refusal, origin: Option<&str>) {
        self.shared.metrics.proxy.denied.get(refusal.label()).inc();
        let runtime = self.shared.runtime.borrow().clone();
        if runtime.plan.logs(Decision::Denied) {
            self.shared.log(
                &runtime.plan,
                &Entry {
                    protocol: "tcp",
                    decision: Decision::Denied,
                    reason: Some(refusal.words()),
                    origin,
                    ..self.entry(&runtime.plan, self.shared.now.get())
                },
            );
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.metrics.proxy.listeners.get(self.direction.label()).cx_active.dec();
    }
}

/// Makes the pipelines of one connection's requests.
pub(crate) struct Requests {
    pub(crate) connection: Rc<Connection>,
}

impl HttpService for Requests {
    fn request(&self) -> Vec<Box<dyn Filter>> {
        let shared = &self.connection.shared;
        // The configuration of now, not the one the connection began with: a policy counts from the next request on.
        let runtime = shared.runtime.borrow().clone();
        let exchange = Exchange::new(&self.connection, &runtime, shared.now.get());
        row(&exchange, 0)
    }

    fn malformed(&self, error: &HttpError) {
        self.connection.misbehaved(error.metric_label(), error, Some(error.status()));
    }

    fn speaks(&self, version: HttpVersion) {
        if version == HttpVersion::Http2 {
            self.connection.protocol.set("h2");
            self.connection
                .shared
                .metrics
                .proxy
                .listeners
                .get(self.connection.direction.label())
                .cx_http2
                .inc();
        }
    }

    fn broken(&self, label: &'static str, why: &dyn Display) {
        self.connection.misbehaved(label, why, None);
    }

    fn carries_many(&self) -> bool {
        // A sidecar, for its applications. Our own application has proved its identity by where it runs.
        self.connection.direction == Direction::Inbound && self.connection.peer.identity().is_some()
    }

    fn agreed(&self) -> Option<HttpVersion> {
        self.connection.peer.agreed()
    }

    fn may_turn(&self) -> bool {
        !self.connection.encrypted.get()
    }
}

/// One worker's sidecar.
pub struct Sidecar {
    shared: Rc<Shared>,
    pages: Arc<dyn Pages>,
    /// UDP listeners that the worker is yet to open.
    datagrams: Vec<(u32, Option<std::net::UdpSocket>)>,
    /// Idle connections to endpoints that have left.
    unused: Vec<PipelineId>,
    /// Plugins of plans that are gone, while requests still run through them.
    old_plugins: Vec<Weak<Plugins>>,
}

impl Sidecar {
    /// A sidecar that refuses everything until it gets a plan.
    pub fn new(metrics: WorkerMetrics, log: LogBuffer, pages: Arc<dyn Pages>, start: Instant) -> Self {
        let nothing = pipy_config::parse(br#"{"version":"none"}"#).map(Plan::new);
        let plan = match nothing {
            Ok(plan) => Arc::new(plan),
            Err(error) => unreachable!("the empty configuration is valid: {error}"),
        };
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start_unix_us = u64::try_from(unix.as_micros()).unwrap_or(u64::MAX);
        let shared = Shared {
            runtime: RefCell::new(Rc::new(Runtime::new(plan, None, &metrics))),
            credentials: RefCell::default(),
            metrics,
            outlets: Outlets::new(log),
            clock: Clock { start, start_unix_us },
            connections: Cell::new(0),
            now: Cell::new(start),
        };
        let (shared, datagrams) = (Rc::new(shared), Vec::new());
        Sidecar { shared, pages, datagrams, unused: Vec::new(), old_plugins: Vec::new() }
    }

    /// With dice that fall the same way for the same seed: what is chosen, and when, can be repeated.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        *self.shared.runtime.borrow().dice.borrow_mut() = Dice::new(seed);
        self
    }

    /// Spans, and lines of the log that are to go elsewhere, are handed over here. Without, there are none.
    #[must_use]
    pub fn exporting(self, spans: LogBuffer, lines: LogBuffer) -> Self {
        self.shared.outlets.exporting(spans, lines);
        self
    }

    /// The plugins at work, each once.
    fn plugins(&self) -> Vec<Rc<Plugins>> {
        let current = self.shared.runtime.borrow().plugins.clone();
        let old = self.old_plugins.iter().filter_map(Weak::upgrade);
        let old = old.filter(|old| !current.as_ref().is_some_and(|current| Rc::ptr_eq(current, old)));
        let old: Vec<Rc<Plugins>> = old.collect();
        current.into_iter().chain(old).collect()
    }

    fn front(&self) -> Front {
        Front { shared: Rc::clone(&self.shared) }
    }

    fn probes(&self, listener: ProbeListener, accepted: Accepted) -> Verdict {
        // Longer than any probe may take: its own limit answers, and this one ends what nobody uses.
        let longest = self.shared.runtime.borrow().plan.probes.iter().map(|probe| probe.timeout_ms).max();
        let idle = Duration::from_secs(60) + Duration::from_millis(longest.unwrap_or_default());
        let head = Duration::from_secs(10);
        let limits = HttpServerLimits { head, idle, ..HttpServerLimits::default() };
        let service = ProbeService { shared: Rc::clone(&self.shared), listener, accepted };
        Verdict::Run(vec![Box::new(HttpServer::new(Rc::new(service), limits, self.shared.now.get()))])
    }

    fn pages(&self, key: u32) -> Verdict {
        let (head, idle) = (Duration::from_secs(10), Duration::from_secs(60));
        let limits = HttpServerLimits { head, idle, ..HttpServerLimits::default() };
        let service = PageService::service(key, &self.pages);
        Verdict::Run(vec![Box::new(HttpServer::new(service, limits, self.shared.now.get()))])
    }
}

impl App for Sidecar {
    type Update = Update;

    fn accept(&mut self, key: u32, accepted: Accepted, now: Instant) -> Verdict {
        self.shared.now.set(now);
        let key = listener::role(key);
        match key {
            listener::INBOUND => self.front().inbound(accepted),
            listener::OUTBOUND => self.front().outbound(accepted),
            _ => match PROBE_LISTENERS.iter().find(|(known, _)| *known == key) {
                Some((_, probes)) => self.probes(*probes, accepted),
                None => self.pages(key),
            },
        }
    }

    fn datagram_listeners(&mut self) -> Vec<(u32, Option<std::net::UdpSocket>)> {
        std::mem::take(&mut self.datagrams)
    }

    fn accept_datagrams(&mut self, key: u32, session: Accepted, now: Instant) -> Verdict {
        self.shared.now.set(now);
        // One that was sent to the listener itself, and not captured for it, would be carried to it again, without end.
        if session.destination.port() == session.local.port() {
            return Verdict::Close;
        }
        let direction = match listener::role(key) {
            listener::INBOUND => Direction::Inbound,
            _ => Direction::Outbound,
        };
        let id = self.shared.connections.get() + 1;
        self.shared.connections.set(id);
        Verdict::Run(vec![Box::new(UdpForward::new(&self.shared, direction, session, id, now))])
    }

    fn datagrams_dropped(&mut self, count: u64) {
        self.shared.metrics.proxy.datagrams_dropped.get("overflow").add(count);
    }

    fn update(&mut self, update: Update) -> Vec<(u32, Option<std::net::TcpListener>)> {
        match update {
            Update::Listeners(listeners) => listeners,
            Update::Datagrams(listeners) => {
                self.datagrams.extend(listeners);
                Vec::new()
            }
            Update::Plan(plan, listeners) => {
                let before = self.shared.runtime.borrow().clone();
                let runtime = Runtime::new(plan, Some(&before), &self.shared.metrics);
                self.unused.extend(before.retire(&runtime));
                self.old_plugins.retain(|plugins| plugins.strong_count() > 0);
                let same =
                    |old: &&Rc<Plugins>| runtime.plugins.as_ref().is_some_and(|new| Rc::ptr_eq(new, old));
                self.old_plugins.extend(before.plugins.iter().find(|old| !same(old)).map(Rc::downgrade));
                self.shared.runtime.replace(Rc::new(runtime));
                listeners
            }
            Update::Credentials(generation, credentials) => {
                self.shared.credentials.replace(Some((generation, credentials)));
                Vec::new()
            }
            Update::Way(way) => {
                pipy_script::plugin::set_way_back(way);
                Vec::new()
            }
            Update::Done(id, result) => {
                // It is of the plugins that asked, which may not be those at work any more.
                let mut result = Some(result);
                for plugins in self.plugins() {
                    result = result.and_then(|result| plugins.finished(id, result));
                }
                Vec::new()
            }
        }
    }

    fn step(&mut self, graph: &mut Graph) -> Vec<(u32, Option<std::net::TcpListener>)> {
        for pipeline in self.unused.drain(..) {
            graph.close(pipeline);
        }
        for plugins in self.plugins() {
            plugins.step(graph);
        }
        let runtime = self.shared.runtime.borrow();
        for waker in runtime.wakers.take() {
            graph.wake(waker);
        }
        Vec::new()
    }

    fn turn_begins(&mut self, now: Instant) {
        self.shared.now.set(now);
    }

    fn turn_ends(&mut self, now: Instant) -> Option<Instant> {
        let due = self.shared.outlets.turn(now);
        // Who was freed in the last step of a turn must not wait for the next event.
        if !self.shared.runtime.borrow().wakers.borrow().is_empty() {
            return Some(now);
        }
        self.plugins().iter().filter_map(|plugins| plugins.due()).chain(due).min()
    }
}
