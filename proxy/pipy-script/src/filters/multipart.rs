//! `decodeMultipart`: the parts of a message's body, each a message, in the payload of the message that they came in.
//!
//! The content type says how the parts are divided; the message itself passes as it comes, and a message without parts has no
//! payload. INVARIANT: what is not divided as it says ends the stream.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use pipy_protocols::{Decoder as _, Event as Piece, Value as Plain, multipart};
use rquickjs::{Array, Persistent, Result, Value};

use super::ask::{Asker, failed};
use super::values::{as_value, is_close, is_end, is_start};
use crate::data::Data;
use crate::events::{ScriptEvent, custom};
use crate::known::property;
use crate::layout::{FilterDef, Reading, Scope};
use crate::objects::value::to_js;

/// LIMIT: bytes of all parts of a message, which are held until it is complete.
const PARTS_BYTES_MAX: usize = 64 << 20;

#[derive(Clone)]
struct Multipart(Asker);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    Ok(Rc::new(Multipart(Asker { name: reading.name, label: reading.label.clone() })))
}

impl FilterDef for Multipart {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (asker, scope) = (self.0.clone(), scope.clone());
        Box::new(Parts { asker, scope, reader: None, parts: Vec::new(), bytes: 0, over: false })
    }
}

struct Parts {
    asker: Asker,
    scope: Scope,
    reader: Option<multipart::Decoder>,
    /// Heads and bodies; the last may still be growing.
    parts: Vec<(Plain, BytesMut)>,
    bytes: usize,
    over: bool,
}

impl Parts {
    fn boundary(&self, start: &Event) -> Option<String> {
        let engine = self.scope.engine();
        let found = engine.with(|ctx| {
            let makers = engine.makers(ctx)?;
            let names = &makers.known.names;
            let start = as_value(ctx, &makers, start)?;
            let mut value = start;
            for name in [&names.head, &names.headers] {
                value = match value.as_object() {
                    Some(object) => property(ctx, object, name)?,
                    None => return Ok(None),
                };
            }
            let Some(headers) = value.as_object() else { return Ok(None) };
            headers.get::<_, Option<String>>("content-type")
        });
        match found {
            Ok(found) => found.and_then(|text| multipart::boundary_of(&text)),
            Err(error) => {
                self.asker.complain(&error);
                None
            }
        }
    }

    /// Reads on; says whether it could be read.
    fn read(&mut self, cx: &mut Cx<'_>, data: Option<Bytes>) -> bool {
        let Some(reader) = &mut self.reader else { return true };
        self.bytes += data.as_ref().map_or(0, Bytes::len);
        if self.bytes > PARTS_BYTES_MAX {
            self.asker.complain(&format!("more than {PARTS_BYTES_MAX} bytes of parts"));
            self.over = true;
            cx.forward(Event::Close(CloseReason::Overloaded));
            return false;
        }
        let mut pieces = Vec::new();
        let read = match data {
            Some(data) => reader.push(data, &mut pieces),
            None => reader.finish(&mut pieces),
        };
        for piece in pieces {
            match piece {
                Piece::Start(head) => self.parts.push((head, BytesMut::new())),
                Piece::Data(bytes) => {
                    if let Some((_, body)) = self.parts.last_mut() {
                        body.extend_from_slice(&bytes);
                    }
                }
                Piece::End { .. } => {}
            }
        }
        if let Err(error) = read {
            self.asker.complain(&error);
            self.over = true;
            cx.forward(Event::Close(CloseReason::Protocol));
            return false;
        }
        true
    }

    /// The end of the message, with the parts as its payload.
    fn end(&mut self) -> Option<Event> {
        let parts = std::mem::take(&mut self.parts);
        let engine = self.scope.engine();
        let made = engine.with(|ctx| {
            let makers = engine.makers(ctx)?;
            let list = Array::new(ctx.clone())?;
            let undefined = || Value::new_undefined(ctx.clone());
            for (at, (head, body)) in parts.into_iter().enumerate() {
                let body = Data::new_js(ctx, body.freeze())?;
                list.set(at, makers.message(to_js(ctx, &head)?, body, undefined(), undefined())?)?;
            }
            let (tail, payload) =
                (Persistent::save(ctx, undefined()), Persistent::save(ctx, list.into_value()));
            Ok(custom(ScriptEvent::End(tail, payload)))
        });
        made.map_err(|error| self.asker.complain(&error)).ok()
    }
}

impl Filter for Parts {
    fn name(&self) -> &'static str {
        self.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if is_start(&event) {
            self.reader = self.boundary(&event).map(|boundary| multipart::Decoder::new(&boundary));
            self.bytes = 0;
        }
        match &event {
            Event::Data(data) if self.reader.is_some() => {
                if self.read(cx, Some(data.clone())) {
                    cx.forward(event);
                }
            }
            end if is_end(end) && self.reader.is_some() => {
                if self.read(cx, None) {
                    self.reader = None;
                    cx.forward(self.end().unwrap_or_else(failed));
                }
            }
            other => {
                if is_close(other) {
                    self.reader = None;
                    self.parts.clear();
                }
                cx.forward(event);
            }
        }
    }
}
