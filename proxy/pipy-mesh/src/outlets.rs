//! Where a worker's log lines and spans go: to standard output, to collectors, or nowhere.
//!
//! In: entries and spans as requests and connections end. Out: lines in the worker's buffers, which threads elsewhere write
//! and send. Nothing here waits or fails.

use std::cell::{OnceCell, RefCell};
use std::time::Instant;

use pipy_config::AccessLog;
use pipy_observe::{Decision, Direction, Entry, LogBuffer, ProxyCounters, SpanReport};

use crate::plan::Plan;

/// See the module.
pub(crate) struct Outlets {
    log: RefCell<LogBuffer>,
    exports: OnceCell<Exports>,
}

struct Exports {
    spans: RefCell<LogBuffer>,
    lines: RefCell<LogBuffer>,
}

impl Plan {
    /// Whether anyone wants a line about what was decided so.
    pub(crate) fn logs(&self, decision: Decision) -> bool {
        self.logs_here(decision) || self.telemetry.remote_log.is_some()
    }

    fn logs_here(&self, decision: Decision) -> bool {
        match self.telemetry.access_log {
            AccessLog::Off => false,
            AccessLog::Denied => matches!(decision, Decision::Denied | Decision::Failed),
            AccessLog::All => true,
        }
    }
}

impl Outlets {
    pub(crate) fn new(log: LogBuffer) -> Self {
        Outlets { log: RefCell::new(log), exports: OnceCell::new() }
    }

    /// Spans, and lines for elsewhere, go there. The first ones stay.
    pub(crate) fn exporting(&self, spans: LogBuffer, lines: LogBuffer) {
        let _ = self.exports.set(Exports { spans: RefCell::new(spans), lines: RefCell::new(lines) });
    }

    /// Takes a line. `roll` falls from 0 to 999,999: by it a share of them is sent elsewhere.
    pub(crate) fn line(&self, plan: &Plan, entry: &Entry<'_>, proxy: &ProxyCounters, roll: impl Fn() -> u64) {
        if plan.logs_here(entry.decision) {
            self.log.borrow_mut().record(entry);
        }
        let (Some(remote), Some(exports)) = (&plan.telemetry.remote_log, self.exports.get()) else { return };
        let [left_out, sent] = match entry.direction {
            Direction::Inbound => &proxy.remote_logged_inbound,
            Direction::Outbound => &proxy.remote_logged_outbound,
        };
        if roll() < u64::from(remote.sampled_per_million) {
            sent.inc();
            exports.lines.borrow_mut().record(&Entry { pod: Some(&plan.pod), ..*entry });
        } else {
            left_out.inc();
        }
    }

    pub(crate) fn span(&self, span: &SpanReport<'_>) {
        if let Some(exports) = self.exports.get() {
            exports.spans.borrow_mut().append(|out| span.write(out));
        }
    }

    /// The turn is over. Returns when the next one should come at the latest.
    pub(crate) fn turn(&self, now: Instant) -> Option<Instant> {
        let exports = self.exports.get();
        let all = [Some(&self.log), exports.map(|e| &e.spans), exports.map(|e| &e.lines)];
        let due = all.into_iter().flatten().filter_map(|buffer| {
            let mut buffer = buffer.borrow_mut();
            buffer.turn(now);
            buffer.due()
        });
        due.min()
    }
}
