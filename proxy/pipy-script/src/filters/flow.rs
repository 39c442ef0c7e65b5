//! Small filters of flow: `dummy`, `dump`, `print`, `fork`, `wait`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId};
use rquickjs::{Ctx, Persistent, Result, Value};

use super::ask::{Asker, failed};
use super::once::LAST;
use super::values::{as_value, duplicate, is_end, is_start};
use crate::engine::{Callback, Engine, Kept, Outcome};
use crate::events::{ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};
use crate::log;

struct Dummy;

const DUMMY: &str = "dummy";

pub(super) fn dummy(_: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(Dummy))
}

impl FilterDef for Dummy {
    fn filter(&self, _: &Scope) -> Box<dyn Filter> {
        Box::new(Dummy)
    }
}

impl Filter for Dummy {
    fn name(&self) -> &'static str {
        DUMMY
    }

    fn input(&mut self, _: &mut Cx<'_>, _: Event) {}
}

/// LIMIT: bytes of data that a line of `dump` shows.
const DUMP_BYTES_MAX: usize = 512;

#[derive(Clone)]
struct Dump {
    tag: Option<Kept>,
    asker: Asker,
}

pub(super) fn dump(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(Dump { tag: reading.kept(0), asker }))
}

impl FilterDef for Dump {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Dumped { def: self.clone(), scope: scope.clone() })
    }
}

struct Dumped {
    def: Dump,
    scope: Scope,
}

impl Dumped {
    /// What is said of an event; `None` where the script has failed.
    fn line(&self, event: &Event) -> Option<String> {
        let Asker { label, .. } = &self.def.asker;
        let mut line = format!("[dump] [{}]", label.trim_end());
        if let Some(tag) = &self.def.tag {
            let text = |value: Value<'_>| Ok(value.get::<rquickjs::Coerced<String>>()?.0);
            let told =
                self.def.asker.ask(&self.scope, tag, |_, _| Ok(Vec::new()), |_, _, value| text(value))?;
            line.push_str(&format!(" [{told}]"));
        }
        let what = match event {
            Event::Data(data) => {
                let shown = data.get(..DUMP_BYTES_MAX.min(data.len())).unwrap_or_default();
                let more = if shown.len() < data.len() { "…" } else { "" };
                format!("Data [{}] \"{}{more}\"", data.len(), shown.escape_ascii())
            }
            event => {
                let engine = self.scope.engine();
                let shown = engine.with(|ctx| {
                    let value = as_value(ctx, &engine.makers(ctx)?, event)?;
                    let part = |name: &str| -> Result<String> {
                        let part = value.as_object().map(|event| event.get::<_, Value<'_>>(name));
                        let part = part.transpose()?.filter(|part| !part.is_undefined() && !part.is_null());
                        Ok(part.map(|part| format!(" {}", crate::console::show(&part))).unwrap_or_default())
                    };
                    Ok(match () {
                        () if is_start(event) => format!("MessageStart{}", part("head")?),
                        () if is_end(event) => format!("MessageEnd{}{}", part("tail")?, part("payload")?),
                        () => format!("StreamEnd{}", part("error")?),
                    })
                });
                match shown {
                    Ok(shown) => shown,
                    Err(error) => {
                        self.def.asker.complain(&error);
                        return None;
                    }
                }
            }
        };
        Some(format!("{line} {what}"))
    }
}

impl Filter for Dumped {
    fn name(&self) -> &'static str {
        "dump"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if !matches!(event, Event::Pause | Event::Resume) {
            match self.line(&event) {
                Some(line) => log::line("INF", &line),
                None => return cx.forward(failed()),
            }
        }
        cx.forward(event);
    }
}

struct Print;

pub(super) fn print(_: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(Print))
}

impl FilterDef for Print {
    fn filter(&self, _: &Scope) -> Box<dyn Filter> {
        Box::new(Print)
    }
}

impl Filter for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Data(data) = &event {
            // A reader that has gone away is no failure of the pipeline.
            let _ = std::io::stdout().write_all(data);
        }
        cx.forward(event);
    }
}

struct Fork {
    target: Target,
    label: String,
    with: Option<Kept>,
}

pub(super) fn fork(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(Fork { target: reading.needed()?, label: reading.label.clone(), with: reading.kept(0) }))
}

impl FilterDef for Fork {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (target, label, with) = (self.target.clone(), self.label.clone(), self.with.clone());
        let (scope, branches, whole) = (scope.clone(), None, false);
        Box::new(Forked { target, label, with, scope, branches, whole })
    }
}

fn keep<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Kept {
    Persistent::save(ctx, value)
}

struct Forked {
    target: Target,
    label: String,
    with: Option<Kept>,
    scope: Scope,
    branches: Option<Vec<Branch>>,
    /// Whether the branches have all of a message.
    whole: bool,
}

impl Forked {
    /// What each branch is begun with, and whether it has a context of its own.
    fn arguments(&self) -> std::result::Result<(Vec<Vec<Kept>>, bool), crate::ScriptError> {
        let Some(with) = &self.with else { return Ok((vec![Vec::new()], false)) };
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = with.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            let Some(list) = value.as_array() else { return Ok((vec![vec![keep(ctx, value)]], false)) };
            let mut branches = Vec::new();
            for (index, item) in list.iter::<Value<'_>>().enumerate() {
                let index = Value::new_number(ctx.clone(), index as f64);
                branches.push(vec![keep(ctx, item?), keep(ctx, index)]);
            }
            Ok((branches, true))
        })
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let Some(layout) = self.target.layout() else { return };
        match self.arguments() {
            Ok((branches, own)) => {
                let open = |arguments| {
                    let scope = if own { self.scope.cloned() } else { self.scope.clone() };
                    let mut row = layout.pipeline(&scope, arguments);
                    let life = Rc::new(Cell::new(Life::Asked));
                    if scope.host.is_some() {
                        let (engine, life) = (Rc::clone(scope.engine()), Rc::clone(&life));
                        // What a last `dummy` swallows is the end all the same.
                        let names = row.iter().rev().map(|filter| filter.name());
                        let dummy = names.take(2).eq([LAST, DUMMY]);
                        let at = row.len() - if dummy { 2 } else { 0 };
                        row.insert(at, Box::new(BranchEnd { engine, life }));
                    }
                    Branch { pipeline: cx.open_detached(row), life }
                };
                self.branches = Some(branches.into_iter().map(open).collect());
            }
            Err(error) => {
                log::line("ERR", &format!("{}: fork: {error}", self.label));
                self.branches = Some(Vec::new());
            }
        }
    }
}

impl Filter for Forked {
    fn name(&self) -> &'static str {
        "fork"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        if self.branches.is_none() {
            self.begin(cx);
        }
        self.whole |= matches!(event, Event::End(_));
        for branch in self.branches.iter().flatten() {
            if let Some(copy) = duplicate(&event) {
                cx.send(branch.pipeline, copy);
            }
        }
        cx.forward(event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        // WHY: a copy of a request is on its way when the client has its answer and leaves; it would seldom arrive.
        let lives_on = self.whole && self.scope.host.is_some();
        for branch in self.branches.take().into_iter().flatten() {
            if lives_on && branch.life.get() == Life::Asked {
                branch.life.set(Life::Outlived);
            } else {
                cx.close(branch.pipeline);
            }
        }
    }
}

/// One of the pipelines that events are copied to.
struct Branch {
    pipeline: PipelineId,
    life: Rc<Cell<Life>>,
}

/// How far a branch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing has come out at its end yet.
    Asked,
    /// It is over.
    Answered,
    /// It goes on without the pipeline that it was forked from.
    Outlived,
}

/// The end of a branch that may outlive the pipeline that it was forked from.
struct BranchEnd {
    engine: Rc<Engine>,
    life: Rc<Cell<Life>>,
}

/// LIMIT: how long a branch may go on without the pipeline that it was forked from, at least; at most twice that.
const BRANCH_MAX: Duration = Duration::from_secs(30);

impl Filter for BranchEnd {
    fn name(&self) -> &'static str {
        "fork-end"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        cx.timer(BRANCH_MAX, 0);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let ends = matches!(event, Event::End(_) | Event::Close(_))
            || matches!(script_event(&event), Some(ScriptEvent::End(..) | ScriptEvent::Failed(_)));
        if ends && self.life.replace(Life::Answered) == Life::Outlived {
            self.engine.orphans.borrow_mut().push(cx.pipeline());
        }
        cx.forward(event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.life.get() == Life::Outlived {
            self.engine.orphans.borrow_mut().push(cx.pipeline());
        } else {
            cx.timer(BRANCH_MAX, 0);
        }
    }
}

struct Wait {
    condition: Callback,
    label: String,
    timeout: Option<Duration>,
}

pub(super) fn wait(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let condition = reading.callback(0).ok_or_else(|| reading.refuse("expects a function"))?;
    let timeout = match reading.settings(1)? {
        Some(options) => options.duration("timeout")?.filter(|timeout| !timeout.is_zero()),
        None => None,
    };
    Ok(Rc::new(Wait { condition, label: reading.label.clone(), timeout }))
}

impl FilterDef for Wait {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Waiting {
            condition: self.condition.clone(),
            label: self.label.clone(),
            timeout: self.timeout,
            scope: scope.clone(),
            held: Some(VecDeque::new()),
            promise: None,
            asked: false,
        })
    }
}

struct Waiting {
    condition: Callback,
    label: String,
    timeout: Option<Duration>,
    scope: Scope,
    /// What is held back; nothing any more when the condition has held.
    held: Option<VecDeque<Event>>,
    promise: Option<Outcome>,
    asked: bool,
}

impl Waiting {
    fn ask(&mut self, cx: &mut Cx<'_>) {
        if self.promise.is_some() {
            return;
        }
        let waker = cx.waker(0);
        let engine = Rc::clone(self.scope.engine());
        let asked = engine.with(|ctx| {
            engine.look(ctx, &self.scope.vars)?;
            let value: Value<'_> = self.condition.clone().restore(ctx)?.call(())?;
            match value.as_promise() {
                Some(promise) => Ok((false, Some(engine.when_settled(ctx, promise, waker)?))),
                None => Ok((value.get::<rquickjs::Coerced<bool>>()?.0, None)),
            }
        });
        engine.run_jobs();
        match asked {
            Ok((true, _)) => self.go_on(cx),
            Ok((false, Some(promise))) => self.promise = Some(promise),
            // Another pipeline of the family may make it true.
            Ok((false, None)) => engine.watch(&self.scope.vars, waker),
            Err(error) => {
                log::line("ERR", &format!("{}: wait: {error}", self.label));
                self.held = None;
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
    }

    fn go_on(&mut self, cx: &mut Cx<'_>) {
        for event in self.held.take().into_iter().flatten() {
            cx.forward(event);
        }
    }
}

impl Filter for Waiting {
    fn name(&self) -> &'static str {
        "wait"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        match &mut self.held {
            None => return cx.forward(event),
            Some(held) => held.push_back(event),
        }
        if !std::mem::replace(&mut self.asked, true) {
            if let Some(timeout) = self.timeout {
                cx.timer(timeout, 0);
            }
            self.ask(cx);
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _: u32) {
        if self.promise.as_ref().is_some_and(|promise| promise.borrow().is_none()) {
            return;
        }
        match self.promise.take().and_then(|promise| promise.take()) {
            Some(Ok(_)) => self.go_on(cx),
            Some(Err(error)) => {
                let said: std::result::Result<(), _> =
                    self.scope.engine().with(|ctx| Err(ctx.throw(error.restore(ctx)?)));
                if let Err(error) = said {
                    log::line("ERR", &format!("{}: wait: {error}", self.label));
                }
                self.held = None;
                cx.forward(Event::Close(CloseReason::Script));
            }
            None if self.held.is_some() => self.ask(cx),
            None => {}
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _: u32) {
        self.go_on(cx);
    }
}
