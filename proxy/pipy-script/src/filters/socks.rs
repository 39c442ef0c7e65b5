//! `acceptSOCKS` and `connectSOCKS`: the handshake of SOCKS 4, 4a and 5, then bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use pipy_protocols::socks::{Client, ClientStep, Host, Refusal, Request, Server, ServerStep};
use rquickjs::{Coerced, Ctx, IntoJs, Object, Result, Value};

use super::ask::Asker;
use super::handshake::Way;
use super::sub::{ONLY, came_out};
use super::values::is_close;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

#[derive(Clone)]
struct Socks {
    what: Kept,
    /// The callback takes `(host, port, id)`, as it did before 1.0.
    old: bool,
    target: Target,
    asker: Asker,
}

fn socks(reading: &Reading<'_, '_>) -> Result<Socks> {
    let what = reading.kept(0).ok_or_else(|| reading.refuse("expects an argument"))?;
    let function = reading.args.first().and_then(|value| value.as_object());
    let declared =
        function.map_or(Ok(0), |function| function.get::<_, Coerced<i32>>("length").map(|l| l.0))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Socks { what, old: declared >= 2, target: reading.needed()?, asker })
}

struct AcceptDef(Socks);

pub(super) fn accept(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    if reading.callback(0).is_none() {
        return Err(reading.refuse("expects a function that says whether a target may be reached"));
    }
    Ok(Rc::new(AcceptDef(socks(reading)?)))
}

impl FilterDef for AcceptDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.0.clone(), scope.clone());
        Box::new(Accept { def, server: Server::new(), sub: None, over: false, scope })
    }
}

struct Accept {
    def: Socks,
    server: Server,
    sub: Option<PipelineId>,
    over: bool,
    scope: Scope,
}

impl Accept {
    fn step(&mut self, cx: &mut Cx<'_>, step: std::result::Result<ServerStep, pipy_protocols::Error>) {
        match step {
            Ok(ServerStep::Wait) => {}
            Ok(ServerStep::Send(bytes)) => {
                cx.forward(Event::Data(bytes));
                let next = self.server.go_on();
                self.step(cx, next);
            }
            // Nobody is asked for a password here.
            Ok(ServerStep::Check { .. }) => {
                cx.forward(Event::Data(self.server.authenticated(false)));
                self.end(cx, CloseReason::Finished);
            }
            Ok(ServerStep::Request(request)) => self.request(cx, &request),
            Ok(ServerStep::Fail(bytes, error)) => {
                self.def.asker.complain(&error);
                cx.forward(Event::Data(bytes));
                self.end(cx, CloseReason::Finished);
            }
            Err(error) => {
                self.def.asker.complain(&error);
                self.end(cx, CloseReason::Protocol);
            }
        }
    }

    fn request(&mut self, cx: &mut Cx<'_>, request: &Request) {
        let def = self.def.clone();
        let agreed = def.asker.ask(
            &self.scope,
            &def.what,
            |ctx, _| arguments(ctx, request, def.old),
            |_, _, value| Ok(value.get::<Coerced<bool>>()?.0),
        );
        let (Some(true), Some(layout)) = (agreed, def.target.layout()) else {
            cx.forward(Event::Data(self.server.refuse(Refusal::NotAllowed)));
            return self.end(cx, CloseReason::Finished);
        };
        let bound = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        cx.forward(Event::Data(self.server.accept(bound)));
        let sub = cx.open_turning(layout.pipeline(&self.scope, Vec::new()), ONLY);
        self.sub = Some(sub);
        let rest = self.server.rest();
        // The first event opens what is behind, for a server may speak first.
        cx.send(sub, Event::Data(rest));
    }

    fn end(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        cx.forward(Event::Close(reason));
    }
}

fn arguments<'js>(ctx: &Ctx<'js>, request: &Request, old: bool) -> Result<Vec<Value<'js>>> {
    let (ip, domain) = match &request.host {
        Host::Ip(ip) => (Some(ip.to_string()), None),
        Host::Domain(domain) => (None, Some(domain.clone())),
    };
    if old {
        let host = ip.or(domain).unwrap_or_default();
        return Ok(vec![host.into_js(ctx)?, request.port.into_js(ctx)?, request.id.as_str().into_js(ctx)?]);
    }
    let shown = Object::new(ctx.clone())?;
    shown.set("id", request.id.as_str())?;
    shown.set("ip", ip)?;
    shown.set("domain", domain)?;
    shown.set("port", request.port)?;
    Ok(vec![shown.into_value()])
}

impl Filter for Accept {
    fn name(&self) -> &'static str {
        "acceptSOCKS"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (self.sub, event) {
            (Some(sub), event) => cx.send(sub, event),
            (None, Event::Data(data)) if !self.over => {
                let step = self.server.push(data);
                self.step(cx, step);
            }
            (None, Event::Data(_)) => {}
            (None, event) => cx.forward(event),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

struct ConnectDef(Socks);

pub(super) fn connect(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(ConnectDef(socks(reading)?)))
}

impl FilterDef for ConnectDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.0.clone(), scope.clone());
        Box::new(Connect { def, client: None, way: Way::default(), scope })
    }
}

struct Connect {
    def: Socks,
    client: Option<Client>,
    way: Way,
    scope: Scope,
}

impl Connect {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let def = self.def.clone();
        let address = def.asker.ask(
            &self.scope,
            &def.what,
            |_, _| Ok(Vec::new()),
            |_, _, value| Ok(value.get::<Coerced<String>>()?.0),
        );
        let Some(address) = address else { return self.way.fail(cx, CloseReason::Script) };
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parts else {
            def.asker.complain(&format!("{address:?} is no address, host:port is"));
            return self.way.fail(cx, CloseReason::CannotResolve);
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = bare.parse().map_or_else(|_| Host::Domain(bare.to_owned()), Host::Ip);
        match (Client::new(&host, port, None), def.target.layout()) {
            (Ok((client, hello)), Some(layout)) => {
                let sub = self.way.ask(cx, layout.pipeline(&self.scope, Vec::new()));
                self.client = Some(client);
                cx.send(sub, Event::Data(hello));
            }
            (Err(error), _) => {
                def.asker.complain(&error);
                self.way.fail(cx, CloseReason::Script);
            }
            (_, None) => self.way.fail(cx, CloseReason::Script),
        }
    }

    fn heard(&mut self, cx: &mut Cx<'_>, data: Bytes) {
        let (Some(client), Some(sub)) = (&mut self.client, self.way.sub()) else { return };
        match client.push(data) {
            Ok(ClientStep::Wait) => {}
            Ok(ClientStep::Send(bytes)) => cx.send(sub, Event::Data(bytes)),
            Ok(ClientStep::Connected) => {
                let rest = client.rest();
                self.way.agreed(cx);
                if !rest.is_empty() {
                    cx.forward(Event::Data(rest));
                }
            }
            Err(error) => {
                self.def.asker.complain(&error);
                self.way.fail(cx, CloseReason::Denied);
            }
        }
    }
}

impl Filter for Connect {
    fn name(&self) -> &'static str {
        "connectSOCKS"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.way.is_new() && !matches!(event, Event::Pause | Event::Resume) {
            self.begin(cx);
        }
        self.way.pass(cx, event);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        match event {
            _ if self.way.is_over() => {}
            Event::Data(data) if !self.way.is_open() => self.heard(cx, data),
            event if is_close(&event) && !self.way.is_open() => self.way.fail(cx, CloseReason::ConnectFailed),
            event => came_out(cx, event),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.way.closed(cx);
    }
}
