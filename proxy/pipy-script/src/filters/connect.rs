//! `connect`: what goes in is sent to an address, what it answers goes on.
//!
//! The address is asked for at the first event, or at once where it is fixed, for a server may speak first. A name is looked up
//! on another thread; what is to be sent waits. Where the filter ends a row of two directions it stands in that row itself,
//! elsewhere the connection has a pipeline of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Result, Value};

use super::datagrams::{Framed, Unframed};
use super::sub::{Nested, ONLY, came_out};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};
use crate::log;
use crate::objects::connections::{Listed, list_outbound};

#[derive(Clone)]
struct Connect {
    to: Kept,
    fixed: bool,
    label: String,
    udp: bool,
    source: Option<IpAddr>,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let to = reading.kept(0).ok_or_else(|| reading.refuse("expects an address"))?;
    let mut connect = Connect {
        to,
        fixed: reading.callback(0).is_none(),
        label: reading.label.clone(),
        udp: false,
        source: None,
        connect_timeout: Duration::ZERO,
        idle_timeout: Duration::from_secs(60),
    };
    if let Some(options) = reading.options(1) {
        connect.udp = options.get::<_, Option<String>>("protocol")?.as_deref() == Some("udp");
        if let Some(time) = duration(&options.get("connectTimeout")?) {
            connect.connect_timeout = time;
        }
        if let Some(time) = duration(&options.get("idleTimeout")?) {
            connect.idle_timeout = time;
        }
        let bind: Value<'_> = options.get("bind")?;
        if let Some(bind) = bind.as_string() {
            let bind = bind.to_string()?;
            let host = bind.parse().or_else(|_| bind.parse::<SocketAddr>().map(|address| address.ip()));
            connect.source = Some(host.map_err(|_| reading.refuse("option bind expects an IP address"))?);
        }
    }
    Ok(Rc::new(connect))
}

/// A number of seconds, or a text such as `100ms`, `5s`, `2m`, `1h`.
pub(crate) fn duration(value: &Value<'_>) -> Option<Duration> {
    if let Some(seconds) = value.as_number() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let text = value.as_string()?.to_string().ok()?;
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * factor).ok()
}

impl Connect {
    fn instance(&self, scope: &Scope, direct: bool) -> Box<dyn Filter> {
        Box::new(Connection {
            def: self.clone(),
            direct,
            state: State::New,
            last_active: None,
            listed: None,
            scope: scope.clone(),
        })
    }
}

impl FilterDef for Connect {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        if self.udp {
            let row: Vec<Box<dyn Filter>> = vec![
                Box::new(Unframed::default()),
                self.instance(scope, false),
                Box::new(Framed::new(scope)),
            ];
            return Box::new(Nested::turning("connect", row));
        }
        self.instance(scope, false)
    }

    fn native(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        (!self.udp).then(|| vec![self.instance(scope, true)])
    }
}

enum State {
    New,
    /// The name is being looked up: the number of that work, the port, what is to be sent.
    Resolving(u64, u16, Vec<Event>),
    /// Connected or connecting; through a pipeline of its own unless it is direct.
    Open(Option<PipelineId>),
    Over,
}

struct Connection {
    def: Connect,
    /// It is the last filter of a row of two directions.
    direct: bool,
    state: State,
    last_active: Option<Instant>,
    /// In `pipy.outbound`, while it is open.
    listed: Option<Listed>,
    scope: Scope,
}

impl Connection {
    fn address(&self) -> std::result::Result<String, crate::ScriptError> {
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.look(ctx, &self.scope.vars)?;
            let mut value = self.def.to.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            Ok(value.get::<Coerced<String>>()?.0)
        })
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let said = match self.address() {
            Ok(said) => said,
            Err(error) => {
                log::line("ERR", &format!("{}: connect: {error}", self.def.label));
                return self.over(cx, CloseReason::Script);
            }
        };
        let Some((host, port)) = host_and_port(&said) else {
            let text = format!("{}: connect: {said:?} is no address, host:port is", self.def.label);
            log::line("ERR", &text);
            return self.over(cx, CloseReason::CannotResolve);
        };
        if let Some(ip) = literal(host) {
            return self.connect(cx, SocketAddr::new(ip, port));
        }
        let name = host.to_owned();
        let waker = cx.waker(0);
        // The resolver of the system may wait for servers for seconds: a thread may, a worker must not.
        let work = self.scope.engine().in_background(waker, move || {
            let found = (name.as_str(), port).to_socket_addrs().ok();
            found.and_then(|mut found| found.next()).map(|address| address.ip())
        });
        self.state = State::Resolving(work, port, Vec::new());
    }

    fn connect(&mut self, cx: &mut Cx<'_>, address: SocketAddr) {
        let def = &self.def;
        let to =
            ConnectTo { address, source: def.source, also: None, timeout: def.connect_timeout, tell: false };
        let own = if self.direct { cx.pipeline() } else { cx.open(Vec::new(), ONLY) };
        if def.udp {
            cx.connect_datagrams(own, to)
        } else {
            cx.connect(own, to)
        };
        self.state = State::Open((!self.direct).then_some(own));
        self.listed = Some(list_outbound(address, if def.udp { "udp" } else { "tcp" }));
        self.last_active = Some(cx.now());
        if !self.def.idle_timeout.is_zero() {
            cx.timer(self.def.idle_timeout, 0);
        }
    }

    fn send_on(&mut self, cx: &mut Cx<'_>, event: Event) {
        match self.state {
            State::Open(Some(sub)) => cx.send(sub, event),
            State::Open(None) => cx.forward(event),
            _ => {}
        }
    }

    fn came_back(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.last_active = Some(cx.now());
        match event {
            // The other direction may still be open.
            Event::Close(reason) if !reason.is_clean() => self.over(cx, reason),
            event if self.direct => cx.back(event),
            event => came_out(cx, event),
        }
    }

    fn over(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.listed = None;
        if let State::Open(Some(sub)) = std::mem::replace(&mut self.state, State::Over) {
            cx.destroy(sub);
        }
        let close = Event::Close(reason);
        if self.direct { cx.back(close) } else { cx.forward(close) }
    }
}

/// An address that needs no resolver.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { bare.parse().ok() }
}

/// `host:port`, with the port behind the last colon.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty()).then_some(())?;
    Some((host, port.parse().ok()?))
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
            State::Resolving(_, _, held) => held.push(event),
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
        let State::Resolving(work, port, _) = self.state else { return };
        let Some(found) = self.scope.engine().result::<Option<IpAddr>>(work) else { return };
        let State::Resolving(_, _, held) = std::mem::replace(&mut self.state, State::Over) else { return };
        match found.flatten() {
            Some(ip) => {
                self.connect(cx, SocketAddr::new(ip, port));
                held.into_iter().for_each(|event| self.send_on(cx, event));
            }
            None => self.over(cx, CloseReason::CannotResolve),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let (State::Open(_), Some(last)) = (&self.state, self.last_active) else { return };
        let idle = cx.now().saturating_duration_since(last);
        match self.def.idle_timeout.checked_sub(idle).filter(|left| !left.is_zero()) {
            Some(left) => drop(cx.timer(left, 0)),
            None => {
                if self.direct {
                    cx.forward(Event::Close(CloseReason::Reset));
                }
                self.over(cx, CloseReason::IdleTimeout);
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(Some(sub)) => cx.close(sub),
            State::Resolving(work, ..) => self.scope.engine().forget(work),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_at_the_last_colon() {
        assert_eq!(host_and_port("a.b:80"), Some(("a.b", 80)));
        assert_eq!(host_and_port("[::1]:80"), Some(("[::1]", 80)));
        for bad in ["a.b", ":80", "a:http", "a:99999"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
        assert_eq!(literal("[::1]"), "::1".parse().ok());
        assert_eq!(literal("localhost"), "127.0.0.1".parse().ok());
        assert_eq!(literal("example"), None);
    }
}
