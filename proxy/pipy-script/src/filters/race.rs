//! `forkJoin` and `forkRace`: branches that the stream waits for.
//!
//! Both give each branch a copy of what comes. `forkJoin` holds the stream back until all branches have ended; `forkRace` gives
//! what the first branch produces that produces anything, and ends the others. INVARIANT: branches go when the filter goes.

use std::collections::VecDeque;
use std::rc::Rc;

use pipy_pipeline::{Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Result, Value};

use super::ask::{Asker, failed, keep};
use super::values::{duplicate, is_close};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

#[derive(Clone)]
struct Race {
    target: Target,
    with: Option<Kept>,
    joins: bool,
    asker: Asker,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let joins = reading.name == "forkJoin";
    Ok(Rc::new(Race { target: reading.needed()?, with: reading.kept(0), joins, asker }))
}

impl FilterDef for Race {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Branches {
            def: self.clone(),
            scope: scope.clone(),
            open: None,
            winner: None,
            held: VecDeque::new(),
            through: false,
        })
    }
}

struct Branches {
    def: Race,
    scope: Scope,
    open: Option<Vec<(Slot, PipelineId)>>,
    winner: Option<Slot>,
    /// The stream, until the branches have joined.
    held: VecDeque<Event>,
    through: bool,
}

/// The contexts and arguments of branches: one for each element of a list, else one.
pub(super) fn branches(asker: &Asker, scope: &Scope, with: Option<&Kept>) -> Option<Vec<(Scope, Vec<Kept>)>> {
    let Some(with) = with else { return Some(vec![(scope.cloned(), Vec::new())]) };
    let lists: Vec<Vec<Kept>> = asker.ask(
        scope,
        with,
        |_, _| Ok(Vec::new()),
        |ctx, _, value| {
            let Some(list) = value.as_array() else { return Ok(vec![vec![keep(ctx, value)]]) };
            let items = list.iter::<Value<'_>>().enumerate().map(|(index, item)| {
                #[allow(clippy::cast_precision_loss)] // there are no so many branches
                let index = Value::new_number(ctx.clone(), index as f64);
                Ok(vec![keep(ctx, item?), keep(ctx, index)])
            });
            items.collect()
        },
    )?;
    Some(lists.into_iter().map(|arguments| (scope.cloned(), arguments)).collect())
}

impl Branches {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let (Some(layout), Some(branches)) =
            (self.def.target.layout(), branches(&self.def.asker, &self.scope, self.def.with.as_ref()))
        else {
            self.open = Some(Vec::new());
            self.through = true;
            return cx.forward(failed());
        };
        let mut open = Vec::new();
        for (slot, (scope, arguments)) in (0..).zip(branches) {
            open.push((slot, cx.open_turning(layout.pipeline(&scope, arguments), slot)));
        }
        // With nobody to wait for, the stream passes.
        self.through = open.is_empty() && self.def.joins;
        self.open = Some(open);
    }

    fn leave(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let Some(open) = &mut self.open else { return };
        if let Some(at) = open.iter().position(|(known, _)| *known == slot) {
            cx.close(open.swap_remove(at).1);
        }
    }

    /// A branch of those that are joined has ended.
    fn joined(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        self.leave(cx, slot);
        if self.open.as_ref().is_some_and(Vec::is_empty) && !std::mem::replace(&mut self.through, true) {
            self.held.drain(..).for_each(|event| cx.forward(event));
        }
    }

    fn raced(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            if self.winner == Some(slot) {
                cx.back(event);
            }
            return;
        }
        match self.winner {
            Some(winner) if winner == slot => cx.forward(event),
            Some(_) => {}
            None if is_close(&event) => {
                self.leave(cx, slot);
                // All have ended with nothing.
                if self.open.as_ref().is_some_and(Vec::is_empty) {
                    cx.forward(event);
                }
            }
            None => {
                self.winner = Some(slot);
                let all = self.open.take().unwrap_or_default();
                let (kept, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|(known, _)| *known == slot);
                lost.into_iter().for_each(|(_, sub)| cx.close(sub));
                self.open = Some(kept);
                cx.forward(event);
            }
        }
    }
}

impl Filter for Branches {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        if self.open.is_none() {
            self.begin(cx);
        }
        for (_, sub) in self.open.iter().flatten() {
            if let Some(copy) = duplicate(&event) {
                cx.send(*sub, copy);
            }
        }
        match (self.def.joins, self.through) {
            (true, false) => self.held.push_back(event),
            (true, true) => cx.forward(event),
            (false, _) => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if !self.def.joins {
            return self.raced(cx, slot, event);
        }
        if is_close(&event) {
            self.joined(cx, slot);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        for (_, sub) in self.open.take().into_iter().flatten() {
            cx.close(sub);
        }
    }
}
