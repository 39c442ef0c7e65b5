//! `loop`, `swap`, `input` and `output`: events that go to another place of the graph.
//!
//! `loop` gives what its sub-pipeline produces both on and back into it. `swap` exchanges with every other pipeline at the same hub;
//! what comes before anybody else is there waits. `input` hands a callback what `output` elsewhere sends its events to.
//!
//! INVARIANTS: what is sent to a pipeline that has gone is dropped; a hub that nobody is at is forgotten; once the worker drains, a
//! pipeline stays at its hub only for as long as something moves there.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Port, Slot};
use rquickjs::Result;

use super::ask::{Asker, failed};
use super::sub::{ONLY, came_out};
use super::values::{duplicate, is_close};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

/// LIMIT: events that wait at a hub for somebody.
const WAITING_MAX: usize = 1024;

/// How long nothing has moved where a drain takes an exchange for over. Bytes do not say whether more will follow; clients of a
/// hub often stay for hours, and each of them would hold the worker.
const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// Who is at a hub, and what waits there for the first who comes.
#[derive(Default)]
pub(crate) struct Hub {
    ports: Vec<Port>,
    waiting: VecDeque<Event>,
}

#[derive(Clone)]
struct Def {
    asker: Asker,
    /// `loop`, `input`: where to.
    target: Option<Target>,
    /// `swap`: the hub. `input`, `output`: the callback.
    with: Option<Kept>,
}

fn def(reading: &Reading<'_, '_>) -> Def {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Def { asker, target: reading.target.clone(), with: reading.kept(0) }
}

struct LoopDef(Def);
struct SwapDef(Def);
struct InputDef(Def);
struct OutputDef(Def);

pub(super) fn looping(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    reading.needed()?;
    Ok(Rc::new(LoopDef(def(reading))))
}

pub(super) fn swap(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let def = def(reading);
    if def.with.is_none() {
        return Err(reading.refuse("expects a Hub, or a function that returns one"));
    }
    Ok(Rc::new(SwapDef(def)))
}

pub(super) fn input(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    reading.needed()?;
    Ok(Rc::new(InputDef(def(reading))))
}

pub(super) fn output(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(OutputDef(def(reading))))
}

/// The filter at a hub that a callback of `link` has returned.
pub(super) fn at(hub: Kept, scope: &Scope, label: &str) -> Box<dyn Filter> {
    let asker = Asker { name: "link", label: label.to_owned() };
    let def = Def { asker, target: None, with: Some(hub) };
    Box::new(Swap::new(def, scope))
}

impl FilterDef for LoopDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Loop { def: self.0.clone(), scope: scope.clone(), sub: None })
    }
}

impl FilterDef for SwapDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Swap::new(self.0.clone(), scope))
    }
}

impl FilterDef for InputDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Input { def: self.0.clone(), scope: scope.clone(), sub: None, handle: None })
    }
}

impl FilterDef for OutputDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Output { def: self.0.clone(), scope: scope.clone(), port: None })
    }
}

struct Loop {
    def: Def,
    scope: Scope,
    sub: Option<PipelineId>,
}

impl Filter for Loop {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        if self.sub.is_none() {
            let Some(layout) = self.def.target.as_ref().and_then(Target::layout) else { return };
            self.sub = Some(cx.open_turning(layout.pipeline(&self.scope, Vec::new()), ONLY));
        }
        if let Some(sub) = self.sub {
            cx.send(sub, event);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        // The end goes round once, and out.
        if !is_close(&event)
            && let (Some(sub), Some(copy)) = (self.sub, duplicate(&event))
        {
            cx.send(sub, copy);
        }
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

struct Swap {
    def: Def,
    scope: Scope,
    hub: Option<String>,
    /// Something went between this pipeline and another.
    exchanged: bool,
    /// What came in has ended.
    over: bool,
    /// The other has ended.
    answered: bool,
    /// When something came or went last.
    moved: Option<Instant>,
}

impl Swap {
    fn new(def: Def, scope: &Scope) -> Self {
        let scope = scope.clone();
        Swap { def, scope, hub: None, exchanged: false, over: false, answered: false, moved: None }
    }

    fn attach(&mut self, cx: &mut Cx<'_>) {
        let Some(with) = &self.def.with else { return };
        let engine = Rc::clone(self.scope.engine());
        let hub = self.def.asker.ask(
            &self.scope,
            with,
            |_, _| Ok(Vec::new()),
            |ctx, _, value| match value.is_object() {
                true => engine.identity(ctx, &value).map(Some),
                false => Ok(None),
            },
        );
        let Some(Some(hub)) = hub else {
            if hub == Some(None) {
                self.def.asker.complain(&"expects a Hub");
            }
            self.over = true;
            return cx.forward(failed());
        };
        let mut hubs = self.scope.engine().hubs.borrow_mut();
        let there = hubs.entry(hub.clone()).or_default();
        if there.ports.is_empty() || there.ports.iter().all(|port| !cx.alive(port.pipeline())) {
            there.ports.clear();
        }
        there.ports.push(cx.port(ONLY));
        let waiting =
            if there.ports.len() > 1 { std::mem::take(&mut there.waiting) } else { VecDeque::new() };
        drop(hubs);
        self.hub = Some(hub);
        waiting.into_iter().for_each(|event| cx.forward(event));
    }

    /// Who else is there.
    fn others(&self, cx: &Cx<'_>) -> Vec<Port> {
        let own = cx.port(ONLY);
        let hubs = self.scope.engine().hubs.borrow();
        let there = self.hub.as_ref().and_then(|hub| hubs.get(hub));
        there
            .map(|there| there.ports.iter().copied().filter(|port| *port != own).collect())
            .unwrap_or_default()
    }

    /// Of two, the other has nobody left; among many, one that goes is none of the others' business.
    fn tell_the_only_other(&self, cx: &mut Cx<'_>, last: Event) {
        if let ([other], true) = (self.others(cx).as_slice(), self.exchanged || cx.draining()) {
            cx.send_to(*other, last);
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        let Some(hub) = self.hub.take() else { return };
        let own = cx.port(ONLY);
        let mut hubs = self.scope.engine().hubs.borrow_mut();
        let Some(there) = hubs.get_mut(&hub) else { return };
        there.ports.retain(|port| *port != own);
        if there.ports.is_empty() {
            hubs.remove(&hub);
        }
    }

    /// Nobody will say anything more here.
    fn end(&mut self, cx: &mut Cx<'_>, last: Event) {
        self.leave(cx);
        cx.forward(last);
    }
}

impl Filter for Swap {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.attach(cx);
        if cx.draining() {
            self.drain(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over || matches!(event, Event::Pause | Event::Resume) {
            return;
        }
        self.moved = Some(cx.now());
        let others = self.others(cx);
        if is_close(&event) {
            self.over = true;
            // What others say still comes, unless there is nobody, or this end is no good one.
            if others.is_empty() || self.answered || !matches!(event, Event::Close(CloseReason::Finished)) {
                if let Some(copy) = duplicate(&event) {
                    self.tell_the_only_other(cx, copy);
                }
                return self.end(cx, event);
            }
            return self.tell_the_only_other(cx, event);
        }
        if others.is_empty() {
            let mut hubs = self.scope.engine().hubs.borrow_mut();
            let there = self.hub.as_ref().and_then(|hub| hubs.get_mut(hub));
            if let Some(there) = there.filter(|there| there.waiting.len() < WAITING_MAX) {
                there.waiting.push_back(event);
            }
            return;
        }
        self.exchanged = true;
        for port in others {
            if let Some(copy) = duplicate(&event) {
                cx.send_to(port, copy);
            }
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if is_close(&event) {
            self.answered = true;
            // Both directions are over.
            if self.over {
                return self.end(cx, event);
            }
        }
        self.exchanged = true;
        self.moved = Some(cx.now());
        cx.forward(event);
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if self.hub.is_none() {
            return;
        }
        // Nobody comes any more; those that still speak with each other may go on.
        if self.others(cx).is_empty() {
            self.over = true;
            return self.end(cx, Event::Close(CloseReason::Finished));
        }
        cx.timer(DRAIN_QUIET, 0);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.hub.is_none() {
            return;
        }
        let passed = self.moved.map_or(DRAIN_QUIET, |moved| cx.now().saturating_duration_since(moved));
        match DRAIN_QUIET.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => drop(cx.timer(left, 0)),
            None => {
                self.over = true;
                self.end(cx, Event::Close(CloseReason::Finished));
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            self.tell_the_only_other(cx, Event::Close(CloseReason::Finished));
        }
        self.leave(cx);
    }
}

/// `input(callback).to(…)`: the callback gets what `output` sends to, as a handle.
struct Input {
    def: Def,
    scope: Scope,
    sub: Option<PipelineId>,
    handle: Option<u32>,
}

impl Input {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let engine = Rc::clone(self.scope.engine());
        let handle = engine.add_port(cx.port(1));
        self.handle = Some(handle);
        if let Some(with) = &self.def.with {
            let told = self.def.asker.ask(
                &self.scope,
                with,
                |ctx, _| {
                    let object = rquickjs::Object::new(ctx.clone())?;
                    object.set("__port", handle)?;
                    Ok(vec![object.into_value()])
                },
                |_, _, _| Ok(()),
            );
            if told.is_none() {
                return cx.forward(failed());
            }
        }
        let Some(layout) = self.def.target.as_ref().and_then(Target::layout) else { return };
        let scope = Scope { output: Some(cx.port(1)), ..self.scope.clone() };
        self.sub = Some(cx.open_turning(layout.pipeline(&scope, Vec::new()), ONLY));
    }
}

impl Filter for Input {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.handle.is_none() {
            self.begin(cx);
        }
        match self.sub {
            Some(sub) => cx.send(sub, event),
            None => cx.forward(event),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        match slot {
            // What the sub-pipeline itself produces goes nowhere but by `output`; its end is the end.
            ONLY if is_close(&event) => cx.forward(event),
            ONLY => {
                if matches!(event, Event::Pause | Event::Resume) {
                    cx.back(event);
                }
            }
            _ => cx.forward(event),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(handle) = self.handle.take() {
            self.scope.engine().remove_port(handle);
        }
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

/// `output([callback])`: to the handle that the callback returns, or to the `input` around.
struct Output {
    def: Def,
    scope: Scope,
    port: Option<Option<Port>>,
}

impl Output {
    fn find(&self) -> Option<Port> {
        let Some(with) = &self.def.with else { return self.scope.output };
        let engine = Rc::clone(self.scope.engine());
        let handle = self.def.asker.ask(
            &self.scope,
            with,
            |_, _| Ok(Vec::new()),
            |_, _, value| value.as_object().map_or(Ok(None), |handle| handle.get::<_, Option<u32>>("__port")),
        );
        let port = handle.flatten().and_then(|handle| engine.port(handle));
        if port.is_none() {
            self.def.asker.complain(&"there is no output of that handle");
        }
        port
    }
}

impl Filter for Output {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return;
        }
        if self.port.is_none() {
            self.port = Some(self.find());
        }
        match self.port.flatten() {
            // The end of this stream is not that of the other.
            Some(port) if !is_close(&event) => cx.send_to(port, event),
            _ if is_close(&event) => cx.forward(event),
            _ => {}
        }
    }
}
