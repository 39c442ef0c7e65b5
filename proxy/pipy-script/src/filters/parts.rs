//! `split` and `pack`: a stream into messages, and messages into larger ones.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, TimerId};
use rquickjs::{Object, Persistent, Result, Value};

use super::ask::failed;
use super::connect::duration;
use super::handle::{is_close, is_end};
use crate::data::Data;
use crate::events::{ScriptEvent, custom};
use crate::layout::{FilterDef, Reading, Scope};

/// LIMIT: bytes of a part that has not ended.
const PART_BYTES_MAX: usize = 16 << 20;

/// A message of these bytes.
fn message(cx: &mut Cx<'_>, scope: &Scope, body: Bytes) {
    let made = scope.engine().with(|ctx| {
        let head = Persistent::save(ctx, Object::new(ctx.clone())?.into_value());
        let nothing = || Persistent::save(ctx, Value::new_undefined(ctx.clone()));
        let start = custom(ScriptEvent::Start(head, Some(body.len() as u64)));
        Ok((start, custom(ScriptEvent::End(nothing(), nothing()))))
    });
    let Ok((start, end)) = made else { return cx.forward(failed()) };
    cx.forward(start);
    if !body.is_empty() {
        cx.forward(Event::Data(body));
    }
    cx.forward(end);
}

struct Split {
    separator: Bytes,
}

pub(super) fn split(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let separator = match reading.args.first() {
        Some(value) if !value.is_function() => Data::body_of(value)?,
        _ => return Err(reading.refuse("expects a separator: text or Data")),
    };
    if separator.is_empty() || separator.len() > 1024 {
        return Err(reading.refuse("expects a separator of 1 to 1024 bytes"));
    }
    Ok(Rc::new(Split { separator }))
}

impl FilterDef for Split {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (separator, scope) = (self.separator.clone(), scope.clone());
        Box::new(Splitter { separator, part: BytesMut::new(), searched: 0, scope })
    }
}

struct Splitter {
    separator: Bytes,
    part: BytesMut,
    /// So many bytes of the part have no separator in them.
    searched: usize,
    scope: Scope,
}

impl Filter for Splitter {
    fn name(&self) -> &'static str {
        "split"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Data(data) = event else {
            let rest = std::mem::take(&mut self.part).freeze();
            self.searched = 0;
            if (is_close(&event) || is_end(&event)) && !rest.is_empty() {
                message(cx, &self.scope, rest);
            }
            return cx.forward(event);
        };
        self.part.extend_from_slice(&data);
        loop {
            let from = self.searched.min(self.part.len());
            let tail = self.part.get(from..).unwrap_or_default();
            let found = tail.windows(self.separator.len()).position(|window| window == self.separator);
            let Some(at) = found else { break };
            let part = self.part.split_to(from + at).freeze();
            let _ = self.part.split_to(self.separator.len());
            self.searched = 0;
            message(cx, &self.scope, part);
        }
        self.searched = self.part.len().saturating_sub(self.separator.len() - 1);
        if self.part.len() > PART_BYTES_MAX {
            self.part.clear();
            cx.forward(Event::Close(CloseReason::Overloaded));
        }
    }
}

#[derive(Clone)]
struct Pack {
    batch: usize,
    timeout: Duration,
    prefix: Bytes,
    postfix: Bytes,
    separator: Bytes,
}

pub(super) fn pack(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let batch = reading.args.first().and_then(|value| value.as_number());
    let mut pack = Pack {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at least 1
        batch: batch.map_or(1, |batch| batch.max(1.0) as usize),
        timeout: Duration::from_secs(5),
        prefix: Bytes::new(),
        postfix: Bytes::new(),
        separator: Bytes::new(),
    };
    if let Some(options) = reading.options(usize::from(batch.is_some())) {
        if let Some(time) = duration(&options.get("timeout")?) {
            pack.timeout = time;
        }
        pack.prefix = Data::body_of(&options.get("prefix")?)?;
        pack.postfix = Data::body_of(&options.get("postfix")?)?;
        pack.separator = Data::body_of(&options.get("separator")?)?;
    }
    Ok(Rc::new(pack))
}

impl FilterDef for Pack {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.clone(), scope.clone());
        Box::new(Packer { def, body: BytesMut::new(), count: 0, fresh: true, timer: None, scope })
    }
}

struct Packer {
    def: Pack,
    body: BytesMut,
    /// Messages in the batch.
    count: usize,
    /// Nothing of the message at hand has come.
    fresh: bool,
    timer: Option<TimerId>,
    scope: Scope,
}

impl Packer {
    fn send(&mut self, cx: &mut Cx<'_>) {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        if self.count > 0 {
            self.body.extend_from_slice(&self.def.postfix);
            let body = std::mem::take(&mut self.body).freeze();
            (self.count, self.fresh) = (0, true);
            message(cx, &self.scope, body);
        }
    }
}

impl Filter for Packer {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Data(data) => {
                if std::mem::take(&mut self.fresh) {
                    let before = if self.count == 0 { &self.def.prefix } else { &self.def.separator };
                    self.body.extend_from_slice(before);
                }
                self.body.extend_from_slice(&data);
            }
            event if is_end(&event) => {
                (self.count, self.fresh) = (self.count + 1, true);
                if self.count >= self.def.batch || self.body.len() > PART_BYTES_MAX {
                    self.send(cx);
                } else if self.timer.is_none() && !self.def.timeout.is_zero() {
                    self.timer = Some(cx.timer(self.def.timeout, 0));
                }
            }
            event if is_close(&event) => {
                self.send(cx);
                cx.forward(event);
            }
            event @ (Event::Pause | Event::Resume) => cx.forward(event),
            // The heads of what is packed are nobody's.
            _ => {}
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.timer = None;
        self.send(cx);
    }
}
