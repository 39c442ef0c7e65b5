//! `split` and `pack`: a stream into messages, and messages into larger ones.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, TimerId};
use rquickjs::{Coerced, Object, Persistent, Result, Value};

use super::ask::{Asker, failed};
use super::values::{is_close, is_end};
use crate::data::Data;
use crate::engine::Kept;
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
    /// The oldest form: what is asked of each byte.
    ask: Option<(Kept, Asker)>,
}

pub(super) fn split(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let separator = match reading.args.first() {
        Some(value) if value.is_function() => {
            let asker = Asker { name: reading.name, label: reading.label.clone() };
            let ask = reading.kept(0).map(|callback| (callback, asker));
            return Ok(Rc::new(Split { separator: Bytes::new(), ask }));
        }
        Some(value) => Data::body_of(value)?,
        None => return Err(reading.refuse("expects a separator: text or Data")),
    };
    if separator.is_empty() || separator.len() > 1024 {
        return Err(reading.refuse("expects a separator of 1 to 1024 bytes"));
    }
    Ok(Rc::new(Split { separator, ask: None }))
}

impl FilterDef for Split {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (separator, scope, ask) = (self.separator.clone(), scope.clone(), self.ask.clone());
        Box::new(Splitter { separator, ask, part: BytesMut::new(), searched: 0, over: false, scope })
    }
}

struct Splitter {
    separator: Bytes,
    ask: Option<(Kept, Asker)>,
    part: BytesMut,
    /// So many bytes of the part have no separator in them.
    searched: usize,
    over: bool,
    scope: Scope,
}

impl Splitter {
    /// Where a part ends of those bytes that were not looked at; `None` where that could not be asked.
    fn end(&mut self) -> Option<Option<usize>> {
        let from = self.searched.min(self.part.len());
        let tail = self.part.get(from..).unwrap_or_default();
        let Some((callback, asker)) = &self.ask else {
            let found = tail.windows(self.separator.len()).position(|window| window == self.separator);
            return Some(found.map(|at| from + at));
        };
        for (at, byte) in tail.iter().enumerate() {
            let ends = asker.ask(
                &self.scope,
                callback,
                |ctx, _| Ok(vec![Value::new_int(ctx.clone(), i32::from(*byte))]),
                |_, _, value| Ok(value.get::<Coerced<bool>>()?.0),
            )?;
            if ends {
                return Some(Some(from + at + 1));
            }
        }
        Some(None)
    }
}

impl Filter for Splitter {
    fn name(&self) -> &'static str {
        "split"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
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
            let Some(found) = self.end() else {
                self.over = true;
                return cx.forward(failed());
            };
            let Some(at) = found else { break };
            let part = self.part.split_to(at).freeze();
            let _ = self.part.split_to(self.separator.len());
            self.searched = 0;
            message(cx, &self.scope, part);
        }
        self.searched = self.part.len().saturating_sub(self.separator.len().saturating_sub(1));
        if self.part.len() > PART_BYTES_MAX {
            self.part.clear();
            cx.forward(Event::Close(CloseReason::Overloaded));
        }
    }
}

#[derive(Clone)]
struct Pack {
    batch: usize,
    /// How long it waits for another message.
    timeout: Duration,
    /// How long the first message of a batch waits at most.
    interval: Duration,
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
        interval: Duration::from_secs(5),
        prefix: Bytes::new(),
        postfix: Bytes::new(),
        separator: Bytes::new(),
    };
    if let Some(options) = reading.settings(usize::from(batch.is_some()))? {
        if let Some(time) = options.duration("timeout")? {
            pack.timeout = time;
        }
        if let Some(time) = options.duration("interval")? {
            pack.interval = time;
        }
        let bytes = |name: &str| options.value(name)?.map_or(Ok(Bytes::new()), |value| Data::body_of(&value));
        pack.prefix = bytes("prefix")?;
        pack.postfix = bytes("postfix")?;
        pack.separator = bytes("separator")?;
    }
    Ok(Rc::new(pack))
}

impl FilterDef for Pack {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.clone(), scope.clone());
        Box::new(Packer { def, body: BytesMut::new(), count: 0, fresh: true, timers: [None; 2], scope })
    }
}

struct Packer {
    def: Pack,
    body: BytesMut,
    /// Messages in the batch.
    count: usize,
    /// Nothing of the message at hand has come.
    fresh: bool,
    /// Of the silence, and of the batch.
    timers: [Option<TimerId>; 2],
    scope: Scope,
}

impl Packer {
    fn send(&mut self, cx: &mut Cx<'_>) {
        for timer in self.timers.iter_mut().filter_map(Option::take) {
            cx.cancel(timer);
        }
        if self.count > 0 {
            self.body.extend_from_slice(&self.def.postfix);
            let body = std::mem::take(&mut self.body).freeze();
            (self.count, self.fresh) = (0, true);
            message(cx, &self.scope, body);
        }
    }

    /// A message has come, and the batch is not complete.
    fn wait(&mut self, cx: &mut Cx<'_>) {
        let [silence, batch] = &mut self.timers;
        if let Some(timer) = silence.take() {
            cx.cancel(timer);
        }
        let after = |cx: &mut Cx<'_>, time: Duration| (!time.is_zero()).then(|| cx.timer(time, 0));
        *silence = after(cx, self.def.timeout);
        if batch.is_none() {
            *batch = after(cx, self.def.interval);
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
                } else {
                    self.wait(cx);
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
        self.send(cx);
    }
}
