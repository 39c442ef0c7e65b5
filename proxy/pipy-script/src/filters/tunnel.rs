//! `acceptHTTPTunnel` and `connectHTTPTunnel`: bytes behind a CONNECT or an Upgrade that was agreed to.

use std::rc::Rc;

use bytes::BytesMut;
use pipy_http::{BodyLength, Method, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, PipelineId, Slot};
use rquickjs::Result;

use super::ask::{Answer, Asker, failed};
use super::handshake::Way;
use super::sub::{ONLY, came_out};
use super::values::{is_close, is_end, is_start, whole};
use crate::engine::{Kept, Outcome};
use crate::events::{ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};

#[derive(Clone)]
struct Tunnel {
    handshake: Kept,
    /// `connectHTTPTunnel`: told in which state the tunnel is.
    on_state: Option<Kept>,
    target: Target,
    asker: Asker,
}

fn tunnel(reading: &Reading<'_, '_>) -> Result<Tunnel> {
    let handshake = reading.kept(0).ok_or_else(|| reading.refuse("expects a message or a function"))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Tunnel { handshake, on_state: None, target: reading.needed()?, asker })
}

struct AcceptDef(Tunnel);

pub(super) fn accept(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(AcceptDef(tunnel(reading)?)))
}

impl FilterDef for AcceptDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Accept {
            def: self.0.clone(),
            start: None,
            connect: false,
            waiting: None,
            held: Vec::new(),
            sub: None,
            scope: scope.clone(),
        })
    }
}

struct Accept {
    def: Tunnel,
    /// The request, until it is complete.
    start: Option<(Event, BytesMut)>,
    connect: bool,
    waiting: Option<Outcome>,
    held: Vec<Event>,
    sub: Option<PipelineId>,
    scope: Scope,
}

impl Accept {
    fn ask(&mut self, cx: &mut Cx<'_>, start: &Event, body: BytesMut, end: &Event) {
        let def = self.def.clone();
        let answer = def.asker.events(cx, &self.scope, &def.handshake, |ctx, makers| {
            Ok(vec![whole(ctx, makers, start, body.freeze(), end)?])
        });
        match answer {
            Some(Answer::Events(events)) => self.answer(cx, events),
            Some(Answer::Later(outcome)) => self.waiting = Some(outcome),
            None => cx.forward(failed()),
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, mut events: Vec<Event>) {
        let first = if events.is_empty() { None } else { Some(events.remove(0)) };
        let head = match first.as_ref().map(|first| (first, script_event(first))) {
            // Saying nothing is agreeing.
            None => ResponseHead::new(200),
            Some((_, Some(ScriptEvent::Start(head, _)))) => {
                let engine = self.scope.engine();
                match engine.response_head(head) {
                    Ok(head) => *head,
                    Err(error) => {
                        self.def.asker.complain(&error);
                        return cx.forward(failed());
                    }
                }
            }
            Some((Event::Start(Head::Response(head), _), _)) => (**head).clone(),
            Some(_) => {
                // The end of the stream, most likely.
                return first.into_iter().chain(events).for_each(|event| cx.forward(event));
            }
        };
        let agreed = if self.connect { head.status / 100 == 2 } else { head.status == 101 };
        if !agreed {
            return first.into_iter().chain(events).for_each(|event| cx.forward(event));
        }
        cx.forward(Event::Start(Head::Response(Box::new(head)), BodyLength::None));
        let Some(layout) = self.def.target.layout() else { return };
        let sub = cx.open_turning(layout.pipeline(&self.scope, Vec::new()), ONLY);
        self.sub = Some(sub);
        std::mem::take(&mut self.held).into_iter().for_each(|event| cx.send(sub, event));
    }
}

impl Filter for Accept {
    fn name(&self) -> &'static str {
        "acceptHTTPTunnel"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(sub) = self.sub {
            return cx.send(sub, event);
        }
        match (event, &mut self.start) {
            (event @ (Event::Pause | Event::Resume), _) => cx.forward(event),
            (event, _) if self.waiting.is_some() => self.held.push(event),
            (event, _) if is_start(&event) => {
                let connect =
                    |head: &Head| matches!(head, Head::Request(head) if head.method == Method::Connect);
                self.connect = matches!(&event, Event::Start(head, _) if connect(head));
                self.start = Some((event, BytesMut::new()));
            }
            (Event::Data(data), Some((_, body))) => body.extend_from_slice(&data),
            (end, _) if is_end(&end) => {
                if let Some((start, body)) = self.start.take() {
                    self.ask(cx, &start, body, &end);
                }
            }
            (event, _) => cx.forward(event),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let Some(outcome) = &self.waiting else { return };
        let Some(settled) = self.def.asker.later(&self.scope, outcome) else { return };
        self.waiting = None;
        match settled {
            Some(events) => self.answer(cx, events),
            None => cx.forward(failed()),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

struct ConnectDef(Tunnel);

pub(super) fn connect(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let mut tunnel = tunnel(reading)?;
    if let Some(options) = reading.settings(1)? {
        tunnel.on_state = options.callback("onState")?;
    }
    Ok(Rc::new(ConnectDef(tunnel)))
}

impl FilterDef for ConnectDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.0.clone(), scope.clone());
        Box::new(Connect { def, way: Way::default(), scope })
    }
}

struct Connect {
    def: Tunnel,
    way: Way,
    scope: Scope,
}

impl Connect {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let def = self.def.clone();
        let handshake = def.asker.events(cx, &self.scope, &def.handshake, |_, _| Ok(Vec::new()));
        let (Some(Answer::Events(events)), Some(layout)) = (handshake, def.target.layout()) else {
            return self.way.fail(cx, CloseReason::Script);
        };
        let sub = self.way.ask(cx, layout.pipeline(&self.scope, Vec::new()));
        self.tell("connecting");
        events.into_iter().for_each(|event| cx.send(sub, event));
    }

    /// Tells the script in which state the tunnel is.
    fn tell(&self, state: &str) {
        let Some(on_state) = &self.def.on_state else { return };
        self.def.asker.ask(
            &self.scope,
            on_state,
            |ctx, _| {
                let tunnel = rquickjs::Object::new(ctx.clone())?;
                tunnel.set("state", state)?;
                Ok(vec![tunnel.into_value()])
            },
            |_, _, _| Ok(()),
        );
    }
}

impl Filter for Connect {
    fn name(&self) -> &'static str {
        "connectHTTPTunnel"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.way.is_new() && !matches!(event, Event::Pause | Event::Resume) {
            self.begin(cx);
        }
        self.way.pass(cx, event);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if self.way.is_over() {
            return;
        }
        match event {
            Event::Start(Head::Response(head), _) if !self.way.is_open() => {
                if head.is_interim() {
                    return;
                }
                if head.status / 100 != 2 && head.status != 101 {
                    return self.way.fail(cx, CloseReason::Denied);
                }
                self.tell("connected");
                self.way.agreed(cx);
            }
            Event::Start(..) | Event::End(_) => {}
            event if is_close(&event) && !self.way.is_open() => self.way.fail(cx, CloseReason::ConnectFailed),
            event => came_out(cx, event),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if !self.way.is_new() {
            self.tell("closed");
        }
        self.way.closed(cx);
    }
}
