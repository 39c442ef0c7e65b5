//! `replay` and `repeat`: the sub-pipeline is run again with the same input when it asks for that, or a callback does.

use std::rc::Rc;
use std::time::Duration;

use pipy_pipeline::{Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Result};

use super::ask::{Asker, failed};
use super::connect::duration;
use super::values::{as_value, duplicate, is_close};
use crate::engine::{Kept, Outcome};
use crate::events::{ScriptEvent, script_event};
use crate::layout::{FilterDef, Reading, Scope, Target};

/// LIMIT: bytes of input that are kept for another run; beyond it the input cannot be given again.
const KEPT_BYTES_MAX: usize = 16 << 20;

#[derive(Clone)]
struct Again {
    target: Target,
    asker: Asker,
    /// `repeat`: asked at the end. `replay`: the end itself says it.
    ask: Option<Kept>,
    delay: Option<Kept>,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let (mut ask, mut delay) = (None, None);
    if reading.name == "repeat" {
        ask = reading.kept(0).filter(|_| reading.callback(0).is_some());
        if ask.is_none() {
            return Err(reading.refuse("expects a function"));
        }
    } else if let Some(options) = reading.settings(0)? {
        delay = options.kept("delay")?;
    }
    Ok(Rc::new(Again { target: reading.needed()?, asker, ask, delay }))
}

impl FilterDef for Again {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Run {
            def: self.clone(),
            kept: Some(Vec::new()),
            bytes: 0,
            sub: None,
            run: 0,
            asked: None,
            waiting: false,
            paused: false,
            scope: scope.clone(),
        })
    }
}

struct Run {
    def: Again,
    /// All input so far; nothing when it was too much.
    kept: Option<Vec<Event>>,
    bytes: usize,
    sub: Option<PipelineId>,
    /// Which run this is: what an earlier one still says is not heard.
    run: Slot,
    /// The end that the callback was asked about, and its promise.
    asked: Option<(Event, Outcome)>,
    /// The next run begins when the delay is over.
    waiting: bool,
    /// The sub-pipeline can't take more.
    paused: bool,
    scope: Scope,
}

impl Run {
    fn keep(&mut self, event: &Event) {
        if let Event::Data(data) = event {
            self.bytes += data.len();
        }
        if self.bytes > KEPT_BYTES_MAX {
            self.kept = None;
        }
        if let (Some(kept), Some(copy)) = (&mut self.kept, duplicate(event)) {
            kept.push(copy);
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let Some(layout) = self.def.target.layout() else { return };
        self.run = self.run.wrapping_add(1);
        let sub = cx.open_turning(layout.pipeline(&self.scope, Vec::new()), self.run);
        self.sub = Some(sub);
    }

    fn again(&mut self, cx: &mut Cx<'_>) {
        let delay = match self.def.delay.clone() {
            None => None,
            Some(delay) => {
                let asked = self.def.asker.ask(
                    &self.scope,
                    &delay,
                    |_, _| Ok(Vec::new()),
                    |_, _, value| Ok(duration(&value)),
                );
                match asked {
                    Some(delay) => delay,
                    None => return cx.forward(failed()),
                }
            }
        };
        self.later(cx, delay.unwrap_or_default());
    }

    /// Runs again after a while; never at once, for others have their turn between two runs.
    fn later(&mut self, cx: &mut Cx<'_>, delay: Duration) {
        self.waiting = true;
        cx.timer(delay, 0);
    }

    fn replay(&mut self, cx: &mut Cx<'_>) {
        self.begin(cx);
        let Some(sub) = self.sub else { return };
        for event in self.kept.iter().flatten().filter_map(duplicate) {
            cx.send(sub, event);
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>, end: Event) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
        // It can't say any more that it takes more again.
        if std::mem::take(&mut self.paused) {
            cx.back(Event::Resume);
        }
        if self.kept.is_none() {
            return cx.forward(end);
        }
        let Some(ask) = self.def.ask.clone() else {
            return if self.is_replay(&end) { self.again(cx) } else { cx.forward(end) };
        };
        let (engine, waker) = (Rc::clone(self.scope.engine()), cx.waker(0));
        let answer = self.def.asker.ask(
            &self.scope,
            &ask,
            |ctx, makers| Ok(vec![as_value(ctx, makers, &end)?]),
            |ctx, _, value| match value.as_promise() {
                Some(promise) => Ok((false, Some(engine.when_settled(ctx, promise, waker)?))),
                None => Ok((value.get::<Coerced<bool>>()?.0, None)),
            },
        );
        match answer {
            Some((_, Some(outcome))) => self.asked = Some((end, outcome)),
            Some((true, None)) => self.later(cx, Duration::ZERO),
            Some((false, None)) => cx.forward(end),
            None => cx.forward(failed()),
        }
    }

    fn is_replay(&self, end: &Event) -> bool {
        let Some(ScriptEvent::Failed(error)) = script_event(end) else { return false };
        let said = self.scope.engine().with(|ctx| {
            let value = error.clone().restore(ctx)?;
            value.as_string().map_or(Ok(false), |text| Ok(text.to_string()? == "Replay"))
        });
        said.unwrap_or(false)
    }
}

impl Filter for Run {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return match self.sub {
                Some(sub) => cx.send(sub, event),
                None => cx.forward(event),
            };
        }
        if self.sub.is_none() && self.run == 0 {
            self.begin(cx);
        }
        self.keep(&event);
        if let Some(sub) = self.sub {
            cx.send(sub, event);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if slot != self.run || self.sub.is_none() {
            return;
        }
        match event {
            Event::Pause | Event::Resume => {
                self.paused = matches!(event, Event::Pause);
                cx.back(event);
            }
            end if is_close(&end) => self.ended(cx, end),
            event => cx.forward(event),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if std::mem::take(&mut self.waiting) {
            self.replay(cx);
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let Some(settled) = self.asked.as_ref().and_then(|(_, outcome)| outcome.take()) else { return };
        let Some((end, _)) = self.asked.take() else { return };
        let again = match settled {
            Ok(value) => {
                let engine = self.scope.engine();
                engine.with(|ctx| Ok(value.restore(ctx)?.get::<Coerced<bool>>()?.0)).unwrap_or(false)
            }
            Err(_) => return cx.forward(failed()),
        };
        if again { self.later(cx, Duration::ZERO) } else { cx.forward(end) }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}
