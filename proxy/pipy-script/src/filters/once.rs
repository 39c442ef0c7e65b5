//! The end of a stream, once: what stands between the filters of every row that a script has described.
//!
//! A filter whose callback fails ends its stream, and the end that comes from the client follows later; `onStart` may give an end of
//! its own, a promise may be rejected after one. INVARIANT: no filter of a row, and nobody who waits for what the row produces,
//! sees anything after the first end but `Pause` and `Resume`.

use pipy_pipeline::{Cx, Dir, Event, Filter, Slot};

use super::values::is_close;

/// What the last of a row is called.
pub(crate) const LAST: &str = "end";

/// Filters in a row, with a guard before each and one behind the last.
pub(crate) fn guarded(filters: impl Iterator<Item = Box<dyn Filter>>, row: &mut Vec<Box<dyn Filter>>) {
    row.extend(filters.map(|inner| Box::new(Guarded { inner, seen: Seen::default() }) as Box<dyn Filter>));
    row.push(Box::new(Last(Seen::default())));
}

/// Whether the end has been seen.
#[derive(Default)]
struct Seen(bool);

impl Seen {
    /// Whether an event may go on.
    fn lets_pass(&mut self, event: &Event) -> bool {
        match event {
            Event::Pause | Event::Resume => true,
            event if is_close(event) => !std::mem::replace(&mut self.0, true),
            _ => !self.0,
        }
    }
}

/// A filter with a guard before it: one object, so that no event takes another step.
struct Guarded {
    inner: Box<dyn Filter>,
    seen: Seen,
}

impl Filter for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.inner.start(cx);
    }

    fn ignores(&self, dir: Dir) -> bool {
        self.inner.ignores(dir)
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.seen.lets_pass(&event) {
            self.inner.input(cx, event);
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.inner.output(cx, event);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        self.inner.sub(cx, slot, event);
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.inner.flush(cx);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        self.inner.timer(cx, token);
    }

    fn wake(&mut self, cx: &mut Cx<'_>, token: u32) {
        self.inner.wake(cx, token);
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        self.inner.drain(cx);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.inner.closed(cx);
    }
}

/// The guard behind the last filter.
struct Last(Seen);

impl Filter for Last {
    fn name(&self) -> &'static str {
        LAST
    }

    fn ignores(&self, dir: Dir) -> bool {
        dir == Dir::Output
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.0.lets_pass(&event) {
            cx.forward(event);
        }
    }
}
