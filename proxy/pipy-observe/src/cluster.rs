//! What is counted for one upstream cluster.
//!
//! One table says it all: field, exposed name, help. The struct, the metrics page and the stats page are made from
//! it, so a counter that exists is a counter that is shown. The names are those that users' dashboards know
//! (`sidecar_cluster_` and the name here); the exposition adds the labels.
//!
//! INVARIANT: written by one worker. Classes and codes are counted together, in [`ClusterCounters::response`].

use crate::counter::{Codes, Counter, Gauge};

/// Exposed name (after `sidecar_cluster_`) and help text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

macro_rules! cluster_counters {
    (gauges { $($gauge:ident $gauge_name:literal $gauge_help:literal,)* }
     counters { $($counter:ident $name:literal $help:literal,)* }) => {
        /// The counters of one cluster in one worker.
        #[derive(Debug, Default)]
        pub struct ClusterCounters {
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
            $(#[doc = $help] pub $counter: Counter,)*
            /// Requests sent to the cluster; a retry is another one.
            pub rq_total: Counter,
            /// Responses by class, `status / 100`; `[0]` counts requests that ended without one.
            pub rq_by_class: [Counter; 6],
            /// Responses by status.
            pub rq_code: Codes,
        }

        pub(crate) const GAUGES: &[Named] = &[$(Named { name: $gauge_name, help: $gauge_help },)*];
        pub(crate) const COUNTERS: &[Named] = &[$(Named { name: $name, help: $help },)*];

        impl ClusterCounters {
            /// In the order of `GAUGES`.
            pub(crate) fn gauges(&self) -> [u64; GAUGES.len()] {
                [$(self.$gauge.get(),)*]
            }

            /// In the order of `COUNTERS`.
            pub(crate) fn counters(&self) -> [u64; COUNTERS.len()] {
                [$(self.$counter.get(),)*]
            }
        }
    };
}

cluster_counters! {
    gauges {
        cx_active "upstream_cx_active" "Connections to the cluster that are open.",
        rq_active "upstream_rq_active" "Requests to the cluster that are under way.",
        breaker_open "circuit_breaker_open" "Workers whose circuit breaker of the cluster is open.",
    }
    counters {
        cx_total "upstream_cx_total" "Connections to the cluster that were opened.",
        cx_tx_bytes "upstream_cx_tx_bytes_total" "Bytes sent to the cluster.",
        cx_rx_bytes "upstream_cx_rx_bytes_total" "Bytes received from the cluster.",
        cx_connect_timeout "upstream_cx_connect_timeout" "Connection attempts that took too long.",
        cx_connect_fail "upstream_cx_connect_fail" "Connection attempts that failed.",
        cx_protocol_error "upstream_cx_protocol_error"
            "Connections on which the cluster broke the rules of HTTP.",
        cx_destroy_remote_with_active_rq "upstream_cx_destroy_remote_with_active_rq"
            "Connections that the cluster closed while a request was under way.",
        cx_destroy_local_with_active_rq "upstream_cx_destroy_local_with_active_rq"
            "Connections that this proxy closed while a request was under way.",
        rq_pending_failure_eject "upstream_rq_pending_failure_eject"
            "Waiting requests that failed because the connection did.",
        rq_pending_overflow "upstream_rq_pending_overflow" "Requests refused because too many were waiting.",
        cx_overflow "upstream_cx_overflow"
            "Times that a request had to wait because there were as many connections as may be.",
        rq_overflow "upstream_rq_overflow" "Requests refused because too many were under way.",
        rq_degraded "upstream_rq_degraded" "Requests that the open circuit breaker answered.",
        ejections "outlier_detection_ejections_total" "Times that an endpoint was ejected for its failures.",
        rq_timeout "upstream_rq_timeout" "Requests whose response took too long.",
        rq_rx_reset "upstream_rq_rx_reset" "Requests that the cluster reset.",
        rq_tx_reset "upstream_rq_tx_reset" "Requests that this proxy reset.",
        rq_client_closed "upstream_rq_client_closed"
            "Requests whose clients left before the response was complete.",
        rq_elsewhere "upstream_rq_elsewhere"
            "Requests that were sent to another endpoint without a policy, for that was safe.",
        retry "upstream_rq_retry" "Retries.",
        retry_success "upstream_rq_retry_success" "Retried requests that succeeded in the end.",
        retry_limit_exceeded "upstream_rq_retry_limit_exceeded" "Requests that failed after their last retry.",
        retry_overflow "upstream_rq_retry_overflow" "Retries not made because there were too many at once.",
        retry_backoff_exponential "upstream_rq_retry_backoff_exponential" "Retries made after a growing pause.",
        retry_backoff_ratelimited "upstream_rq_retry_backoff_ratelimited"
            "Retries made after the pause that the cluster asked for.",
    }
}

impl ClusterCounters {
    /// A request goes out.
    #[inline]
    pub fn request(&self) {
        self.rq_total.inc();
    }

    /// A request ended with this status; `0` when it ended without a response.
    #[inline]
    pub fn response(&self, status: u16) {
        // Codes of 600 and above are no HTTP (RFC 9110 section 15); they count as server errors, as it says.
        let class = usize::from(status / 100).min(5);
        self.rq_by_class[class].inc();
        self.rq_code.inc(status);
    }
}
