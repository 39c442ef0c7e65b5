//! `compress`, `decompress`, `compressHTTP`, `decompressHTTP`, and the older `compressMessage`, `decompressMessage`.
//!
//! Bytes are (de)compressed as they come; nothing of a body is held back but what the method itself holds. Outside of messages
//! a stream is one body. INVARIANT: what is no compressed data, or too much of it when it is unpacked, ends the stream.

use std::rc::Rc;

use bytes::Bytes;
use pipy_http::{BodyLength, Headers};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head};
use pipy_protocols::compression::{Bound, Compressor, Decompressor, Format};
use rquickjs::Result;

use super::ask::{Asker, failed, keep};
use super::values::{as_value, is_close, is_end, is_start};
use crate::engine::Kept;
use crate::events::{self, ScriptEvent, custom, script_event};
use crate::layout::{FilterDef, Reading, Scope};

#[derive(Clone)]
struct Compress {
    asker: Asker,
    /// The name of a method, or what is asked for it.
    method: Option<Kept>,
    /// The older form: whether it is to be done at all.
    enabled: Option<Kept>,
    /// Told by the head, and to the head.
    http: bool,
    packs: bool,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let http = reading.name.ends_with("HTTP");
    let packs = reading.name.starts_with("compress");
    // The older form has options.
    let mut enabled = None;
    let mut method = match reading.settings(0)? {
        Some(options) => {
            if http {
                enabled = options.kept("enabled")?;
            }
            options.kept("method")?
        }
        None => reading.kept(0),
    };
    // ('inflate') is what it does; a function of `decompressHTTP` says whether it does it.
    if method.is_none() && (packs || !http) {
        method =
            Some(keep(reading.ctx, rquickjs::String::from_str(reading.ctx.clone(), "deflate")?.into_value()));
    }
    if let Some(name) = reading.string(0)
        && !name.is_empty()
        && Format::named(&name).is_none()
    {
        return Err(reading.refuse(&format!("does not know {name:?}: gzip, deflate or br is")));
    }
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(Compress { asker, method, enabled, http, packs }))
}

impl FilterDef for Compress {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Compressing { def: self.clone(), scope: scope.clone(), work: Work::Undecided, over: false })
    }
}

enum Work {
    Undecided,
    Pass,
    Pack(Box<Compressor>),
    Unpack(Box<Decompressor>),
}

struct Compressing {
    def: Compress,
    scope: Scope,
    work: Work,
    over: bool,
}

fn headers(head: &mut Head) -> &mut Headers {
    crate::headers::of_mut(head)
}

impl Compressing {
    /// What the script says for this message; `None` where it has failed. Text names a method, `true` leaves it to the head.
    fn asked(&self, event: &Event) -> Option<Option<String>> {
        if let Some(enabled) = &self.def.enabled {
            let enabled = self.def.asker.ask(
                &self.scope,
                enabled,
                |ctx, makers| Ok(vec![as_value(ctx, makers, event)?]),
                |_, _, value| Ok(value.get::<rquickjs::Coerced<bool>>()?.0),
            )?;
            if !enabled {
                return Some(None);
            }
        }
        let Some(method) = &self.def.method else { return Some(Some(String::new())) };
        self.def.asker.ask(
            &self.scope,
            method,
            |ctx, makers| Ok(vec![as_value(ctx, makers, event)?]),
            |_, _, value| {
                if let Some(text) = value.as_string() {
                    return text.to_string().map(Some);
                }
                Ok(value.get::<rquickjs::Coerced<bool>>()?.0.then(String::new))
            },
        )
    }

    fn work(&self, format: Format) -> Work {
        if self.def.packs {
            Work::Pack(Box::new(Compressor::new(format)))
        } else {
            Work::Unpack(Box::new(Decompressor::new(format, Bound::default())))
        }
    }

    /// Decides by the start of a message, and gives it on.
    fn begin(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Some(asked) = self.asked(&event) else { return self.fail(cx, failed()) };
        self.work = Work::Pass;
        let event = if self.def.http { self.native(event) } else { event };
        let Some(name) = asked else { return cx.forward(event) };
        if !self.def.http {
            if let Some(format) = Format::named(&name) {
                self.work = self.work(format);
            }
            return cx.forward(unsized_start(event));
        }
        let Event::Start(mut head, length) = event else { return cx.forward(event) };
        let had = headers(&mut head).get_str("content-encoding").map(|text| text.trim().to_ascii_lowercase());
        let bodiless = length == BodyLength::None
            || matches!(&head, Head::Response(head) if matches!(head.status, 100..=199 | 204 | 304));
        let format = if self.def.packs {
            Format::named(&name).filter(|_| had.is_none() && !bodiless)
        } else {
            had.as_deref().and_then(Format::named).filter(|_| !bodiless)
        };
        let Some(format) = format else { return cx.forward(Event::Start(head, length)) };
        let headers = headers(&mut head);
        if self.def.packs {
            // Both are good: a word, and a length that no longer holds goes with the framing.
            let _ = headers.insert("content-encoding", &name);
            let _ = headers.append("vary", "accept-encoding");
        } else {
            headers.remove("content-encoding");
        }
        headers.remove("content-length");
        self.work = self.work(format);
        cx.forward(Event::Start(head, BodyLength::Chunked));
    }

    /// A head that a script has made as one of HTTP: of a request where it has a method, else of a response.
    fn native(&self, event: Event) -> Event {
        let Some(ScriptEvent::Start(head, length)) = script_event(&event) else { return event };
        let engine = self.scope.engine();
        let request = engine.with(|ctx| {
            let head = head.clone().restore(ctx)?;
            Ok(head.as_object().is_some_and(|head| head.contains_key("method").unwrap_or(false)))
        });
        match request {
            Ok(true) => engine.request_head(head).ok().map(|head| {
                let length = events::request_length(&head.method, *length);
                Event::Start(Head::Request(head), length)
            }),
            _ => engine.response_head(head).ok().map(|head| {
                let length = events::response_length(head.status, *length);
                Event::Start(Head::Response(head), length)
            }),
        }
        .unwrap_or(event)
    }

    fn run(&mut self, cx: &mut Cx<'_>, data: Option<&Bytes>) -> bool {
        let mut out = Vec::new();
        let done = match (&mut self.work, data) {
            (Work::Pack(work), Some(data)) => work.push(data, &mut out),
            (Work::Pack(work), None) => work.finish(&mut out),
            (Work::Unpack(work), Some(data)) => work.push(data, &mut out),
            (Work::Unpack(work), None) => work.finish(&mut out),
            _ => Ok(()),
        };
        out.into_iter().filter(|bytes| !bytes.is_empty()).for_each(|bytes| cx.forward(Event::Data(bytes)));
        if data.is_none() {
            self.work = Work::Undecided;
        }
        if let Err(error) = done {
            self.def.asker.complain(&error);
            self.fail(cx, Event::Close(CloseReason::Protocol));
            return false;
        }
        true
    }

    fn fail(&mut self, cx: &mut Cx<'_>, end: Event) {
        self.over = true;
        cx.forward(end);
    }
}

/// The same start, without the length of a body that will be another.
fn unsized_start(event: Event) -> Event {
    match event {
        Event::Start(head, BodyLength::Length(_)) => Event::Start(head, BodyLength::Chunked),
        event => match script_event(&event) {
            Some(ScriptEvent::Start(head, _)) => custom(ScriptEvent::Start(head.clone(), None)),
            _ => event,
        },
    }
}

impl Filter for Compressing {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if is_start(&event) {
            return self.begin(cx, event);
        }
        match &event {
            Event::Data(data) => {
                if matches!(self.work, Work::Undecided) {
                    if self.def.http {
                        return cx.forward(event);
                    }
                    let Some(asked) = self.asked(&event) else { return self.fail(cx, failed()) };
                    let format = asked.as_deref().and_then(Format::named);
                    self.work = format.map_or(Work::Pass, |format| self.work(format));
                }
                if matches!(self.work, Work::Pass) {
                    return cx.forward(event);
                }
                self.run(cx, Some(data));
            }
            end if is_end(end) || is_close(end) => {
                if self.run(cx, None) {
                    cx.forward(event);
                }
            }
            _ => cx.forward(event),
        }
    }
}
