//! What one worker counts, and how its counters are found.
//!
//! What comes in: cluster names with each configuration, labels as they occur. What goes out: the counters, to be
//! held by whoever counts: a lookup costs a short lock, so it is done once per configuration, connection or
//! destination, never per byte. The lock is only ever contended by someone who reads the metrics.
//!
//! Clusters that a new configuration no longer names are **forgotten as soon as nobody holds their counters** (their
//! last connection has closed and the old configuration is gone); until then they stay readable. Clusters that no
//! configuration ever named (the proxy's own) stay while there is room. Destinations that had no request for a while
//! make room for new ones when the table is full.
//!
//! INVARIANT: one `WorkerMetrics` belongs to one thread. Not here: adding up (`snapshot`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::cluster::ClusterCounters;
use crate::counter::{Counter, Gauge, Slots};
use crate::histogram::{Histogram, REQUEST_BUCKETS_MS};

/// LIMIT: clusters per worker. A mesh of a thousand services has a few thousand; each takes about a kilobyte.
pub const CLUSTERS_MAX: usize = 8192;

/// LIMIT: destinations whose durations are held apart, per worker. Each makes 19 series; a Pod that talks to more
/// than five hundred others is looked at in sum.
pub const DESTINATIONS_MAX: usize = 512;

/// LIMIT: bytes of one destination label (RFC 1123 subdomain).
const LABEL_BYTES_MAX: usize = 253;

/// What the entry for everything beyond a limit is called.
pub const OTHER: &str = "other";

/// Counters of one listener in one worker.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections that were accepted.
    pub cx_total: Counter,
    /// Connections that are open.
    pub cx_active: Gauge,
    /// Those of them that speak HTTP/2.
    pub cx_http2: Counter,
}

/// Counters that belong to no cluster, of one worker.
#[derive(Debug, Default)]
pub struct ProxyCounters {
    /// Downstream connections, by listener (`outbound`, `inbound`, `metrics`, …).
    pub listeners: Slots<ListenerCounters>,
    /// Requests and connections that were denied, by reason (a short fixed word, such as `no-route`).
    pub denied: Slots<Counter>,
    /// UDP datagrams that clients sent, by listener (`outbound-udp`, `inbound-udp`).
    pub datagrams_received: Slots<Counter>,
    /// UDP datagrams that clients were sent, by listener.
    pub datagrams_sent: Slots<Counter>,
    /// UDP datagrams that were dropped, by reason: that of a denial, or `overflow` for want of room.
    pub datagrams_dropped: Slots<Counter>,
    /// Connections of unknown protocol, by what they turned out to be (`http1`, `http2`, `tls`, `tcp`, `silent`).
    pub detected: Slots<Counter>,
    /// Malformed HTTP, by kind of fault.
    pub protocol_errors: Slots<Counter>,
    /// The same of servers, on connections to them.
    pub upstream_protocol_errors: Slots<Counter>,
    /// TLS handshakes that succeeded, both directions.
    pub tls_handshakes: Counter,
    /// TLS handshakes that failed, by reason.
    pub tls_failures: Slots<Counter>,
    /// Requests over the limit of their service.
    pub rate_limited_service: Counter,
    /// Requests over the limit of their route.
    pub rate_limited_route: Counter,
    /// Connections over the limit of their port, by `namespace/pod_port_protocol`.
    pub rate_limited_inbound: Slots<Counter>,
    /// Requests to the application by whether their span was told to the collector: no, yes.
    pub traced_inbound: [Counter; 2],
    /// The same of requests of the application.
    pub traced_outbound: [Counter; 2],
    /// Requests and connections to the application by whether their line was sent to the remote log: no, yes.
    pub remote_logged_inbound: [Counter; 2],
    /// The same of those of the application.
    pub remote_logged_outbound: [Counter; 2],
}

/// The other end of a request, as its proxy calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationLabels<'a> {
    /// Namespace of the Pod.
    pub namespace: &'a str,
    /// Kind of the object that owns it.
    pub kind: &'a str,
    /// Name of that object.
    pub name: &'a str,
    /// Name of the Pod.
    pub pod: &'a str,
}

impl<'a> DestinationLabels<'a> {
    /// Reads `namespace,kind,name,pod`, the value of the response header `fsm-stats`. `None` when it is anything
    /// else: the header comes from a peer and must not make labels of its own liking.
    pub fn parse(header: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split(',');
        let labels = DestinationLabels {
            namespace: parts.next()?,
            kind: parts.next()?,
            name: parts.next()?,
            pod: parts.next()?,
        };
        let plain = |label: &str| {
            label.len() <= LABEL_BYTES_MAX
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let all = [labels.namespace, labels.kind, labels.name, labels.pod];
        (parts.next().is_none() && all.into_iter().all(plain)).then_some(labels)
    }

    fn write_key(&self, key: &mut String) {
        key.clear();
        for (i, part) in [self.namespace, self.kind, self.name, self.pod].into_iter().enumerate() {
            if i > 0 {
                key.push('\n');
            }
            key.push_str(part);
        }
    }
}

/// One worker's counters. Cheap to clone; stays on its worker's thread once it is in use.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    /// Counters that belong to no cluster.
    pub proxy: Arc<ProxyCounters>,
    shared: Arc<WorkerShared>,
    /// One writer per counter: it may be sent to its thread, but not used from two.
    _one_thread: PhantomData<Cell<()>>,
}

impl WorkerMetrics {
    pub(crate) fn new(shared: Arc<WorkerShared>) -> Self {
        WorkerMetrics { proxy: Arc::clone(&shared.proxy), shared, _one_thread: PhantomData }
    }

    /// The counters of a cluster, made if it is new. Beyond [`CLUSTERS_MAX`], those of `other`.
    pub fn cluster(&self, name: &str) -> Arc<ClusterCounters> {
        lock(&self.shared.clusters).get(name)
    }

    /// A new configuration knows these clusters: they show up as zeros at once. Those that only the one before knew
    /// are forgotten when nobody holds them.
    pub fn set_clusters<S: AsRef<str>>(&self, names: &[S]) {
        lock(&self.shared.clusters).set(&mut names.iter().map(AsRef::as_ref));
    }

    /// Where durations of requests to this destination are recorded. Hold it while the upstream connection lives: it
    /// always leads to the same Pod. Beyond [`DESTINATIONS_MAX`], that of `other`.
    pub fn duration(&self, destination: &DestinationLabels<'_>) -> Arc<Histogram> {
        lock(&self.shared.durations).get(destination)
    }
}

/// What the registry keeps of a worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerShared {
    pub(crate) proxy: Arc<ProxyCounters>,
    pub(crate) clusters: Mutex<Clusters>,
    pub(crate) durations: Mutex<Durations>,
}

/// A panic elsewhere leaves counters as they are; they are still worth reading.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub(crate) struct Clusters {
    by_name: BTreeMap<Box<str>, Cluster>,
}

#[derive(Debug, Default)]
struct Cluster {
    counters: Arc<ClusterCounters>,
    standing: Standing,
}

/// Why a cluster is in the table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Someone asked for it. Stays while there is room: it may be one of the proxy's own making.
    #[default]
    Asked,
    /// The configuration names it.
    Configured,
    /// A configuration named it, the current one does not.
    Gone,
}

impl Clusters {
    fn get(&mut self, name: &str) -> Arc<ClusterCounters> {
        if let Some(cluster) = self.by_name.get(name) {
            return Arc::clone(&cluster.counters);
        }
        Arc::clone(&self.add(name).counters)
    }

    fn set(&mut self, names: &mut dyn Iterator<Item = &str>) {
        for cluster in self.by_name.values_mut().filter(|cluster| cluster.standing == Standing::Configured) {
            cluster.standing = Standing::Gone;
        }
        for name in names {
            match self.by_name.get_mut(name) {
                Some(cluster) => cluster.standing = Standing::Configured,
                None => self.add(name).standing = Standing::Configured,
            }
        }
        self.forget();
    }

    /// A new cluster, or `other` when there is no room.
    fn add(&mut self, name: &str) -> &mut Cluster {
        if self.by_name.len() >= CLUSTERS_MAX {
            self.retain(|standing| standing == Standing::Configured);
        }
        let name = if self.by_name.len() < CLUSTERS_MAX { name } else { OTHER };
        self.by_name.entry(name.into()).or_default()
    }

    /// Drops what the configuration no longer names and nobody holds.
    pub(crate) fn forget(&mut self) {
        self.retain(|standing| standing != Standing::Gone);
    }

    fn retain(&mut self, keep: impl Fn(Standing) -> bool) {
        self.by_name.retain(|name, cluster| {
            keep(cluster.standing) || Arc::strong_count(&cluster.counters) > 1 || &**name == OTHER
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ClusterCounters)> {
        self.by_name.iter().map(|(name, cluster)| (&**name, &*cluster.counters))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Durations {
    by_key: HashMap<Box<str>, Duration>,
    key: String,
    /// Lookups that found no room since the last look for idle entries.
    refused: usize,
    other: Option<Arc<Histogram>>,
}

#[derive(Debug)]
struct Duration {
    histogram: Arc<Histogram>,
    /// Its count when idle entries were looked for last.
    count: u64,
}

impl Durations {
    fn get(&mut self, destination: &DestinationLabels<'_>) -> Arc<Histogram> {
        destination.write_key(&mut self.key);
        if let Some(found) = self.by_key.get(&*self.key) {
            return Arc::clone(&found.histogram);
        }
        if self.by_key.len() >= DESTINATIONS_MAX {
            // Looking is O(n): once per n requests that found no room keeps it cheap.
            self.refused += 1;
            if self.refused >= DESTINATIONS_MAX {
                self.refused = 0;
                self.forget_idle();
            }
        }
        if self.by_key.len() >= DESTINATIONS_MAX {
            let new = || Arc::new(Histogram::new(REQUEST_BUCKETS_MS));
            return Arc::clone(self.other.get_or_insert_with(new));
        }
        let histogram = Arc::new(Histogram::new(REQUEST_BUCKETS_MS));
        let entry = Duration { histogram: Arc::clone(&histogram), count: 0 };
        self.by_key.insert(self.key.as_str().into(), entry);
        histogram
    }

    /// Drops the entries that nobody holds and that have counted nothing since the last time.
    fn forget_idle(&mut self) {
        self.by_key.retain(|_, entry| {
            let count = entry.histogram.count();
            let idle = count == entry.count && Arc::strong_count(&entry.histogram) == 1;
            entry.count = count;
            !idle
        });
    }

    /// The histograms with namespace, kind, name, pod.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ([&str; 4], &Histogram)> {
        let named = self.by_key.iter().map(|(key, entry)| {
            let mut parts = key.split('\n');
            (std::array::from_fn(|_| parts.next().unwrap_or_default()), &*entry.histogram)
        });
        named.chain(self.other.iter().map(|histogram| ([OTHER; 4], &**histogram)))
    }
}

#[cfg(test)]
mod tests;
