//! One connection of `connect`.
//!
//! ```text
//!   new ──► resolving ──► connecting ──► open ──► over        the address is fixed: begun at once, else with the first event
//!               └─── failed, and it may be tried again ───► waiting ──► resolving
//! ```
//!
//! INVARIANT: where a connection may be tried again, nothing is sent before it is made, so that nothing is lost. A name is
//! looked up on another thread; what is to be sent waits.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, NetlinkAddress, NetlinkTo, PipelineId, Slot};
use rquickjs::Object;

use super::{Connect, Protocol, SOURCE_EXPECTED, Settings, host_and_port, literal, netlink, source};
use crate::events::error_name;
use crate::filters::sub::{ONLY, came_out};
use crate::layout::Scope;
use crate::objects::connections::{Listed, list_outbound};

/// LIMIT: a connection on which nothing moves ends after this time, unless the script says otherwise.
const IDLE: Duration = Duration::from_secs(60);

const TIMER_RETRY: u32 = 0;
const TIMER_IDLE: u32 = 1;
const TIMER_READ: u32 = 2;
const TIMER_WRITE: u32 = 3;

/// Where a connection goes.
#[derive(Clone)]
enum To {
    Host(String, u16),
    Netlink(NetlinkAddress),
}

enum State {
    New,
    /// The name is being looked up: the number of that work, the port.
    Resolving(u64, u16),
    /// The connection is being made, and it matters whether it is. Through a pipeline of its own unless it is direct.
    Connecting(Option<PipelineId>),
    /// The next try begins when the timer says so.
    Waiting,
    /// Connected, or connecting where that does not matter.
    Open(Option<PipelineId>),
    Over,
}

pub(super) struct Connection {
    def: Rc<Connect>,
    settings: Settings,
    /// It is the last filter of a row of two directions.
    direct: bool,
    state: State,
    /// What is to be sent when there is a connection.
    held: Vec<Event>,
    tries: u32,
    to: Option<To>,
    address: Option<SocketAddr>,
    /// How long nothing may move.
    idle: Duration,
    /// When something came or went last, and when something came.
    last_active: Option<Instant>,
    last_read: Option<Instant>,
    /// Since when the server takes nothing of what waits.
    congested: Option<Instant>,
    /// In `pipy.outbound`, while it is open or being made.
    listed: Option<Listed>,
    scope: Scope,
}

impl Connection {
    pub(super) fn new(def: Rc<Connect>, scope: &Scope, direct: bool) -> Self {
        Connection {
            settings: def.settings.clone(),
            def,
            direct,
            state: State::New,
            held: Vec::new(),
            tries: 0,
            to: None,
            address: None,
            idle: IDLE,
            last_active: None,
            last_read: None,
            congested: None,
            listed: None,
            scope: scope.clone(),
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let (Some(settings), Some(said)) = (self.def.settings(&self.scope), self.def.address(&self.scope))
        else {
            return self.end(cx, CloseReason::Script);
        };
        self.settings = settings;
        self.idle = self.settings.idle_timeout.unwrap_or(IDLE);
        let (to, expected) = match self.settings.protocol {
            Protocol::Netlink => (netlink::address(&said).map(To::Netlink), netlink::EXPECTED),
            Protocol::Tcp | Protocol::Udp => {
                let to = host_and_port(&said).map(|(host, port)| To::Host(host.to_owned(), port));
                (to, "host:port")
            }
        };
        match to {
            Some(to) => {
                self.to = Some(to);
                self.find(cx);
            }
            None => {
                self.def.asker.complain(&format!("{said:?} is no address, {expected} is"));
                self.end(cx, CloseReason::CannotResolve);
            }
        }
    }

    /// Looks the address up, or has it.
    fn find(&mut self, cx: &mut Cx<'_>) {
        let (host, port) = match self.to.clone() {
            Some(To::Host(host, port)) => (host, port),
            Some(To::Netlink(peer)) => return self.connect_netlink(cx, peer),
            None => return,
        };
        if let Some(ip) = literal(&host) {
            return self.connect(cx, SocketAddr::new(ip, port));
        }
        self.tell("resolving", None);
        let waker = cx.waker(0);
        // The resolver of the system may wait for servers for seconds: a thread may, a worker must not.
        let work = self.scope.engine().in_background(waker, move || {
            let found = (host.as_str(), port).to_socket_addrs().ok();
            found.and_then(|mut found| found.next()).map(|address| address.ip())
        });
        self.state = State::Resolving(work, port);
    }

    fn connect(&mut self, cx: &mut Cx<'_>, address: SocketAddr) {
        let own = self.def.own_address(&self.settings, &self.scope, source, SOURCE_EXPECTED);
        let Some(source) = own else {
            return self.end(cx, CloseReason::Script);
        };
        self.address = Some(address);
        self.tell("connecting", None);
        let settings = &self.settings;
        let udp = settings.protocol == Protocol::Udp;
        let careful = !udp && self.matters();
        let timeout = settings.connect_timeout;
        let to = ConnectTo { address, source, also: None, timeout, tell: careful };
        let own = if self.direct { cx.pipeline() } else { cx.open(Vec::new(), ONLY) };
        let socket = if udp { cx.connect_datagrams(own, to) } else { cx.connect(own, to) };
        cx.limit(socket, settings.limits);
        self.listed = Some(list_outbound(address, settings.protocol.name()));
        self.begun(cx, own, careful);
    }

    fn connect_netlink(&mut self, cx: &mut Cx<'_>, peer: NetlinkAddress) {
        let own = self.def.own_address(&self.settings, &self.scope, netlink::address, netlink::EXPECTED);
        let Some(own) = own else {
            return self.end(cx, CloseReason::Script);
        };
        let own = own.unwrap_or_default();
        if own.groups != 0 && self.settings.idle_timeout.is_none() {
            // WHY: who waits for changes waits for as long as there are none.
            self.idle = Duration::ZERO;
        }
        self.tell("connecting", None);
        let careful = self.matters();
        let pipeline = if self.direct { cx.pipeline() } else { cx.open(Vec::new(), ONLY) };
        cx.connect_netlink(
            pipeline,
            NetlinkTo { family: self.settings.netlink_family, peer, own, tell: careful },
        );
        self.begun(cx, pipeline, careful);
    }

    /// Whether someone wants to know that the connection is made.
    fn matters(&self) -> bool {
        self.settings.retries != Some(0) || self.settings.on_state.is_some()
    }

    /// The connection is being made, through this pipeline.
    fn begun(&mut self, cx: &mut Cx<'_>, pipeline: PipelineId, careful: bool) {
        let sub = (!self.direct).then_some(pipeline);
        if careful {
            self.state = State::Connecting(sub);
        } else {
            self.state = State::Open(sub);
            self.watch(cx);
            std::mem::take(&mut self.held).into_iter().for_each(|event| self.send_on(cx, event));
        }
    }

    /// There is a connection.
    fn made(&mut self, cx: &mut Cx<'_>, sub: Option<PipelineId>) {
        self.state = State::Open(sub);
        self.watch(cx);
        self.tell("connected", None);
        std::mem::take(&mut self.held).into_iter().for_each(|event| self.send_on(cx, event));
    }

    fn watch(&mut self, cx: &mut Cx<'_>) {
        (self.last_active, self.last_read) = (Some(cx.now()), Some(cx.now()));
        for (time, token) in [(self.idle, TIMER_IDLE), (self.settings.read_timeout, TIMER_READ)] {
            if !time.is_zero() {
                cx.timer(time, token);
            }
        }
    }

    fn send_on(&mut self, cx: &mut Cx<'_>, event: Event) {
        // WHY: the kernel refuses an empty packet, and scripts begin connections with one.
        if self.settings.protocol == Protocol::Netlink
            && matches!(&event, Event::Data(data) if data.is_empty())
        {
            return;
        }
        match self.state {
            State::Open(Some(sub)) => cx.send(sub, event),
            State::Open(None) => cx.forward(event),
            _ => {}
        }
    }

    fn came_back(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let (State::Connecting(sub), Event::Resume) = (&self.state, &event) {
            let sub = *sub;
            return self.made(cx, sub);
        }
        self.last_active = Some(cx.now());
        match &event {
            Event::Data(_) => self.last_read = self.last_active,
            Event::Pause => {
                self.congested = self.last_active;
                if !self.settings.write_timeout.is_zero() {
                    cx.timer(self.settings.write_timeout, TIMER_WRITE);
                }
            }
            Event::Resume => self.congested = None,
            _ => {}
        }
        match event {
            // The other direction may still be open.
            Event::Close(reason) if !reason.is_clean() => self.failed(cx, reason),
            event if self.direct => cx.back(event),
            event => came_out(cx, event),
        }
    }

    /// It failed; where it was not made, it may be tried again.
    fn failed(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.listed = None;
        let unmade = match std::mem::replace(&mut self.state, State::Over) {
            State::Connecting(sub) => {
                if let Some(sub) = sub {
                    cx.destroy(sub);
                }
                true
            }
            State::Resolving(..) => true,
            state => {
                self.state = state;
                false
            }
        };
        if unmade && self.settings.retries.is_none_or(|most| self.tries < most) {
            self.tries = self.tries.saturating_add(1);
            self.state = State::Waiting;
            // LIMIT: a server that refuses at once must not keep the worker busy.
            cx.timer(self.settings.retry_delay.max(Duration::from_millis(1)), TIMER_RETRY);
            return;
        }
        self.end(cx, reason);
    }

    fn end(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.listed = None;
        if let State::Open(Some(sub)) | State::Connecting(Some(sub)) =
            std::mem::replace(&mut self.state, State::Over)
        {
            cx.destroy(sub);
        }
        self.held.clear();
        self.tell("closed", error_name(reason));
        let close = Event::Close(reason);
        if self.direct { cx.back(close) } else { cx.forward(close) }
    }

    /// Nothing has moved, come or gone for too long.
    fn expired(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        if self.direct {
            cx.forward(Event::Close(CloseReason::Reset));
        }
        self.end(cx, reason);
    }

    /// Tells the script in which state it is.
    fn tell(&mut self, state: &str, error: Option<&str>) {
        let Some(on_state) = self.settings.on_state.clone() else { return };
        if state == "closed" {
            self.settings.on_state = None;
        }
        let (to, address) = (self.to.clone(), self.address);
        let protocol = self.settings.protocol.name();
        self.def.asker.ask(
            &self.scope,
            &on_state,
            |ctx, _| {
                let outbound = Object::new(ctx.clone())?;
                outbound.set("state", state)?;
                outbound.set("protocol", protocol)?;
                outbound.set("error", error)?;
                let host = match to {
                    Some(To::Host(host, _)) => Some(host),
                    Some(To::Netlink(peer)) => Some(format!("pid={};groups={}", peer.pid, peer.groups)),
                    None => None,
                };
                outbound.set("remoteAddress", address.map(|address| address.ip().to_string()).or(host))?;
                outbound.set("remotePort", address.map(|address| address.port()))?;
                Ok(vec![outbound.into_value()])
            },
            |_, _, _| Ok(()),
        );
    }
}

impl Filter for Connection {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if self.def.fixed {
            self.begin(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let event = match event {
            Event::Start(..) | Event::End(_) => return,
            Event::Custom(custom) => match custom.plain() {
                Some(event) => event,
                None => return,
            },
            event => event,
        };
        if matches!(self.state, State::New) && !matches!(event, Event::Pause | Event::Resume) {
            if matches!(event, Event::Close(_)) {
                self.state = State::Over;
                return if self.direct { cx.back(event) } else { cx.forward(event) };
            }
            self.begin(cx);
        }
        self.last_active = Some(cx.now());
        match &mut self.state {
            State::Resolving(..) | State::Connecting(_) | State::Waiting => match event {
                // Nobody wants the connection any more: trying again would be for no one.
                Event::Close(reason) if !reason.is_clean() => self.end(cx, reason),
                event => self.held.push(event),
            },
            _ => self.send_on(cx, event),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.direct { self.came_back(cx, event) } else { cx.back(event) }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        self.came_back(cx, event);
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let State::Resolving(work, port) = self.state else { return };
        let Some(found) = self.scope.engine().result::<Option<IpAddr>>(work) else { return };
        match found.flatten() {
            Some(ip) => {
                self.connect(cx, SocketAddr::new(ip, port));
            }
            None => self.failed(cx, CloseReason::CannotResolve),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        if token == TIMER_RETRY {
            if matches!(self.state, State::Waiting) {
                self.find(cx);
            }
            return;
        }
        if !matches!(self.state, State::Open(_)) {
            return;
        }
        let settings = &self.settings;
        let (since, limit, reason) = match token {
            TIMER_IDLE => (self.last_active, self.idle, CloseReason::IdleTimeout),
            TIMER_READ => (self.last_read, settings.read_timeout, CloseReason::ReadTimeout),
            _ => (self.congested, settings.write_timeout, CloseReason::WriteTimeout),
        };
        let Some(since) = since else { return };
        let passed = cx.now().saturating_duration_since(since);
        match limit.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => drop(cx.timer(left, token)),
            None => self.expired(cx, reason),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(Some(sub)) | State::Connecting(Some(sub)) => cx.close(sub),
            State::Resolving(work, _) => self.scope.engine().forget(work),
            _ => {}
        }
        self.tell("closed", None);
    }
}
