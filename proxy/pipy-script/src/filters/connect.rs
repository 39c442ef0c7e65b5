//! `connect`: what goes in is sent to an address, what it answers goes on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use pipy_pipeline::{CloseReason, ConnectTo, Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Result, Value};

use super::sub::{ONLY, came_out};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};
use crate::log;

/// How often the answer of the resolver is looked for.
const ASK_AGAIN: Duration = Duration::from_millis(2);

struct Connect {
    to: Kept,
    label: String,
    udp: bool,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let to = reading.kept(0).ok_or_else(|| reading.refuse("expects an address"))?;
    let (mut udp, mut connect_timeout, mut idle_timeout) = (false, Duration::ZERO, Duration::from_secs(60));
    if let Some(options) = reading.options(1) {
        udp = options.get::<_, Option<String>>("protocol")?.as_deref() == Some("udp");
        connect_timeout = duration(&options.get("connectTimeout")?).unwrap_or(connect_timeout);
        idle_timeout = duration(&options.get("idleTimeout")?).unwrap_or(idle_timeout);
    }
    Ok(Rc::new(Connect { to, label: reading.label.clone(), udp, connect_timeout, idle_timeout }))
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

impl FilterDef for Connect {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Connection {
            to: self.to.clone(),
            label: self.label.clone(),
            udp: self.udp,
            connect_timeout: self.connect_timeout,
            _idle_timeout: self.idle_timeout,
            scope: scope.clone(),
            state: State::New,
        })
    }
}

enum State {
    New,
    /// The name is being looked up; what is to be sent.
    Resolving(Receiver<Option<IpAddr>>, u16, Vec<Event>),
    Open(PipelineId),
    Over,
}

struct Connection {
    to: Kept,
    label: String,
    udp: bool,
    connect_timeout: Duration,
    _idle_timeout: Duration,
    scope: Scope,
    state: State,
}

impl Connection {
    fn address(&self) -> std::result::Result<String, crate::ScriptError> {
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = self.to.clone().restore(ctx)?;
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
                log::line("ERR", &format!("{}: connect: {error}", self.label));
                return self.over(cx, CloseReason::Script);
            }
        };
        let Some((host, port)) = host_and_port(&said) else {
            log::line("ERR", &format!("{}: connect: {said:?} is no address", self.label));
            return self.over(cx, CloseReason::CannotResolve);
        };
        if let Some(ip) = literal(host) {
            return self.connect(cx, SocketAddr::new(ip, port));
        }
        let (sender, receiver) = channel();
        let name = host.to_owned();
        // The resolver of the system may wait for servers for seconds: a thread may, a worker must not.
        let looked_up = std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs().ok();
            let _ = sender.send(found.and_then(|mut found| found.next()).map(|address| address.ip()));
        });
        if looked_up.is_err() {
            return self.over(cx, CloseReason::CannotResolve);
        }
        self.state = State::Resolving(receiver, port, Vec::new());
        cx.timer(ASK_AGAIN, 0);
    }

    fn connect(&mut self, cx: &mut Cx<'_>, address: SocketAddr) {
        let to = ConnectTo { address, source: None, timeout: self.connect_timeout, tell: false };
        let sub = cx.open(Vec::new(), ONLY);
        if self.udp {
            cx.connect_datagrams(sub, to)
        } else {
            cx.connect(sub, to)
        };
        self.state = State::Open(sub);
    }

    fn over(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.state = State::Over;
        cx.forward(Event::Close(reason));
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

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(self.state, State::New) && !matches!(event, Event::Pause | Event::Resume) {
            self.begin(cx);
        }
        match &mut self.state {
            State::Open(sub) => {
                let sub = *sub;
                cx.send(sub, event);
            }
            State::Resolving(_, _, held) => held.push(event),
            State::New | State::Over => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if matches!(event, Event::Close(_)) {
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                // The other direction may still be open.
                State::Open(sub) if matches!(event, Event::Close(CloseReason::Finished)) => State::Open(sub),
                _ => State::Over,
            };
        }
        came_out(cx, event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let State::Resolving(receiver, port, held) = &mut self.state else { return };
        match receiver.try_recv() {
            Err(TryRecvError::Empty) => drop(cx.timer(ASK_AGAIN, 0)),
            Ok(Some(ip)) => {
                let (address, held) = (SocketAddr::new(ip, *port), std::mem::take(held));
                self.connect(cx, address);
                held.into_iter().for_each(|event| self.input(cx, event));
            }
            Ok(None) | Err(TryRecvError::Disconnected) => self.over(cx, CloseReason::CannotResolve),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Open(sub) = std::mem::replace(&mut self.state, State::Over) {
            cx.close(sub);
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
