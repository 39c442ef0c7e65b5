//! Events as the arguments of callbacks, and what comes back as events.
//!
//! In: events, native or of scripts. Out: the objects that callbacks are given, and the events that they leave or return. What is
//! lent is not copied: a head goes into the engine and is taken back as the callback left it.

use std::rc::Rc;

use bytes::Bytes;
use pipy_http::BodyLength;
use pipy_pipeline::{Event, Head};
use rquickjs::{Ctx, Exception, Persistent, Result, Value};

use crate::events::{self, Makers, ScriptEvent, script_event};
use crate::head::{self, SharedHead};
use crate::known::property;
use crate::raw;

pub(super) fn is_start(event: &Event) -> bool {
    matches!(event, Event::Start(..)) || matches!(script_event(event), Some(ScriptEvent::Start(..)))
}

pub(crate) fn is_end(event: &Event) -> bool {
    matches!(event, Event::End(_)) || matches!(script_event(event), Some(ScriptEvent::End(..)))
}

pub(super) fn is_close(event: &Event) -> bool {
    matches!(event, Event::Close(_)) || matches!(script_event(event), Some(ScriptEvent::Failed(_)))
}

pub(super) fn replaced<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, value: &Value<'js>) -> Result<Vec<Event>> {
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
pub(super) enum Back {
    Head(SharedHead, BodyLength),
    Event(Event),
}

impl Back {
    pub(super) fn length(&self) -> Option<BodyLength> {
        match self {
            Back::Head(_, length) => Some(*length),
            Back::Event(_) => None,
        }
    }
}

/// What a callback is given, and the head in it that is native.
pub(super) type Arguments<'js> = Option<(Value<'js>, Option<Value<'js>>)>;

/// An event as an argument, and what is taken back of it.
pub(super) fn lend<'js>(
    ctx: &Ctx<'js>,
    makers: &Makers<'js>,
    event: Event,
) -> Result<(Arguments<'js>, Back)> {
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
pub(super) fn changed<'js>(
    ctx: &Ctx<'js>,
    makers: &Makers<'js>,
    given: Arguments<'js>,
    back: Back,
) -> Result<Event> {
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
pub(super) fn settle<'js>(ctx: &Ctx<'js>, makers: &Makers<'js>, events: &mut [Event]) {
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
pub(super) fn announce(events: &mut [Event], length: Option<BodyLength>) {
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

pub(super) fn whole_of<'js>(
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
pub(super) fn with_body(ctx: &Ctx<'_>, start: Event, body: Bytes, end: Event) -> Result<Vec<Event>> {
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
