//! `handle*` and `replace*`: callbacks with events, and what they make of them.
//!
//! A handler sees events as they pass; a replacer puts what its callback returns in their place. Only `replaceMessage`,
//! `replaceMessageBody` and a pending promise hold anything back.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use pipy_http::BodyLength;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head};
use rquickjs::{Ctx, Exception, Persistent, Result, Value};

use crate::callback::Given;
use crate::data::Data;
use crate::engine::{Kept, Outcome};
use crate::events::{self, Makers, ScriptEvent, script_event};
use crate::head::{self, SharedHead};
use crate::known::property;
use crate::layout::{FilterDef, Reading, Scope};
use crate::log;
use crate::raw;

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
}

pub(super) fn is_start(event: &Event) -> bool {
    matches!(event, Event::Start(..)) || matches!(script_event(event), Some(ScriptEvent::Start(..)))
}

pub(crate) fn is_end(event: &Event) -> bool {
    matches!(event, Event::End(_)) || matches!(script_event(event), Some(ScriptEvent::End(..)))
}

pub(super) fn is_close(event: &Event) -> bool {
    matches!(event, Event::Close(_)) || matches!(script_event(event), Some(ScriptEvent::Failed(_)))
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

fn replaced<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, value: &Value<'js>) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    makers.events(ctx, value, &mut events)?;
    Ok(events)
}

/// An event as an argument.
pub(crate) fn as_value<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, event: &Event) -> Result<Value<'js>> {
    let undefined = || Value::new_undefined(ctx.clone());
    match (event, script_event(event)) {
        (Event::Data(bytes), _) => makers.data(bytes.clone()),
        (Event::Start(head, _), _) => makers.start(&makers.head(ctx, head)?),
        (_, Some(ScriptEvent::Start(head, _))) => makers.start(&head.clone().restore(ctx)?),
        (Event::End(trailers), _) => makers.end(makers.tail(ctx, trailers.as_deref())?, undefined()),
        (_, Some(ScriptEvent::End(tail, payload))) => {
            makers.end(tail.clone().restore(ctx)?, payload.clone().restore(ctx)?)
        }
        (Event::Close(reason), _) => {
            let error = match events::error_name(*reason) {
                Some(name) => rquickjs::String::from_str(ctx.clone(), name)?.into_value(),
                None => undefined(),
            };
            makers.stream_end(error)
        }
        (_, Some(ScriptEvent::Failed(error))) => makers.stream_end(error.clone().restore(ctx)?),
        _ => Err(Exception::throw_internal(ctx, "an event that scripts cannot see")),
    }
}

/// What is taken back when a callback is over.
enum Back {
    Head(SharedHead, BodyLength),
    Event(Event),
}

impl Back {
    fn length(&self) -> Option<BodyLength> {
        match self {
            Back::Head(_, length) => Some(*length),
            Back::Event(_) => None,
        }
    }
}

/// What a callback is given, and the head in it that is native.
type Arguments<'js> = Option<(Value<'js>, Option<Value<'js>>)>;

/// An event as an argument, and what is taken back of it.
fn lend<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, event: Event) -> Result<(Arguments<'js>, Back)> {
    match event {
        Event::Start(head, length) => {
            let shared = head::share(head);
            let head = makers.shared(ctx, Rc::clone(&shared))?;
            let start = makers.start(&head)?;
            Ok((Some((start, Some(head))), Back::Head(shared, length)))
        }
        event => Ok((Some((as_value(ctx, makers, &event)?, None)), Back::Event(event))),
    }
}

/// The event as the callback left it: the head that it may have changed.
fn changed<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, given: Arguments<'js>, back: Back) -> Result<Event> {
    let Some((argument, lent)) = given else {
        return match back {
            Back::Event(event) => Ok(event),
            Back::Head(..) => Err(Exception::throw_internal(ctx, "a head that nobody was given")),
        };
    };
    let head = || property(ctx, &argument, &makers.known.names.head);
    let keep = |head, length| events::custom(ScriptEvent::Start(Persistent::save(ctx, head), length));
    match back {
        Back::Head(shared, length) => {
            let now = head()?;
            let same = lent.is_some_and(|lent| raw::same(&lent, &now));
            let native = match same && shared.is_whole() {
                true => true,
                false => head::settle(ctx, &makers.known, &now)?.is_some_and(|own| Rc::ptr_eq(&own, &shared)),
            };
            if !native {
                return Ok(keep(now, events::known_length(length)));
            }
            drop(now);
            drop(argument);
            match Rc::try_unwrap(shared) {
                Ok(head) => Ok(Event::Start(head.into_inner(), length)),
                // The script has kept it: what it writes to it later is seen by whoever comes after.
                Err(shared) => Ok(keep(makers.shared(ctx, shared)?, events::known_length(length))),
            }
        }
        Back::Event(event) => match script_event(&event) {
            Some(ScriptEvent::Start(_, length)) => Ok(keep(head()?, *length)),
            _ => Ok(event),
        },
    }
}

/// Makes the head of an answer native now, while the engine is at hand. What cannot be sent is left to who has to say so.
fn settle<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, events: &mut [Event]) {
    for event in events {
        let Some(ScriptEvent::Start(head, length)) = script_event(event) else { continue };
        let made = head.clone().restore(ctx).and_then(|head| makers.response_head(&head));
        match made {
            Ok(head) => {
                let length = events::response_length(head.status, *length);
                *event = Event::Start(Head::Response(head), length);
            }
            Err(_) => drop(ctx.catch()),
        }
    }
}

/// A head in place of another announces the same body, which passes by itself.
fn announce(events: &mut [Event], length: Option<BodyLength>) {
    if let ([event], Some(length)) = (events, length)
        && let Some(ScriptEvent::Start(head, None)) = script_event(event)
    {
        *event = events::custom(ScriptEvent::Start(head.clone(), events::known_length(length)));
    }
}

/// A message as an argument.
pub(super) fn whole<'js>(
    ctx: &Ctx<'js>,
    makers: &Makers<'js>,
    start: &Event,
    body: Bytes,
    end: &Event,
) -> Result<Value<'js>> {
    match duplicate(start) {
        Some(start) => whole_of(ctx, makers, start, body, end),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

fn whole_of<'js>(
    ctx: &Ctx<'js>,
    makers: &Makers<'js>,
    start: Event,
    body: Bytes,
    end: &Event,
) -> Result<Value<'js>> {
    let undefined = || Value::new_undefined(ctx.clone());
    let head = match start {
        Event::Start(head, _) => makers.shared(ctx, head::share(head))?,
        other => match script_event(&other) {
            Some(ScriptEvent::Start(head, _)) => head.clone().restore(ctx)?,
            _ => undefined(),
        },
    };
    let (tail, payload) = match (end, script_event(end)) {
        (Event::End(trailers), _) => (makers.tail(ctx, trailers.as_deref())?, undefined()),
        (_, Some(ScriptEvent::End(tail, payload))) => {
            (tail.clone().restore(ctx)?, payload.clone().restore(ctx)?)
        }
        _ => (undefined(), undefined()),
    };
    makers.message(head, makers.data(body)?, tail, payload)
}

/// A message with another body.
fn with_body(ctx: &Ctx<'_>, start: Event, body: Bytes, end: Event) -> Result<Vec<Event>> {
    let length = Some(body.len() as u64);
    let start = match start {
        Event::Start(Head::Request(head), _) => {
            let length = events::request_length(&head.method, length);
            Event::Start(Head::Request(head), length)
        }
        Event::Start(Head::Response(head), _) => {
            let length = events::response_length(head.status, length);
            Event::Start(Head::Response(head), length)
        }
        other => match script_event(&other) {
            Some(ScriptEvent::Start(head, _)) => events::custom(ScriptEvent::Start(head.clone(), length)),
            _ => return Err(Exception::throw_internal(ctx, "a message without a start")),
        },
    };
    Ok(vec![start, Event::Data(body), end])
}

/// Another event that says the same, where that can be.
pub(super) fn duplicate(event: &Event) -> Option<Event> {
    Some(match (event, script_event(event)) {
        (Event::Data(data), _) => Event::Data(data.clone()),
        (Event::Start(Head::Request(head), length), _) => Event::Start(Head::Request(head.clone()), *length),
        (Event::Start(Head::Response(head), length), _) => {
            Event::Start(Head::Response(head.clone()), *length)
        }
        (Event::End(trailers), _) => Event::End(trailers.clone()),
        (Event::Close(reason), _) => Event::Close(*reason),
        (_, Some(ScriptEvent::Start(head, length))) => {
            events::custom(ScriptEvent::Start(head.clone(), *length))
        }
        (_, Some(ScriptEvent::End(tail, payload))) => {
            events::custom(ScriptEvent::End(tail.clone(), payload.clone()))
        }
        (_, Some(ScriptEvent::Failed(error))) => events::custom(ScriptEvent::Failed(error.clone())),
        _ => return None,
    })
}

impl Filter for Handler {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (&mut self.waiting, event) {
            (_, event @ (Event::Pause | Event::Resume)) => cx.forward(event),
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
                Some(waiting) => waiting.hold(cx, event),
                None => self.process(cx, event),
            }
        }
    }
}
