//! `handle*` and `replace*`: callbacks with events, and what they make of them.
//!
//! A handler sees events as they pass; a replacer puts what its callback returns in their place. Only `replaceMessage`,
//! `replaceMessageBody` and a pending promise hold anything back.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BytesMut;
use pipy_http::BodyLength;
use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rquickjs::{Result, Value};

use crate::callback::Given;
use crate::data::Data;
use crate::engine::{Kept, Outcome};
use crate::layout::{FilterDef, Reading, Scope};

use super::values::{
    Back, announce, changed, duplicate, is_close, is_end, is_start, lend, replaced, settle, whole_of,
    with_body,
};
use crate::log;

/// LIMIT: a body that is held back for a callback. A script that wants more handles data as it comes.
const BODY_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Event,
    StreamStart,
    StreamEnd,
    Data,
    MessageStart,
    MessageEnd,
    Message,
    MessageBody,
}

struct Handle {
    name: &'static str,
    label: String,
    of: Of,
    replaces: bool,
    /// A function, or what is put in place.
    with: Given,
    /// What it gives is a response, and goes back to who asked.
    answers: bool,
    /// How much of a body the callback is given.
    size: usize,
}

pub(super) fn handle(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let name = reading.name;
    let replaces = name.starts_with("replace");
    let of = match name.trim_start_matches("replace").trim_start_matches("handle") {
        "" => Of::Event,
        "StreamStart" => Of::StreamStart,
        "StreamEnd" => Of::StreamEnd,
        "Data" => Of::Data,
        "MessageStart" => Of::MessageStart,
        "MessageEnd" => Of::MessageEnd,
        "MessageBody" => Of::MessageBody,
        _ => Of::Message,
    };
    // The older form has the size first: ('256k', callback).
    let first = reading.args.first();
    let old = first.is_some_and(|first| first.is_number() || first.is_string()) && reading.args.len() > 1;
    let size = match (old, of) {
        (true, _) => first.and_then(size_of),
        (false, Of::Message | Of::MessageBody) => match reading.settings(1)? {
            // Below zero it means all.
            Some(options) => match options.value("size")? {
                Some(value) if value.as_number().is_some_and(|size| size < 0.0) => None,
                _ => options.size("size")?,
            },
            None => None,
        },
        (false, _) => None,
    };
    let undefined = Value::new_undefined(reading.ctx.clone());
    let with = reading.args.get(usize::from(old)).cloned().unwrap_or(undefined);
    if !replaces && !with.is_function() {
        return Err(reading.refuse("expects a function"));
    }
    let with = Given::new(reading.ctx, with);
    let label = reading.label.clone();
    Ok(Rc::new(HandleDef(Rc::new(Handle {
        name,
        label,
        of,
        replaces,
        with,
        answers: false,
        size: size.unwrap_or(BODY_BYTES_MAX),
    }))))
}

/// What `serveHTTP` does with each request: the same as `replaceMessage`, but that there must be an answer.
pub(super) fn answer(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let with = reading.args.first().filter(|value| !value.is_undefined());
    let with = with.ok_or_else(|| reading.refuse("expects a message or a function"))?;
    let with = Given::new(reading.ctx, with.clone());
    let (name, label, of, size) = (reading.name, reading.label.clone(), Of::Message, BODY_BYTES_MAX);
    Ok(Rc::new(HandleDef(Rc::new(Handle { name, label, of, replaces: true, with, answers: true, size }))))
}

/// A number of bytes, or a text such as `256k`.
pub(super) fn size_of(value: &Value<'_>) -> Option<usize> {
    if let Some(number) = value.as_number() {
        return (number >= 0.0).then_some(number as usize);
    }
    let text = value.as_string()?.to_string().ok()?;
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1024.0,
        "m" | "mb" => 1_048_576.0,
        "g" | "gb" => 1_073_741_824.0,
        _ => return None,
    };
    Some((digits.parse::<f64>().ok()? * factor) as usize)
}

struct HandleDef(Rc<Handle>);

impl FilterDef for HandleDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Handler {
            def: Rc::clone(&self.0),
            scope: scope.clone(),
            started: false,
            collected: None,
            waiting: None,
            over: false,
        })
    }
}

/// A message that is being collected.
struct Collected {
    start: Event,
    body: BytesMut,
}

/// LIMIT: bytes that come while a promise is open, before the side that sends them is paused. What is paused is not read, and
/// a client that leaves would not be missed; requests that come whole are below this.
const HELD_BYTES_MAX: usize = 64 << 10;

/// What a callback's promise stands for.
struct Waiting {
    outcome: Outcome,
    held: VecDeque<Event>,
    bytes: usize,
    paused: bool,
}

impl Waiting {
    fn hold(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Data(data) = &event {
            self.bytes = self.bytes.saturating_add(data.len());
        }
        self.held.push_back(event);
        if self.bytes > HELD_BYTES_MAX && !self.paused {
            self.paused = true;
            cx.back(Event::Pause);
        }
    }
}

struct Handler {
    def: Rc<Handle>,
    scope: Scope,
    started: bool,
    collected: Option<Collected>,
    waiting: Option<Waiting>,
    /// The callback has failed, which was the end of the stream: it is not called again.
    over: bool,
}

impl Handler {
    fn process(&mut self, cx: &mut Cx<'_>, event: Event) {
        let first = !std::mem::replace(&mut self.started, true);
        match self.def.of {
            Of::Event => self.single(cx, event),
            Of::StreamStart if first => self.single(cx, event),
            Of::StreamEnd if is_close(&event) => self.single(cx, event),
            // An empty piece carries nothing: it only sets things going.
            Of::Data if matches!(&event, Event::Data(data) if !data.is_empty()) => self.single(cx, event),
            Of::MessageStart if is_start(&event) => self.single(cx, event),
            Of::MessageEnd if is_end(&event) => self.single(cx, event),
            Of::Message | Of::MessageBody => self.collect(cx, event),
            _ => cx.forward(match event {
                // The body may become longer or shorter than was announced.
                Event::Start(head, BodyLength::Length(_))
                    if self.def.replaces && matches!(self.def.of, Of::Data | Of::Event) =>
                {
                    Event::Start(head, BodyLength::Chunked)
                }
                event => event,
            }),
        }
    }

    fn collect(&mut self, cx: &mut Cx<'_>, event: Event) {
        let (replaces, size) = (self.def.replaces, self.def.size);
        if is_start(&event) {
            if replaces {
                self.collected = Some(Collected { start: event, body: BytesMut::new() });
                return;
            }
            let start = match duplicate(&event) {
                Some(start) => start,
                None => return cx.forward(event),
            };
            self.collected = Some(Collected { start, body: BytesMut::new() });
            return cx.forward(event);
        }
        let Some(collected) = &mut self.collected else { return cx.forward(event) };
        match event {
            Event::Data(data) => {
                let room = size.saturating_sub(collected.body.len());
                collected.body.extend_from_slice(&data[..data.len().min(room)]);
                if !replaces {
                    cx.forward(Event::Data(data));
                }
            }
            end if is_end(&end) => {
                if let Some(collected) = self.collected.take() {
                    self.message(cx, collected, end);
                }
            }
            other => {
                // A message that never ends is none; what ends it goes on.
                if is_close(&other) {
                    self.collected = None;
                }
                cx.forward(other);
            }
        }
    }

    /// Calls back with one event.
    fn single(&mut self, cx: &mut Cx<'_>, event: Event) {
        let (engine, def) = (self.scope.engine(), &*self.def);
        let waker = cx.waker(0);
        let result = engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let makers = engine.makers(ctx)?;
            let (arguments, back) = match def.with.sees_arguments() {
                true => lend(ctx, &makers, event)?,
                false => (None, Back::Event(event)),
            };
            let length = back.length();
            let returned = match &arguments {
                Some((argument, _)) => def.with.call(ctx, &[argument])?,
                None => def.with.call(ctx, &[])?,
            };
            if def.with.is_function()
                && returned.is_object()
                && let Some(promise) = returned.as_promise()
            {
                let outcome = engine.when_settled(ctx, promise, waker)?;
                let held = if def.replaces { None } else { Some(changed(ctx, &makers, arguments, back)?) };
                return Ok(Done::Promise(outcome, held.into_iter().collect()));
            }
            if def.replaces {
                drop((arguments, back));
                let mut events = replaced(ctx, &makers, &returned)?;
                announce(&mut events, length);
                return Ok(Done::Events(events));
            }
            Ok(Done::One(changed(ctx, &makers, arguments, back)?))
        });
        engine.run_jobs();
        self.done(cx, result);
    }

    /// Calls back with a whole message.
    fn message(&mut self, cx: &mut Cx<'_>, mut collected: Collected, end: Event) {
        let (engine, def) = (self.scope.engine(), &*self.def);
        let waker = cx.waker(0);
        let body = collected.body.freeze();
        let result = engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let makers = engine.makers(ctx)?;
            let only_body = def.of == Of::MessageBody;
            let returned = if !def.with.sees_arguments() {
                def.with.call(ctx, &[])?
            } else if only_body {
                def.with.call(ctx, &[&makers.data(body.clone())?])?
            } else {
                let start = std::mem::replace(&mut collected.start, Event::Pause);
                def.with.call(ctx, &[&whole_of(ctx, &makers, start, body.clone(), &end)?])?
            };
            if def.with.is_function()
                && returned.is_object()
                && let Some(promise) = returned.as_promise()
            {
                let outcome = engine.when_settled(ctx, promise, waker)?;
                let held = if def.replaces { Vec::new() } else { vec![end] };
                return Ok(Done::Promise(outcome, held));
            }
            if !def.replaces {
                return Ok(Done::Events(vec![end]));
            }
            if only_body {
                let body = Data::body_of(&returned)?;
                return Ok(Done::Events(with_body(ctx, collected.start, body, end)?));
            }
            let mut events = replaced(ctx, &makers, &returned)?;
            if def.answers {
                settle(ctx, &makers, &mut events);
            }
            Ok(Done::Events(events))
        });
        engine.run_jobs();
        self.done(cx, result);
    }

    fn done(&mut self, cx: &mut Cx<'_>, result: std::result::Result<Done, crate::ScriptError>) {
        match result {
            Ok(Done::One(event)) => cx.forward(event),
            Ok(Done::Events(events)) => events.into_iter().for_each(|event| cx.forward(event)),
            Ok(Done::Promise(outcome, held)) => {
                self.waiting = Some(Waiting { outcome, held: held.into(), bytes: 0, paused: false });
            }
            Err(error) => {
                log::line("ERR", &format!("{}: {}: {error}", self.def.label, self.def.name));
                self.over = true;
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
    }

    fn settled(&mut self, cx: &mut Cx<'_>, outcome: std::result::Result<Kept, Kept>) {
        let engine = Rc::clone(self.scope.engine());
        let replaces = self.def.replaces;
        let result = engine.with(|ctx| match outcome {
            Ok(value) if replaces => {
                let makers = engine.makers(ctx)?;
                Ok(Done::Events(replaced(ctx, &makers, &value.restore(ctx)?)?))
            }
            Ok(_) => Ok(Done::Events(Vec::new())),
            Err(error) => Err(ctx.throw(error.restore(ctx)?)),
        });
        self.done(cx, result);
    }
}

enum Done {
    One(Event),
    Events(Vec<Event>),
    Promise(Outcome, Vec<Event>),
}

impl Filter for Handler {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (&mut self.waiting, event) {
            (_, event @ (Event::Pause | Event::Resume)) => cx.forward(event),
            _ if self.over => {}
            (Some(waiting), event) => waiting.hold(cx, event),
            (None, event) => self.process(cx, event),
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let Some(waiting) = &mut self.waiting else { return };
        let Some(outcome) = waiting.outcome.take() else { return };
        let replaces = self.def.replaces;
        let mut held = std::mem::take(&mut waiting.held);
        let paused = waiting.paused;
        self.waiting = None;
        // What the callback had is the first that goes on, unless it is replaced.
        if !replaces
            && outcome.is_ok()
            && let Some(first) = held.pop_front()
        {
            cx.forward(first);
        }
        self.settled(cx, outcome);
        if paused {
            cx.back(Event::Resume);
        }
        while let Some(event) = held.pop_front() {
            match &mut self.waiting {
                _ if self.over => return,
                Some(waiting) => waiting.hold(cx, event),
                None => self.process(cx, event),
            }
        }
    }
}
