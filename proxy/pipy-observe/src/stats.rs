//! The metrics as people read them: `fsm proxy get stats` and `fsm proxy get clusters`.
//!
//! What comes in: a snapshot. What goes out: one number per line, sorted, greppable. The forms of retries and rate
//! limits are those that users' instructions grep for:
//!
//! ```text
//! cluster.demo/httpbin|14001.upstream_rq_retry: 4
//! local_rate_limit.inbound_demo/fortio_8078_tcp.rate_limited: 7
//! http_local_rate_limiter.http_local_rate_limit.rate_limited.throttle_service: 7
//! ```
//!
//! INVARIANT: every number of the Prometheus page is here too. A line is `name: value`; no name breaks a line.

use std::fmt::Write;

use crate::cluster::{COUNTERS, GAUGES};
use crate::histogram::HistogramSum;
use crate::snapshot::{ClusterSum, Snapshot};
use crate::worker::OTHER;

/// Every number, `name: value`.
pub(crate) fn stats(snapshot: &Snapshot) -> String {
    let mut lines = Vec::new();
    let mut line = |name: String, value: u64| lines.push(format!("{}: {value}", one_line(&name)));
    for (cluster, sum) in &snapshot.clusters {
        for (name, value) in numbers(sum) {
            line(format!("cluster.{cluster}.{name}"), value);
        }
    }
    for (listener, (total, active, http2)) in &snapshot.listeners {
        line(format!("listener.{listener}.downstream_cx_active"), *active);
        line(format!("listener.{listener}.downstream_cx_http2_total"), *http2);
        line(format!("listener.{listener}.downstream_cx_total"), *total);
    }
    for (prefix, counts, suffix) in [
        ("denied.", &snapshot.denied, ""),
        ("protocol_detected.", &snapshot.detected, ""),
        ("udp.", &snapshot.datagrams_received, ".datagrams_received"),
        ("udp.", &snapshot.datagrams_sent, ".datagrams_sent"),
        ("udp.dropped.", &snapshot.datagrams_dropped, ""),
        ("http.protocol_error.", &snapshot.protocol_errors, ""),
        ("http.upstream_protocol_error.", &snapshot.upstream_protocol_errors, ""),
        ("tls.handshake_failure.", &snapshot.tls_failures, ""),
        ("local_rate_limit.inbound_", &snapshot.rate_limited_inbound, ".rate_limited"),
    ] {
        for (label, count) in counts {
            line(format!("{prefix}{label}{suffix}"), *count);
        }
    }
    let limited = "http_local_rate_limiter.http_local_rate_limit.rate_limited";
    for (name, value) in [
        (format!("{limited}.throttle_route"), snapshot.rate_limited_route),
        (format!("{limited}.throttle_service"), snapshot.rate_limited_service),
        ("access_log.dropped".to_owned(), snapshot.log_dropped),
        ("access_log.lines".to_owned(), snapshot.log_lines),
        ("certificate.not_after_s".to_owned(), snapshot.certificate_not_after_s),
        ("config.applied".to_owned(), snapshot.config_applied),
        ("config.refused".to_owned(), snapshot.config_refused),
        ("control_plane.connected".to_owned(), snapshot.connected),
        ("server.live".to_owned(), 1),
        ("tls.handshakes".to_owned(), snapshot.tls_handshakes),
    ] {
        line(name, value);
    }
    for (what, counts) in [("tracing", &snapshot.traced), ("logging", &snapshot.remote_logged)] {
        for (direction, pair) in ["inbound", "outbound"].iter().zip(counts) {
            for (sampled, count) in pair.iter().enumerate() {
                line(format!("{direction}_http_{what}.sampled_{sampled}"), *count);
            }
        }
    }
    for (what, sent, dropped) in &snapshot.exports {
        line(format!("export.{what}.dropped"), *dropped);
        line(format!("export.{what}.sent"), *sent);
    }
    lines.push(format!("config.apply_ms: {}", summary(&snapshot.config_apply)));
    for ([namespace, kind, name, pod], sum) in &snapshot.durations {
        let name = one_line(&format!("request_duration_ms.{namespace}/{kind}/{name}/{pod}"));
        lines.push(format!("{name}: {}", summary(sum)));
    }
    joined(lines)
}

/// The clusters' numbers, `cluster::name::value`.
pub(crate) fn clusters(snapshot: &Snapshot) -> String {
    let mut lines = Vec::new();
    for (cluster, sum) in &snapshot.clusters {
        let cluster = one_line(cluster);
        let mut numbers = numbers(sum);
        numbers.sort();
        lines.extend(numbers.into_iter().map(|(name, value)| format!("{cluster}::{name}::{value}")));
    }
    lines.into_iter().fold(String::new(), |mut text, line| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

fn numbers(sum: &ClusterSum) -> Vec<(String, u64)> {
    let mut numbers: Vec<(String, u64)> = GAUGES
        .iter()
        .zip(sum.gauges)
        .chain(COUNTERS.iter().zip(sum.counters))
        .map(|(named, value)| (named.name.to_owned(), value))
        .collect();
    numbers.push(("upstream_rq_total".to_owned(), sum.rq_total));
    numbers.push(("upstream_rq_completed".to_owned(), sum.completed()));
    numbers.push(("upstream_rq_no_response".to_owned(), sum.by_class[0]));
    for (class, count) in sum.by_class.iter().enumerate().skip(1) {
        numbers.push((format!("upstream_rq_{class}xx"), *count));
    }
    for (code, count) in &sum.by_code {
        let code = if *code == 0 { OTHER.to_owned() } else { code.to_string() };
        numbers.push((format!("upstream_rq_{code}"), *count));
    }
    numbers
}

fn summary(sum: &HistogramSum) -> String {
    let mut text = format!("count {}, sum {}", sum.count(), sum.sum_ms());
    if sum.count() > 0 {
        for percent in [50, 90, 99] {
            let _ = match sum.bound_of(percent) {
                Some(bound) => write!(text, ", p{percent} <= {bound}"),
                None => write!(text, ", p{percent} > {}", sum.bounds_ms.last().copied().unwrap_or_default()),
            };
        }
    }
    text
}

fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn joined(mut lines: Vec<String>) -> String {
    lines.sort();
    let mut text = lines.join("\n");
    text.push('\n');
    text
}
