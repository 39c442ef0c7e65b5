//! `use([files], 'down', ['up'], [turnDown])`: stages of several files, in order on the way down and in reverse on the way up.
//!
//! Before each stage `turnDown` is asked; when it says so, what has come so far turns around and goes up. INVARIANT: a file that
//! lacks a pipeline is passed over in that direction.

use std::rc::Rc;

use pipy_pipeline::{Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Result};

use super::ask::{Asker, failed};
use super::sub::{ONLY, came_out};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

struct Stages {
    asker: Asker,
    /// Down and up, of each file.
    stages: Vec<(Option<Target>, Option<Target>)>,
    turn: Option<Kept>,
}

struct StagesDef(Rc<Stages>);

/// Makes the filter; `files` have been read from the first argument.
pub(super) fn make(reading: &Reading<'_, '_>, files: &[String]) -> Result<Rc<dyn FilterDef>> {
    let (down, up) = (reading.string(1), reading.string(2));
    let turn = reading
        .callback(3)
        .and_then(|_| reading.kept(3))
        .or_else(|| reading.callback(2).and_then(|_| reading.kept(2)));
    let mut stages = Vec::new();
    for file in files {
        let down = reading.imported(file, down.as_deref())?;
        let up = match &up {
            Some(up) => reading.imported(file, Some(up))?,
            None => None,
        };
        if down.is_some() || up.is_some() {
            stages.push((down, up));
        }
    }
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(StagesDef(Rc::new(Stages { asker, stages, turn }))))
}

impl FilterDef for StagesDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Stage { def: Rc::clone(&self.0), scope: scope.clone(), at: 0, state: State::New })
    }
}

enum State {
    New,
    Within(PipelineId),
    Turned,
    Over,
}

/// What follows a number of stages.
struct Stage {
    def: Rc<Stages>,
    scope: Scope,
    at: usize,
    state: State,
}

impl Stage {
    /// Whether to turn around here; `None` where the callback has failed.
    fn turns(&self) -> Option<bool> {
        let Some(turn) = &self.def.turn else { return Some(false) };
        let truth = |value: rquickjs::Value<'_>| Ok(value.get::<Coerced<bool>>()?.0);
        self.def.asker.ask(&self.scope, turn, |_, _| Ok(Vec::new()), |_, _, value| truth(value))
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let Some((down, up)) = self.def.stages.get(self.at) else {
            self.state = State::Turned;
            return;
        };
        match self.turns() {
            None => {
                self.state = State::Over;
                return cx.forward(failed());
            }
            Some(true) => {
                self.state = State::Turned;
                return;
            }
            Some(false) => {}
        }
        let filters = |target: &Option<Target>| {
            let layout = target.as_ref().and_then(Target::layout);
            layout.map(|layout| layout.pipeline(&self.scope, Vec::new())).unwrap_or_default()
        };
        let mut row = filters(down);
        let next = Stage {
            def: Rc::clone(&self.def),
            scope: self.scope.clone(),
            at: self.at + 1,
            state: State::New,
        };
        row.push(Box::new(next));
        row.extend(filters(up));
        self.state = State::Within(cx.open_turning(row, ONLY));
    }
}

impl Filter for Stage {
    fn name(&self) -> &'static str {
        "use"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(self.state, State::New) {
            if matches!(event, Event::Pause | Event::Resume) {
                return cx.forward(event);
            }
            self.begin(cx);
        }
        match self.state {
            State::Within(sub) => cx.send(sub, event),
            State::Turned => cx.forward(event),
            State::New | State::Over => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Within(sub) = std::mem::replace(&mut self.state, State::Over) {
            cx.close(sub);
        }
    }
}
