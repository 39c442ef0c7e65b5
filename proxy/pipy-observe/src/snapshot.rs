//! Every worker's counters added up, at one moment.
//!
//! What comes in: live counters. What goes out: plain sorted numbers that both text forms print, so that they can't
//! disagree. Numbers of one snapshot are read one after the other, not at one instant: sums may be a request apart.
//!
//! Not here: names and formats (`exposition`, `stats`).

use std::collections::BTreeMap;

use crate::cluster::{COUNTERS, ClusterCounters, GAUGES};
use crate::counter::{Counter, Slots};
use crate::histogram::{APPLY_BUCKETS_MS, HistogramSum, REQUEST_BUCKETS_MS};
use crate::log::LogStats;
use crate::metrics::{ControlCounters, Labels};
use crate::worker::{ListenerCounters, OTHER, ProxyCounters, WorkerShared, lock};

pub(crate) type ByLabel = BTreeMap<String, u64>;

#[derive(Debug, Default)]
pub(crate) struct ClusterSum {
    pub(crate) gauges: [u64; GAUGES.len()],
    pub(crate) counters: [u64; COUNTERS.len()],
    pub(crate) rq_total: u64,
    pub(crate) by_class: [u64; 6],
    /// By status; 0 stands for `other`.
    pub(crate) by_code: BTreeMap<u16, u64>,
}

impl ClusterSum {
    fn add(&mut self, counters: &ClusterCounters) {
        sum(&mut self.gauges, counters.gauges());
        sum(&mut self.counters, counters.counters());
        self.rq_total = self.rq_total.wrapping_add(counters.rq_total.get());
        sum(&mut self.by_class, std::array::from_fn(|class| counters.rq_by_class[class].get()));
        let other = counters.rq_code.other();
        for (code, count) in counters.rq_code.iter().chain((other > 0).then_some((0, other))) {
            *self.by_code.entry(code).or_default() += count;
        }
    }

    /// Requests that were answered.
    pub(crate) fn completed(&self) -> u64 {
        self.by_class[1..].iter().sum()
    }
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) workload: Labels,
    pub(crate) clusters: BTreeMap<String, ClusterSum>,
    /// By namespace, kind, name, pod.
    pub(crate) durations: BTreeMap<[String; 4], HistogramSum>,
    /// Total and active.
    pub(crate) listeners: BTreeMap<String, (u64, u64, u64)>,
    pub(crate) denied: ByLabel,
    pub(crate) detected: ByLabel,
    pub(crate) datagrams_received: ByLabel,
    pub(crate) datagrams_sent: ByLabel,
    pub(crate) datagrams_dropped: ByLabel,
    pub(crate) protocol_errors: ByLabel,
    pub(crate) upstream_protocol_errors: ByLabel,
    pub(crate) tls_handshakes: u64,
    pub(crate) tls_failures: ByLabel,
    pub(crate) rate_limited_service: u64,
    pub(crate) rate_limited_route: u64,
    pub(crate) rate_limited_inbound: ByLabel,
    pub(crate) config_applied: u64,
    pub(crate) config_refused: u64,
    pub(crate) config_apply: HistogramSum,
    pub(crate) connected: u64,
    pub(crate) certificate_not_after_s: u64,
    pub(crate) log_lines: u64,
    pub(crate) log_dropped: u64,
    /// Inbound, outbound; not told, told.
    pub(crate) traced: [[u64; 2]; 2],
    pub(crate) remote_logged: [[u64; 2]; 2],
    /// By what is exported: sent and dropped.
    pub(crate) exports: Vec<(&'static str, u64, u64)>,
}

impl Snapshot {
    pub(crate) fn new(workload: Labels) -> Self {
        Snapshot {
            workload,
            clusters: BTreeMap::new(),
            durations: BTreeMap::new(),
            listeners: BTreeMap::new(),
            denied: ByLabel::new(),
            detected: ByLabel::new(),
            datagrams_received: ByLabel::new(),
            datagrams_sent: ByLabel::new(),
            datagrams_dropped: ByLabel::new(),
            protocol_errors: ByLabel::new(),
            upstream_protocol_errors: ByLabel::new(),
            tls_handshakes: 0,
            tls_failures: ByLabel::new(),
            rate_limited_service: 0,
            rate_limited_route: 0,
            rate_limited_inbound: ByLabel::new(),
            config_applied: 0,
            config_refused: 0,
            config_apply: HistogramSum::new(APPLY_BUCKETS_MS),
            connected: 0,
            certificate_not_after_s: 0,
            log_lines: 0,
            log_dropped: 0,
            traced: [[0; 2]; 2],
            remote_logged: [[0; 2]; 2],
            exports: Vec::new(),
        }
    }

    pub(crate) fn control(&mut self, control: &ControlCounters) {
        self.config_applied = control.config_applied.get();
        self.config_refused = control.config_refused.get();
        self.config_apply = control.config_apply.sum();
        self.connected = control.connected.get();
        self.certificate_not_after_s = control.certificate_not_after_s.get();
    }

    pub(crate) fn log(&mut self, log: &LogStats) {
        self.log_lines = log.written.get();
        self.log_dropped = log.dropped.get();
    }

    pub(crate) fn export(&mut self, what: &'static str, stats: &LogStats) {
        self.exports.push((what, stats.written.get(), stats.dropped.get()));
    }

    pub(crate) fn worker(&mut self, worker: &WorkerShared) {
        self.proxy(&worker.proxy);
        let mut clusters = lock(&worker.clusters);
        clusters.forget();
        for (name, counters) in clusters.iter() {
            // Most names are there already, from the worker before.
            match self.clusters.get_mut(name) {
                Some(sum) => sum.add(counters),
                None => self.clusters.entry(name.to_owned()).or_default().add(counters),
            }
        }
        drop(clusters);
        for (labels, histogram) in lock(&worker.durations).iter() {
            self.durations
                .entry(labels.map(str::to_owned))
                .or_insert_with(|| HistogramSum::new(REQUEST_BUCKETS_MS))
                .add(histogram);
        }
    }

    fn proxy(&mut self, proxy: &ProxyCounters) {
        let mut listener = |name: &str, counters: &ListenerCounters| {
            let (total, active, http2) = self.listeners.entry(name.to_owned()).or_default();
            *total += counters.cx_total.get();
            *active += counters.cx_active.get();
            *http2 += counters.cx_http2.get();
        };
        for (name, counters) in proxy.listeners.iter() {
            listener(name, counters);
        }
        if proxy.listeners.other().cx_total.get() > 0 {
            listener(OTHER, proxy.listeners.other());
        }
        labelled(&mut self.denied, &proxy.denied);
        labelled(&mut self.detected, &proxy.detected);
        labelled(&mut self.datagrams_received, &proxy.datagrams_received);
        labelled(&mut self.datagrams_sent, &proxy.datagrams_sent);
        labelled(&mut self.datagrams_dropped, &proxy.datagrams_dropped);
        labelled(&mut self.protocol_errors, &proxy.protocol_errors);
        labelled(&mut self.upstream_protocol_errors, &proxy.upstream_protocol_errors);
        labelled(&mut self.tls_failures, &proxy.tls_failures);
        labelled(&mut self.rate_limited_inbound, &proxy.rate_limited_inbound);
        self.tls_handshakes += proxy.tls_handshakes.get();
        self.rate_limited_service += proxy.rate_limited_service.get();
        self.rate_limited_route += proxy.rate_limited_route.get();
        let read = |pair: &[Counter; 2]| [pair[0].get(), pair[1].get()];
        let [inbound, outbound] = &mut self.traced;
        sum(inbound, read(&proxy.traced_inbound));
        sum(outbound, read(&proxy.traced_outbound));
        let [inbound, outbound] = &mut self.remote_logged;
        sum(inbound, read(&proxy.remote_logged_inbound));
        sum(outbound, read(&proxy.remote_logged_outbound));
    }
}

fn sum<const N: usize>(into: &mut [u64; N], from: [u64; N]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into = into.wrapping_add(from);
    }
}

fn labelled(into: &mut ByLabel, from: &Slots<Counter>) {
    for (label, counter) in from.iter() {
        *into.entry(label.to_owned()).or_default() += counter.get();
    }
    let other = from.other().get();
    if other > 0 {
        *into.entry(OTHER.to_owned()).or_default() += other;
    }
}
