//! A joint filter's one sub-pipeline: events go in on the left and come on when they are out.

use pipy_pipeline::{Cx, Event, Filter, PipelineId, Slot};

/// The slot of an only sub-pipeline.
pub(super) const ONLY: Slot = 0;

/// Gives what came out of a sub-pipeline to the right place: what was produced on, what speaks of congestion back.
pub(super) fn came_out(cx: &mut Cx<'_>, event: Event) {
    match event {
        Event::Pause | Event::Resume => cx.back(event),
        other => cx.forward(other),
    }
}

/// A row within a row. `Nested` where a filter of two directions stands among those of one.
pub(super) struct Nested {
    name: &'static str,
    row: Option<Vec<Box<dyn Filter>>>,
    turning: bool,
    sub: Option<PipelineId>,
}

impl Nested {
    /// Around filters of two directions.
    pub(super) fn around(name: &'static str, row: Vec<Box<dyn Filter>>) -> Self {
        Nested { name, row: Some(row), turning: false, sub: None }
    }

    /// Around filters of one direction.
    pub(super) fn turning(name: &'static str, row: Vec<Box<dyn Filter>>) -> Self {
        Nested { name, row: Some(row), turning: true, sub: None }
    }
}

impl Filter for Nested {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if let Some(row) = self.row.take() {
            self.sub = Some(if self.turning { cx.open_turning(row, ONLY) } else { cx.open(row, ONLY) });
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(sub) = self.sub {
            cx.send(sub, event);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

/// The right end of a filter of two directions: a row of one direction that gives back what it produces.
pub(super) struct Bridge {
    nested: Nested,
}

impl Bridge {
    pub(super) fn new(row: Vec<Box<dyn Filter>>) -> Self {
        Bridge { nested: Nested::turning("bridge", row) }
    }
}

impl Filter for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.nested.start(cx);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.nested.input(cx, event);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        cx.back(event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.nested.closed(cx);
    }
}
