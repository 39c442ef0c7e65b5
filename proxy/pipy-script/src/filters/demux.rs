//! `demux` and `demuxQueue`: each message through a sub-pipeline of its own, in a clone of the context; what they answer leaves
//! in the order of the messages.
//!
//! `outputCount` says how many messages answer one: 1 unless said otherwise, 0 for none; negative: the next message waits until
//! those have come. A sub-pipeline that ends short of its count ends the stream. Bytes outside of messages pass.

use std::collections::VecDeque;
use std::rc::Rc;

use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Result};

use super::ask::{Asker, failed};
use super::values::{as_value, is_close, is_end, is_start};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

/// LIMIT: messages whose answers are awaited; above it the side that sends them is paused.
const OPEN_MAX: usize = 256;

#[derive(Clone)]
struct Demux {
    target: Target,
    count: Option<Kept>,
    /// The older form: whether there is no answer.
    one_way: Option<Kept>,
    asker: Asker,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let (mut count, mut one_way) = (None, None);
    if let Some(options) = reading.settings(0)? {
        count = options.kept("outputCount")?;
        one_way = options.callback("isOneWay")?;
    }
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(Demux { target: reading.needed()?, count, one_way, asker }))
}

impl FilterDef for Demux {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Demuxer {
            def: self.clone(),
            open: VecDeque::new(),
            silent: Vec::new(),
            current: None,
            next_slot: 0,
            held: VecDeque::new(),
            ended: None,
            pausing: false,
            scope: scope.clone(),
        })
    }
}

/// A message whose answers are awaited.
struct Exchange {
    slot: Slot,
    sub: PipelineId,
    awaited: i32,
    /// The message after it waits for its answers.
    blocks: bool,
    asked: bool,
    /// It can't take more.
    paused: bool,
    /// What it has answered before its turn.
    answers: Vec<Event>,
}

struct Demuxer {
    def: Demux,
    open: VecDeque<Exchange>,
    /// Sub-pipelines that are not waited for.
    silent: Vec<(Slot, PipelineId)>,
    /// Where the message that is coming goes.
    current: Option<PipelineId>,
    next_slot: Slot,
    held: VecDeque<Event>,
    /// The end of the input, which follows the last answer.
    ended: Option<Event>,
    pausing: bool,
    scope: Scope,
}

impl Demuxer {
    fn count(&self, start: &Event) -> Option<i32> {
        if let Some(one_way) = &self.def.one_way {
            return self.def.asker.ask(
                &self.scope,
                one_way,
                |ctx, makers| Ok(vec![as_value(ctx, makers, start)?]),
                |_, _, value| Ok(i32::from(!value.get::<Coerced<bool>>()?.0)),
            );
        }
        let Some(count) = &self.def.count else { return Some(1) };
        self.def.asker.ask(
            &self.scope,
            count,
            |ctx, makers| Ok(vec![as_value(ctx, makers, start)?]),
            |_, _, value| Ok(value.get::<Coerced<i32>>()?.0),
        )
    }

    fn blocked(&self) -> bool {
        self.open.back().is_some_and(|exchange| exchange.blocks && exchange.asked)
    }

    fn take(&mut self, cx: &mut Cx<'_>, event: Event) {
        if is_start(&event) {
            let (Some(count), Some(layout)) = (self.count(&event), self.def.target.layout()) else {
                return cx.forward(failed());
            };
            self.next_slot = self.next_slot.wrapping_add(1);
            let slot = self.next_slot;
            let sub = cx.open_turning(layout.pipeline(&self.scope.cloned(), Vec::new()), slot);
            self.current = Some(sub);
            if count == 0 {
                self.silent.push((slot, sub));
            } else {
                let (awaited, blocks) = (count.abs(), count < 0);
                self.open.push_back(Exchange {
                    slot,
                    sub,
                    awaited,
                    blocks,
                    asked: false,
                    paused: false,
                    answers: Vec::new(),
                });
            }
            return cx.send(sub, event);
        }
        if is_close(&event) {
            self.current = None;
            // A message that never ends is none, and has no answer.
            let is_cut = |exchange: &Exchange| !exchange.asked && exchange.awaited > 0;
            if self.open.back().is_some_and(is_cut)
                && let Some(cut) = self.open.pop_back()
            {
                cx.close(cut.sub);
            }
            self.ended = Some(event);
            return self.finish(cx);
        }
        let Some(sub) = self.current else { return cx.forward(event) };
        if is_end(&event) {
            self.current = None;
            if let Some(exchange) = self.open.back_mut().filter(|exchange| exchange.sub == sub) {
                exchange.asked = true;
            } else {
                // Nobody waits for it: it is over when it has done what it was asked.
                cx.send(sub, event);
                return cx.send(sub, Event::Close(CloseReason::Finished));
            }
        }
        cx.send(sub, event);
    }

    /// Takes what was held back, as far as may be.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        while !self.blocked() {
            let Some(event) = self.held.pop_front() else { break };
            self.take(cx, event);
        }
        // One that has gone can't say that it takes more again: only those that are there count.
        let full = self.open.iter().any(|exchange| exchange.paused);
        let pause = full || self.open.len() > OPEN_MAX || !self.held.is_empty();
        if pause != self.pausing {
            self.pausing = pause;
            cx.back(if pause { Event::Pause } else { Event::Resume });
        }
    }

    /// The first exchanges may be complete, and what comes after them may have waited for its turn.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        while let Some(first) = self.open.front_mut() {
            for event in std::mem::take(&mut first.answers) {
                cx.forward(event);
            }
            if first.awaited > 0 {
                break;
            }
            if let Some(done) = self.open.pop_front() {
                if self.current == Some(done.sub) {
                    // The answer came before the question was over; the rest of it is nobody's.
                    self.silent.push((done.slot, done.sub));
                } else {
                    cx.close(done.sub);
                }
            }
        }
        self.pump(cx);
        self.finish(cx);
    }

    fn finish(&mut self, cx: &mut Cx<'_>) {
        if self.open.is_empty()
            && self.held.is_empty()
            && let Some(end) = self.ended.take()
        {
            cx.forward(end);
        }
    }
}

impl Filter for Demuxer {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Pause | Event::Resume => {
                for exchange in &self.open {
                    let copy = if matches!(event, Event::Pause) { Event::Pause } else { Event::Resume };
                    cx.send(exchange.sub, copy);
                }
            }
            event => {
                self.held.push_back(event);
                self.pump(cx);
            }
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        let Some(at) = self.open.iter().position(|exchange| exchange.slot == slot) else {
            if is_close(&event)
                && let Some(at) = self.silent.iter().position(|(silent, _)| *silent == slot)
            {
                cx.close(self.silent.swap_remove(at).1);
            }
            return;
        };
        let Some(exchange) = self.open.get_mut(at) else { return };
        if matches!(event, Event::Pause | Event::Resume) {
            exchange.paused = matches!(event, Event::Pause);
            return self.pump(cx);
        }
        if is_close(&event) {
            if exchange.awaited > 0 {
                // Short of its answers: those after it would be taken for its own.
                self.held.clear();
                self.ended = None;
                cx.forward(event);
            }
            return;
        }
        if exchange.awaited == 0 {
            return;
        }
        exchange.awaited -= i32::from(is_end(&event));
        exchange.answers.push(event);
        self.settle(cx);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        for exchange in self.open.drain(..) {
            cx.close(exchange.sub);
        }
        for (_, sub) in self.silent.drain(..) {
            cx.close(sub);
        }
    }
}
