//! The registry: who counts, whose metrics these are, and the three ways to read them.
//!
//! What comes in: one registration per worker, the workload's names once they are known, what the control thread
//! reports. What goes out: text, for Prometheus, for people, and per cluster.
//!
//! INVARIANT: reading takes short locks, one worker at a time, and never stops a worker that only counts.
//!
//! Not here: the text forms (`exposition`, `stats`), the sums (`snapshot`).

use std::sync::{Arc, Mutex, OnceLock};

use crate::counter::{Gauge, SharedCounter};
use crate::histogram::{APPLY_BUCKETS_MS, Histogram};
use crate::log::LogStats;
use crate::snapshot::Snapshot;
use crate::worker::{WorkerMetrics, WorkerShared, lock};
use crate::{exposition, stats};

/// What this proxy's workload is called; the `source_…` labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Kind of the object that owns the Pod, such as `Deployment`.
    pub kind: String,
    /// Name of that object.
    pub name: String,
    /// Name of the Pod.
    pub pod: String,
}

/// What happens once per process, not per worker: configurations and the control plane.
#[derive(Debug)]
pub struct ControlCounters {
    /// Configurations that took effect.
    pub config_applied: SharedCounter,
    /// Configurations that were refused.
    pub config_refused: SharedCounter,
    /// From receipt of a configuration until every worker uses it. Written by the thread that applies, alone.
    pub config_apply: Histogram,
    /// Whether the control plane answers: 1 or 0.
    pub connected: Gauge,
    /// When the current certificate ends, seconds since the epoch; 0 when there is none.
    pub certificate_not_after_s: Gauge,
}

impl Default for ControlCounters {
    fn default() -> Self {
        ControlCounters {
            config_applied: SharedCounter::default(),
            config_refused: SharedCounter::default(),
            config_apply: Histogram::new(APPLY_BUCKETS_MS),
            connected: Gauge::default(),
            certificate_not_after_s: Gauge::default(),
        }
    }
}

/// The metrics of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Counters of what happens once per process.
    pub control: ControlCounters,
    workload: Mutex<Labels>,
    workers: Mutex<Vec<Arc<WorkerShared>>>,
    log: OnceLock<Arc<LogStats>>,
    exports: OnceLock<[(&'static str, Arc<LogStats>); 2]>,
}

impl Metrics {
    /// An empty registry for a workload; its names may come later with [`Metrics::set_workload`].
    pub fn new(workload: Labels) -> Arc<Self> {
        Arc::new(Metrics { workload: Mutex::new(workload), ..Metrics::default() })
    }

    /// Says what the workload is called from now on.
    pub fn set_workload(&self, workload: Labels) {
        *lock(&self.workload) = workload;
    }

    /// Shows the log's counters too. The first log wins; a process has one.
    pub fn set_log(&self, stats: Arc<LogStats>) {
        let _ = self.log.set(stats);
    }

    /// Shows the counters of what is sent to collectors too: spans, and lines of the log. The first ones win.
    pub fn set_exports(&self, spans: Arc<LogStats>, lines: Arc<LogStats>) {
        let _ = self.exports.set([("spans", spans), ("log_lines", lines)]);
    }

    /// Registers one more worker. What a worker counted stays in the sums after its end.
    pub fn worker(&self) -> WorkerMetrics {
        let shared = Arc::new(WorkerShared::default());
        lock(&self.workers).push(Arc::clone(&shared));
        WorkerMetrics::new(shared)
    }

    /// The metrics in the text format of Prometheus, version 0.0.4.
    pub fn prometheus(&self) -> String {
        exposition::text(&self.snapshot())
    }

    /// The metrics for people, one `name: value` per line, sorted.
    pub fn stats(&self) -> String {
        stats::stats(&self.snapshot())
    }

    /// The clusters for people, one `cluster::name::value` per line, sorted by cluster.
    pub fn clusters(&self) -> String {
        stats::clusters(&self.snapshot())
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(lock(&self.workload).clone());
        snapshot.control(&self.control);
        if let Some(log) = self.log.get() {
            snapshot.log(log);
        }
        for (what, stats) in self.exports.get().into_iter().flatten() {
            snapshot.export(what, stats);
        }
        let workers = lock(&self.workers).clone();
        for worker in &workers {
            snapshot.worker(worker);
        }
        snapshot
    }
}
