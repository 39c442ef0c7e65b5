//! What the proxy tells of its traffic: metrics and the access log.
//!
//! **Metrics.** [`Metrics`] is the process-wide registry. Each worker registers once ([`Metrics::worker`]) and from
//! then on counts into its own [`WorkerMetrics`]; nothing is shared on the way of a request. When someone reads
//! ([`Metrics::prometheus`], [`Metrics::stats`], [`Metrics::clusters`]) the workers' counters are added up.
//!
//! **Access log.** Each worker formats its lines into a [`LogBuffer`] and hands over whole buffers; one thread, the
//! [`LogWriter`], writes them. A worker never waits for the disk or the pipe: when the writer can't keep up, lines
//! are dropped and counted.
//!
//! **Export.** [`Exporter`] sends spans ([`SpanReport`]) and lines of the log to a collector, from a thread of its own.
//!
//! INVARIANT: a counter has one writer, its worker; only reading is shared. Every set of labels has a named limit,
//! with one `other` entry for what exceeds it: foreign input can't make memory grow.
//!
//! Not here: who counts what and when (`pipy-mesh`, `pipy-filters`), the HTTP pages that show it (`pipy`).

#![forbid(unsafe_code)]

mod cluster;
mod counter;
mod export;
mod exposition;
mod histogram;
mod log;
mod metrics;
mod snapshot;
mod stats;
mod trace;
mod worker;

pub use cluster::ClusterCounters;
pub use counter::{CODES_MAX, Codes, Counter, Gauge, SLOTS_MAX, SharedCounter, Slots};
pub use export::{Collector, Exporter, Shape};
pub use histogram::{APPLY_BUCKETS_MS, Histogram, REQUEST_BUCKETS_MS};
pub use log::{
    BUFFER_BYTES, BUFFERS_MAX, Decision, Direction, Entry, FIELD_BYTES_MAX, FLUSH_AFTER, LogBuffer, LogStats,
    LogWriter, SHUTDOWN_WAIT,
};
pub use metrics::{ControlCounters, Labels, Metrics};
pub use trace::{Span, SpanReport, TraceContext, TraceId};
pub use worker::{
    CLUSTERS_MAX, DESTINATIONS_MAX, DestinationLabels, ListenerCounters, OTHER, ProxyCounters, WorkerMetrics,
};
