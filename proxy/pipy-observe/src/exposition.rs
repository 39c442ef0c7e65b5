//! The metrics as Prometheus reads them: text format, version 0.0.4.
//!
//! What comes in: a snapshot. What goes out: families in the order of their names, each with `# HELP` and `# TYPE`,
//! then its series in the order of their labels. Names and labels are those that dashboards of this family of meshes
//! use; `sidecar_response_code_class` is one digit, `2` for 204 as for 200.
//!
//! INVARIANT: nothing in a label value can end the value or the line. Same numbers, same bytes.
//!
//! Source: Prometheus documentation, "Exposition formats", text format details.

use std::fmt::Write;

use crate::cluster::{COUNTERS, GAUGES};
use crate::histogram::HistogramSum;
use crate::snapshot::{ByLabel, Snapshot};
use crate::worker::OTHER;

const CLUSTER: &str = "sidecar_cluster_name";
const CLASS: &str = "sidecar_response_code_class";

/// Prints a snapshot.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut families = Vec::new();
    clusters(snapshot, &mut families);
    requests(snapshot, &mut families);
    proxy(snapshot, &mut families);
    process(snapshot, &mut families);
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::with_capacity(families.iter().map(|family| family.text.len()).sum());
    for family in families {
        text.push_str(&family.text);
    }
    text
}

fn clusters(snapshot: &Snapshot, families: &mut Vec<Family>) {
    for (i, gauge) in GAUGES.iter().enumerate() {
        let mut family = Family::new(format!("sidecar_cluster_{}", gauge.name), "gauge", gauge.help);
        for (name, sum) in &snapshot.clusters {
            family.series(&[(CLUSTER, name)], sum.gauges[i]);
        }
        families.push(family);
    }
    for (i, counter) in COUNTERS.iter().enumerate() {
        let mut family = Family::new(format!("sidecar_cluster_{}", counter.name), "counter", counter.help);
        for (name, sum) in &snapshot.clusters {
            family.series(&[(CLUSTER, name)], sum.counters[i]);
        }
        families.push(family);
    }

    let mut completed =
        Family::counter("sidecar_cluster_external_upstream_rq_completed", "Requests that were answered.");
    let mut by_code = Family::counter("sidecar_cluster_external_upstream_rq", "Responses by status code.");
    let mut by_class = Family::counter(
        "sidecar_cluster_external_upstream_rq_xx",
        "Responses by class of status code; 0 counts requests that ended without one.",
    );
    for (name, sum) in &snapshot.clusters {
        completed.series(&[(CLUSTER, name)], sum.completed());
        for (code, count) in &sum.by_code {
            let code = if *code == 0 { OTHER.to_owned() } else { code.to_string() };
            by_code.series(&[(CLUSTER, name), ("sidecar_response_code", &code)], *count);
        }
        for (class, count) in sum.by_class.iter().enumerate() {
            by_class.series(&[(CLUSTER, name), (CLASS, &class.to_string())], *count);
        }
    }
    families.extend([completed, by_code, by_class]);
}

fn requests(snapshot: &Snapshot, families: &mut Vec<Family>) {
    let workload = &snapshot.workload;
    let mut total = Family::counter("sidecar_cluster_upstream_rq_total", "Requests sent to the cluster.");
    let mut by_class = Family::counter(
        "sidecar_cluster_upstream_rq_xx",
        "Responses by class of status code; 0 counts requests that ended without one.",
    );
    for (name, sum) in &snapshot.clusters {
        let labels = [
            ("source_namespace", workload.namespace.as_str()),
            ("source_workload_kind", &workload.kind),
            ("source_workload_name", &workload.name),
            ("source_workload_pod", &workload.pod),
            (CLUSTER, name),
        ];
        total.series(&labels, sum.rq_total);
        for (class, count) in sum.by_class.iter().enumerate() {
            let class = class.to_string();
            let [a, b, c, d, e] = labels;
            by_class.series(&[a, b, c, d, e, (CLASS, &class)], *count);
        }
    }

    let mut durations = Family::new(
        "fsm_request_duration_ms".to_owned(),
        "histogram",
        "Milliseconds from a request to the end of its response.",
    );
    for ([namespace, kind, name, pod], sum) in &snapshot.durations {
        let labels = [
            ("source_namespace", workload.namespace.as_str()),
            ("source_kind", &workload.kind),
            ("source_name", &workload.name),
            ("source_pod", &workload.pod),
            ("destination_namespace", namespace),
            ("destination_kind", kind),
            ("destination_name", name),
            ("destination_pod", pod),
        ];
        durations.histogram(&labels, sum);
    }
    families.extend([total, by_class, durations]);
}

fn proxy(snapshot: &Snapshot, families: &mut Vec<Family>) {
    let mut total = Family::counter(
        "sidecar_listener_downstream_cx_total",
        "Connections that were accepted, by listener.",
    );
    let mut active = Family::new(
        "sidecar_listener_downstream_cx_active".to_owned(),
        "gauge",
        "Accepted connections that are open, by listener.",
    );
    let mut http2 = Family::counter(
        "sidecar_listener_downstream_cx_http2_total",
        "Accepted connections that speak HTTP/2, by listener.",
    );
    for (name, (all, open, h2)) in &snapshot.listeners {
        total.series(&[("listener", name)], *all);
        active.series(&[("listener", name)], *open);
        http2.series(&[("listener", name)], *h2);
    }
    let mut handshakes = Family::counter("sidecar_tls_handshakes_total", "TLS handshakes that succeeded.");
    handshakes.series(&[], snapshot.tls_handshakes);
    let mut limited = Family::counter("http_local_rate_limiter", "Requests over a limit of this proxy.");
    for (kind, count) in
        [("throttle_route", snapshot.rate_limited_route), ("throttle_service", snapshot.rate_limited_service)]
    {
        limited.series(&[("http_local_rate_limit", kind)], count);
    }
    let labelled = [
        ("sidecar_denied_total", "Requests and connections that were denied.", "reason", &snapshot.denied),
        (
            "sidecar_protocol_detected_total",
            "Connections of unknown protocol, by what they turned out to be.",
            "protocol",
            &snapshot.detected,
        ),
        (
            "sidecar_udp_datagrams_received_total",
            "UDP datagrams that clients sent, by listener.",
            "listener",
            &snapshot.datagrams_received,
        ),
        (
            "sidecar_udp_datagrams_sent_total",
            "UDP datagrams that clients were sent, by listener.",
            "listener",
            &snapshot.datagrams_sent,
        ),
        (
            "sidecar_udp_datagrams_dropped_total",
            "UDP datagrams that were dropped.",
            "reason",
            &snapshot.datagrams_dropped,
        ),
        ("sidecar_http_protocol_error_total", "Malformed HTTP messages.", "error", &snapshot.protocol_errors),
        (
            "sidecar_http_upstream_protocol_error_total",
            "Malformed HTTP messages of servers.",
            "error",
            &snapshot.upstream_protocol_errors,
        ),
        (
            "sidecar_tls_handshake_failures_total",
            "TLS handshakes that failed.",
            "reason",
            &snapshot.tls_failures,
        ),
        (
            "sidecar_local_rate_limit_inbound",
            "Connections over the limit of their port.",
            "label",
            &snapshot.rate_limited_inbound,
        ),
    ];
    families.extend(labelled.map(|(name, help, label, counts)| Family::labelled(name, help, label, counts)));
    families.extend([total, active, http2, handshakes, limited]);
    told(snapshot, families);
}

fn told(snapshot: &Snapshot, families: &mut Vec<Family>) {
    for (what, counts) in [("tracing", &snapshot.traced), ("logging", &snapshot.remote_logged)] {
        for (direction, pair) in ["inbound", "outbound"].iter().zip(counts) {
            for (sampled, count) in pair.iter().enumerate() {
                let name = format!("{direction}_http_{what}_sampled_{sampled}");
                let help = match sampled {
                    0 => "Requests that no collector is told of.",
                    _ => "Requests that a collector is told of.",
                };
                let mut family = Family::new(name, "counter", help);
                family.series(&[], *count);
                families.push(family);
            }
        }
    }
    let mut sent = Family::counter("sidecar_export_sent_total", "Records that a collector has taken.");
    let mut dropped = Family::counter(
        "sidecar_export_dropped_total",
        "Records that were lost, because the collector is away, too slow, or refuses them.",
    );
    for (what, written, lost) in &snapshot.exports {
        sent.series(&[("record", what)], *written);
        dropped.series(&[("record", what)], *lost);
    }
    families.extend([sent, dropped]);
}

fn process(snapshot: &Snapshot, families: &mut Vec<Family>) {
    let mut configs =
        Family::counter("sidecar_config_total", "Configurations received, by what became of them.");
    configs.series(&[("outcome", "applied")], snapshot.config_applied);
    configs.series(&[("outcome", "refused")], snapshot.config_refused);
    let mut apply = Family::new(
        "sidecar_config_apply_ms".to_owned(),
        "histogram",
        "Milliseconds from receipt of a configuration until it is in effect.",
    );
    apply.histogram(&[], &snapshot.config_apply);
    families.extend([configs, apply]);
    for (name, help, value) in [
        ("sidecar_server_live", "Whether this proxy runs.", 1),
        ("sidecar_control_plane_connected", "Whether the control plane answers.", snapshot.connected),
        (
            "sidecar_certificate_not_after_seconds",
            "When the certificate ends, seconds since the epoch; 0 without one.",
            snapshot.certificate_not_after_s,
        ),
    ] {
        let mut family = Family::new(name.to_owned(), "gauge", help);
        family.series(&[], value);
        families.push(family);
    }
    for (name, help, value) in [
        ("sidecar_access_log_lines_total", "Lines of the access log that were written.", snapshot.log_lines),
        (
            "sidecar_access_log_dropped_total",
            "Lines of the access log that were lost, because the reader is too slow or writing failed.",
            snapshot.log_dropped,
        ),
    ] {
        let mut family = Family::counter(name, help);
        family.series(&[], value);
        families.push(family);
    }
}

/// One metric with its series.
struct Family {
    name: String,
    text: String,
}

impl Family {
    fn new(name: String, kind: &str, help: &str) -> Self {
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { name, text }
    }

    fn counter(name: &str, help: &str) -> Self {
        Family::new(name.to_owned(), "counter", help)
    }

    fn labelled(name: &str, help: &str, label: &str, counts: &ByLabel) -> Self {
        let mut family = Family::counter(name, help);
        for (value, count) in counts {
            family.series(&[(label, value)], *count);
        }
        family
    }

    fn series(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    fn histogram(&mut self, labels: &[(&str, &str)], sum: &HistogramSum) {
        for (bound, count) in sum.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.line("_bucket", labels, Some(&bound), &count.to_string());
        }
        self.line("_sum", labels, None, &sum.sum_ms());
        self.line("_count", labels, None, &sum.count().to_string());
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: &str) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (label, value) in labels.iter().copied().chain(le.map(|le| ("le", le))) {
            self.text.push(separator);
            separator = ',';
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(value, &mut self.text);
            self.text.push('"');
        }
        if separator == ',' {
            self.text.push('}');
        }
        // Writing to a string can't fail.
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}
