//! Timers: a heap ordered by time. Cancelling is lazy: a cancelled entry is dropped when its time comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use slab::Slab;

use crate::PipelineId;

/// A timer that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    index: usize,
    serial: u64,
}

#[derive(Debug)]
struct Timer {
    serial: u64,
    pipeline: PipelineId,
    index: usize,
    token: u32,
}

/// All timers of one worker.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, TimerId)>>,
    live: Slab<Timer>,
    serial: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, pipeline: PipelineId, index: usize, token: u32) -> TimerId {
        self.serial += 1;
        let index = self.live.insert(Timer { serial: self.serial, pipeline, index, token });
        let id = TimerId { index, serial: self.serial };
        self.heap.push(Reverse((at, id)));
        id
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        if self.live.get(id.index).is_some_and(|timer| timer.serial == id.serial) {
            self.live.remove(id.index);
        }
        // Connections that come and go would leave their cancelled timers for hours (idle timeouts are long).
        if self.heap.len() > 64 && self.heap.len() > self.live.len() * 2 {
            self.heap.retain(|Reverse((_, id))| {
                self.live.get(id.index).is_some_and(|timer| timer.serial == id.serial)
            });
        }
    }

    pub(crate) fn shrink(&mut self) {
        let live = &self.live;
        let set = |id: &TimerId| live.get(id.index).is_some_and(|timer| timer.serial == id.serial);
        self.heap.retain(|Reverse((_, id))| set(id));
        self.heap.shrink_to_fit();
        self.live.shrink_to_fit();
    }

    /// How many timers are set; a leak shows here.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// When the next timer is due.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, id))) = self.heap.peek() {
            if self.live.get(id.index).is_some_and(|timer| timer.serial == id.serial) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes those that are due out of the order of time, into `due`; each waits for [`Timers::take`].
    pub(crate) fn move_due(&mut self, now: Instant, due: &mut Vec<TimerId>) {
        while self.next_due().is_some_and(|next| next <= now) {
            due.extend(self.heap.pop().map(|Reverse((_, id))| id));
        }
    }

    /// One whose time has come: what it is for, unless it was cancelled meanwhile.
    pub(crate) fn take(&mut self, id: TimerId) -> Option<(PipelineId, usize, u32)> {
        if self.live.get(id.index)?.serial != id.serial {
            return None;
        }
        let timer = self.live.try_remove(id.index)?;
        Some((timer.pipeline, timer.index, timer.token))
    }
}
