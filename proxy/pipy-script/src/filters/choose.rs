//! Filters that go on in one of several pipelines, chosen once: `branch*`, `link`, `pipe`, `use`, `chain`.
//!
//! Until the choice is made, events are held back. INVARIANT: the choice holds for the life of the pipeline.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BytesMut;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Result, Value};

use super::sub::{ONLY, came_out};
use super::values::{as_value, duplicate};
use super::{stages, swap};
use crate::engine::{Callback, Kept};
use crate::events::{self, ScriptEvent, script_event};
use crate::layout::{FilterDef, Layout, Next, Reading, Scope, Target};
use crate::plugin::{self, NATIVE, Written};
use crate::{log, nmi};

/// What must have come before conditions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Event,
    MessageStart,
    Message,
}

/// How the pipeline is found.
enum Way {
    /// Always this one; `None` passes everything on.
    Fixed(Option<Target>),
    /// The first whose condition holds; the last may have none.
    Conditions(Vec<(Option<Kept>, Target)>),
    /// The one whose name a function gives, in the file with this number.
    Called(Callback, Vec<(String, Target)>),
    /// The entrances of files, one after the other.
    Chain(Vec<Target>),
    /// Stages of the host, one after the other.
    Native(Vec<String>),
    /// The next of the chain.
    Onwards,
}

struct Choose {
    name: &'static str,
    label: String,
    on: On,
    way: Way,
    /// What the pipeline's `onStart` is called with: a list, or a function that gives one.
    arguments: Option<Kept>,
}

struct ChooseDef(Rc<Choose>);

fn choose(reading: &Reading<'_, '_>, on: On, way: Way) -> Result<Rc<dyn FilterDef>> {
    let (name, label) = (reading.name, reading.label.clone());
    Ok(Rc::new(ChooseDef(Rc::new(Choose { name, label, on, way, arguments: None }))))
}

fn choose_with(reading: &Reading<'_, '_>, way: Way, arguments: Option<Kept>) -> Result<Rc<dyn FilterDef>> {
    let (name, label, on) = (reading.name, reading.label.clone(), On::Event);
    Ok(Rc::new(ChooseDef(Rc::new(Choose { name, label, on, way, arguments }))))
}

pub(super) fn branch(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let on = match reading.name {
        "branchMessageStart" => On::MessageStart,
        "branchMessage" => On::Message,
        _ => On::Event,
    };
    let mut ways = Vec::new();
    for pair in reading.args.chunks(2) {
        match pair {
            [condition, target] => {
                let condition = rquickjs::Persistent::save(reading.ctx, condition.clone());
                ways.push((Some(condition), reading.bind(target)?));
            }
            [target] => ways.push((None, reading.bind(target)?)),
            _ => {}
        }
    }
    choose(reading, on, Way::Conditions(ways))
}

pub(super) fn link(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    if let Some(target) = &reading.target {
        return choose(reading, On::Event, Way::Fixed(Some(target.clone())));
    }
    if let Some(callback) = reading.callback(0) {
        return choose(reading, On::Event, Way::Called(callback, reading.names()));
    }
    // The older form: names, each followed by its condition.
    let mut ways = Vec::new();
    for pair in reading.args.chunks(2) {
        match pair {
            [target, condition] => {
                let condition = rquickjs::Persistent::save(reading.ctx, condition.clone());
                ways.push((Some(condition), reading.bind(target)?));
            }
            [target] => ways.push((None, reading.bind(target)?)),
            _ => {}
        }
    }
    choose(reading, On::Event, Way::Conditions(ways))
}

/// `pipe(target | fn, [map], [args])` or `pipe([stages], [args])`.
pub(super) fn pipe(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let Some(first) = reading.args.first() else { return Err(reading.refuse("expects a pipeline")) };
    if let Some(stages) = first.as_array() {
        let stages = stages.iter::<Value<'_>>().map(|stage| reading.bind(&stage?)).collect::<Result<_>>()?;
        return choose_with(reading, Way::Chain(stages), reading.kept(1));
    }
    let map = reading.options(1).filter(|map| !map.contains_key("filters").unwrap_or(false));
    let arguments = reading.kept(if map.is_some() || reading.args.len() > 2 { 2 } else { 1 });
    let mut names = reading.names();
    for pair in map.iter().flat_map(|map| map.props::<String, Value<'_>>()) {
        let (name, target) = pair?;
        names.insert(0, (name, reading.bind(&target)?));
    }
    let way = match (reading.callback(0), first.as_string()) {
        (Some(callback), _) => Way::Called(callback, names),
        (None, Some(name)) => {
            let name = name.to_string()?;
            let target = names.into_iter().find(|(known, _)| *known == name);
            let target = target.ok_or_else(|| reading.refuse(&format!("pipeline not found: {name}")))?;
            Way::Fixed(Some(target.1))
        }
        (None, None) => Way::Fixed(Some(reading.bind(first)?)),
    };
    choose_with(reading, way, arguments)
}

/// `pipeNext([args])`: on to the next stage of the pipe around.
pub(super) fn pipe_next(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    choose_with(reading, Way::Onwards, reading.kept(0))
}

pub(super) fn use_file(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let name = reading.string(1);
    let files: Vec<String> = match reading.args.first().and_then(|files| files.as_array()) {
        Some(files) => files.iter::<String>().collect::<Result<_>>()?,
        None => reading.string(0).into_iter().collect(),
    };
    if let [file] = files.as_slice()
        && pipy_nmi::is_module(file)
    {
        return nmi::use_module(reading, file);
    }
    if let Some(stages) = native(&files) {
        return choose(reading, On::Event, Way::Native(stages));
    }
    if reading.args.len() > 2 {
        return stages::make(reading, &files);
    }
    let mut targets = Vec::new();
    for file in &files {
        // In a list, files without that pipeline are passed over.
        match reading.imported(file, name.as_deref())? {
            Some(target) => targets.push(target),
            None if files.len() == 1 => {
                let what =
                    name.map_or_else(|| "entrance pipeline".to_owned(), |name| format!("pipeline {name}"));
                return Err(reading.refuse(&format!("{file} has no {what}")));
            }
            None => {}
        }
    }
    choose(reading, On::Event, Way::Chain(targets))
}

pub(super) fn chain(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    if reading.args.is_empty() {
        return choose(reading, On::Event, Way::Onwards);
    }
    use_file(reading)
}

/// The stages of the host, where files name nothing else: an unknown one is told when the script loads.
fn native(files: &[String]) -> Option<Vec<String>> {
    let stages = files.iter().map(|file| file.trim_start_matches('/').to_owned());
    let stages: Vec<String> = stages.filter(|file| file.starts_with(NATIVE)).collect();
    (!stages.is_empty() && stages.len() == files.len()).then_some(stages)
}

impl FilterDef for ChooseDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let state = State::Undecided(VecDeque::new());
        Box::new(Chooser { def: Rc::clone(&self.0), scope: scope.clone(), state })
    }

    fn to_host(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        // Where stages wait for the first event, the first event has come: it is what the pipeline is made for.
        let host = scope.host.as_ref().filter(|host| scope.next.is_none() && !host.eager())?;
        matches!(self.0.way, Way::Onwards).then(|| plugin::row(scope, host.rest()))
    }
}

enum State {
    Undecided(VecDeque<Event>),
    Chosen(PipelineId),
    Through,
    Over,
}

struct Chooser {
    def: Rc<Choose>,
    scope: Scope,
    state: State,
}

/// What was chosen.
enum Choice {
    Layout(Rc<Layout>, Scope),
    /// The hub of a `swap`.
    Hub(Kept),
    /// A row of two directions.
    Native(Vec<Box<dyn Filter>>),
    Through,
    NotYet,
}

/// What a callback has named.
enum Picked {
    Layout(Rc<Layout>),
    Hub(Kept),
}

impl Chooser {
    fn choose(&self, held: &VecDeque<Event>) -> std::result::Result<Choice, crate::ScriptError> {
        let found = |target: &Target| match target.layout() {
            Some(layout) => Choice::Layout(layout, self.inner()),
            None => Choice::Through,
        };
        match &self.def.way {
            Way::Fixed(Some(target)) => Ok(found(target)),
            Way::Fixed(None) => Ok(Choice::Through),
            Way::Conditions(ways) => {
                if !self.ready(held) {
                    return Ok(Choice::NotYet);
                }
                for (condition, target) in ways {
                    if match condition {
                        Some(condition) => self.holds(condition, held)?,
                        None => true,
                    } {
                        return Ok(found(target));
                    }
                }
                Ok(Choice::NotYet)
            }
            Way::Called(callback, names) => self.called(callback, names, held.back()),
            Way::Chain(targets) => {
                let mut next = self.scope.next.clone();
                let layouts: Vec<Rc<Layout>> = targets.iter().filter_map(Target::layout).collect();
                for layout in layouts.iter().skip(1).rev() {
                    next = Some(Rc::new(Next { layout: Rc::downgrade(layout), rest: next }));
                }
                let scope = Scope { next, ..self.scope.clone() };
                Ok(layouts.first().map_or(Choice::Through, |layout| Choice::Layout(Rc::clone(layout), scope)))
            }
            Way::Onwards => Ok(match &self.scope.next {
                Some(next) => match next.layout.upgrade() {
                    Some(layout) => {
                        Choice::Layout(layout, Scope { next: next.rest.clone(), ..self.scope.clone() })
                    }
                    None => Choice::Through,
                },
                None => match &self.scope.host {
                    Some(host) => Choice::Native(plugin::row(&self.scope, host.rest())),
                    None => Choice::Through,
                },
            }),
            Way::Native(stages) => match &self.scope.host {
                Some(host) => {
                    let row = host.stages(stages, &self.written()?);
                    Ok(Choice::Native(plugin::row(&self.scope, row)))
                }
                None => Err(crate::ScriptError::plain("there is no host whose stages these could be")),
            },
        }
    }

    /// The scope of what was chosen.
    fn inner(&self) -> Scope {
        // `linkAsync` may run on another thread elsewhere: its context is its own.
        if self.def.name == "linkAsync" { self.scope.cloned() } else { self.scope.clone() }
    }

    /// What the script has put into the variables of the host.
    fn written(&self) -> std::result::Result<Written, crate::ScriptError> {
        plugin::written(&self.scope)
    }

    fn fail(&self, cx: &mut Cx<'_>, error: &crate::ScriptError) {
        log::line("ERR", &format!("{}: {}: {error}", self.def.label, self.def.name));
        cx.forward(Event::Close(CloseReason::Script));
    }

    /// What the pipeline is begun with.
    fn arguments(&self) -> std::result::Result<Vec<Kept>, crate::ScriptError> {
        let Some(arguments) = &self.def.arguments else { return Ok(Vec::new()) };
        let engine = self.scope.engine();
        engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = arguments.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                value = function.call(())?;
            }
            let keep = |value| rquickjs::Persistent::save(ctx, value);
            match value.as_array() {
                Some(list) => list.iter::<Value<'_>>().map(|item| item.map(keep)).collect(),
                None => Ok(vec![keep(value)]),
            }
        })
    }

    /// Whether what the conditions are asked about has come.
    fn ready(&self, held: &VecDeque<Event>) -> bool {
        let start = |event: &Event| {
            matches!(event, Event::Start(..)) || matches!(script_event(event), Some(ScriptEvent::Start(..)))
        };
        let end = |event: &Event| {
            matches!(event, Event::End(_)) || matches!(script_event(event), Some(ScriptEvent::End(..)))
        };
        match self.def.on {
            On::Event => true,
            On::MessageStart => held.iter().any(start),
            On::Message => held.iter().any(end),
        }
    }

    fn holds(
        &self,
        condition: &Kept,
        held: &VecDeque<Event>,
    ) -> std::result::Result<bool, crate::ScriptError> {
        let engine = self.scope.engine();
        let result = engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = condition.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                let makers = engine.makers(ctx)?;
                let argument = match self.def.on {
                    On::Event => Value::new_undefined(ctx.clone()),
                    On::MessageStart => first_start(held).map_or_else(
                        || Ok(Value::new_undefined(ctx.clone())),
                        |start| as_value(ctx, &makers, start),
                    )?,
                    On::Message => {
                        let head = match first_start(held) {
                            Some(start) => {
                                as_value(ctx, &makers, start)?.as_object().map(|start| start.get("head"))
                            }
                            None => None,
                        };
                        let head = head.unwrap_or_else(|| Ok(Value::new_undefined(ctx.clone())))?;
                        let mut body = BytesMut::new();
                        for event in held {
                            if let Event::Data(data) = event {
                                body.extend_from_slice(data);
                            }
                        }
                        let undefined = Value::new_undefined(ctx.clone());
                        makers.message(
                            head,
                            events::data(ctx, body.freeze())?,
                            undefined.clone(),
                            undefined,
                        )?
                    }
                };
                value = function.call((argument,))?;
            }
            Ok(value.get::<rquickjs::Coerced<bool>>()?.0)
        });
        engine.run_jobs();
        result
    }

    fn called(
        &self,
        callback: &Callback,
        names: &[(String, Target)],
        event: Option<&Event>,
    ) -> std::result::Result<Choice, crate::ScriptError> {
        let engine = self.scope.engine();
        let script = &self.scope.script;
        let chosen = engine.call(
            &self.scope.vars,
            callback,
            |ctx, args| match event {
                Some(event) => args.push_arg(as_value(ctx, &engine.makers(ctx)?, event)?),
                None => Ok(()),
            },
            |ctx, value| {
                if value.is_null() || value.is_undefined() {
                    return Ok(None);
                }
                if let Some(name) = value.as_string() {
                    let name = name.to_string()?;
                    let target = names.iter().find(|(known, _)| *known == name);
                    return match target.and_then(|(_, target)| target.layout()) {
                        Some(layout) => Ok(Some(Picked::Layout(layout))),
                        None => Err(rquickjs::Exception::throw_reference(
                            ctx,
                            &format!("pipeline not found: {name}"),
                        )),
                    };
                }
                if engine.is_hub(ctx, &value)? {
                    return Ok(Some(Picked::Hub(rquickjs::Persistent::save(ctx, value))));
                }
                Ok(script.template(ctx, &value)?.map(Picked::Layout))
            },
        )?;
        Ok(match chosen {
            Some(Picked::Layout(layout)) => Choice::Layout(layout, self.inner()),
            Some(Picked::Hub(hub)) => Choice::Hub(hub),
            None => Choice::NotYet,
        })
    }
}

fn first_start(held: &VecDeque<Event>) -> Option<&Event> {
    held.iter().find(|event| {
        matches!(event, Event::Start(..)) || matches!(script_event(event), Some(ScriptEvent::Start(..)))
    })
}

impl Filter for Chooser {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let eager = self.scope.host.as_ref().is_some_and(|host| host.eager());
        if eager
            && matches!(self.def.way, Way::Onwards)
            && let Ok(Choice::Native(row)) = self.choose(&VecDeque::new())
        {
            self.state = State::Chosen(cx.open(row, ONLY));
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match &mut self.state {
            State::Chosen(sub) => {
                let sub = *sub;
                return cx.send(sub, event);
            }
            State::Through => return cx.forward(event),
            State::Over => return,
            State::Undecided(_) if matches!(event, Event::Pause | Event::Resume) => return cx.forward(event),
            State::Undecided(held) => held.push_back(event),
        }
        let State::Undecided(held) = std::mem::replace(&mut self.state, State::Over) else { return };
        match self.choose(&held) {
            Ok(Choice::NotYet) => {
                // An end without a choice is an end.
                if let Some(close) =
                    held.back().filter(|event| matches!(event, Event::Close(_))).and_then(duplicate)
                {
                    return cx.forward(close);
                }
                self.state = State::Undecided(held);
            }
            Ok(Choice::Through) => {
                self.state = State::Through;
                held.into_iter().for_each(|event| cx.forward(event));
            }
            Ok(Choice::Layout(layout, scope)) => {
                let arguments = match self.arguments() {
                    Ok(arguments) => arguments,
                    Err(error) => return self.fail(cx, &error),
                };
                let sub = cx.open_turning(layout.pipeline(&scope, arguments), ONLY);
                self.state = State::Chosen(sub);
                held.into_iter().for_each(|event| cx.send(sub, event));
            }
            Ok(Choice::Hub(hub)) => {
                let row = vec![swap::at(hub, &self.scope, &self.def.label)];
                let sub = cx.open_turning(row, ONLY);
                self.state = State::Chosen(sub);
                held.into_iter().for_each(|event| cx.send(sub, event));
            }
            Ok(Choice::Native(row)) => {
                let sub = cx.open(row, ONLY);
                self.state = State::Chosen(sub);
                held.into_iter().for_each(|event| cx.send(sub, event));
            }
            Err(error) => self.fail(cx, &error),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Chosen(sub) = std::mem::replace(&mut self.state, State::Over) {
            cx.close(sub);
        }
    }
}
