//! The pages for people: the forms that users grep for, and that nothing is missing.

use pipy_observe::{DestinationLabels, Labels, LogWriter, Metrics};

fn busy() -> std::sync::Arc<Metrics> {
    let metrics = Metrics::new(Labels::default());
    let worker = metrics.worker();
    worker.set_clusters(&["httpbin/httpbin|14001"]);
    let cluster = worker.cluster("httpbin/httpbin|14001");
    for _ in 0..5 {
        cluster.request();
        cluster.response(503);
        cluster.retry.inc();
        cluster.retry_backoff_exponential.inc();
    }
    cluster.retry_limit_exceeded.inc();
    worker.proxy.rate_limited_inbound.get("demo/fortio_8078_tcp").add(7);
    worker.proxy.rate_limited_service.add(7);
    worker.proxy.denied.get("no-route").add(2);
    worker.proxy.listeners.get("inbound").cx_total.add(9);
    worker.proxy.listeners.get("inbound").cx_active.inc();
    let destination =
        DestinationLabels { namespace: "httpbin", kind: "Deployment", name: "httpbin", pod: "httpbin-1" };
    worker.duration(&destination).record_us(6_500);
    metrics
}

fn grep(text: &str, part: &str) -> Vec<String> {
    text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[test]
fn retries_look_as_users_know_them() {
    assert_eq!(
        grep(&busy().stats(), "upstream_rq_retry"),
        [
            "cluster.httpbin/httpbin|14001.upstream_rq_retry: 5",
            "cluster.httpbin/httpbin|14001.upstream_rq_retry_backoff_exponential: 5",
            "cluster.httpbin/httpbin|14001.upstream_rq_retry_backoff_ratelimited: 0",
            "cluster.httpbin/httpbin|14001.upstream_rq_retry_limit_exceeded: 1",
            "cluster.httpbin/httpbin|14001.upstream_rq_retry_overflow: 0",
            "cluster.httpbin/httpbin|14001.upstream_rq_retry_success: 0",
        ]
    );
}

#[test]
fn rate_limits_look_as_users_know_them() {
    assert_eq!(
        grep(&busy().stats(), "rate_limited"),
        [
            "http_local_rate_limiter.http_local_rate_limit.rate_limited.throttle_route: 0",
            "http_local_rate_limiter.http_local_rate_limit.rate_limited.throttle_service: 7",
            "local_rate_limit.inbound_demo/fortio_8078_tcp.rate_limited: 7",
        ]
    );
}

#[test]
fn the_rest_is_there_too_sorted_one_number_a_line() {
    let stats = busy().stats();
    let lines: Vec<&str> = stats.lines().collect();
    assert!(lines.is_sorted(), "{stats}");
    for line in &lines {
        assert!(
            line.split_once(": ").is_some_and(|(name, value)| !name.contains(' ') && !value.is_empty()),
            "{line}"
        );
    }
    for expected in [
        "cluster.httpbin/httpbin|14001.upstream_rq_5xx: 5",
        "cluster.httpbin/httpbin|14001.upstream_rq_503: 5",
        "cluster.httpbin/httpbin|14001.upstream_rq_total: 5",
        "denied.no-route: 2",
        "listener.inbound.downstream_cx_active: 1",
        "listener.inbound.downstream_cx_total: 9",
        "request_duration_ms.httpbin/Deployment/httpbin/httpbin-1: count 1, sum 6.500, p50 <= 10, p90 <= 10, p99 <= 10",
        "config.apply_ms: count 0, sum 0.000",
        "server.live: 1",
    ] {
        assert!(lines.contains(&expected), "{expected} is missing in\n{stats}");
    }
}

#[test]
fn clusters_are_listed_with_their_numbers() {
    let clusters = busy().clusters();
    assert!(clusters.lines().all(|line| line.starts_with("httpbin/httpbin|14001::")), "{clusters}");
    assert!(clusters.contains("httpbin/httpbin|14001::upstream_cx_active::0\n"), "{clusters}");
    assert!(clusters.contains("httpbin/httpbin|14001::upstream_rq_total::5\n"), "{clusters}");
}

#[test]
fn a_name_cannot_make_a_line() {
    let metrics = Metrics::new(Labels::default());
    let worker = metrics.worker();
    worker.cluster("a\ndenied.forged: 1").request();
    worker.proxy.denied.get("x\ny").inc();
    for page in [metrics.stats(), metrics.clusters()] {
        assert!(!page.lines().any(|line| line.starts_with("denied.forged")), "{page}");
    }
    assert!(metrics.stats().contains("denied.x?y: 1\n"));
}

#[test]
fn the_log_is_counted() {
    let metrics = Metrics::new(Labels::default());
    let writer = LogWriter::to(std::io::sink()).expect("a thread");
    metrics.set_log(writer.stats());
    let mut buffer = writer.buffer();
    buffer.record(&pipy_observe::Entry { protocol: "http", ..Default::default() });
    drop(buffer);
    assert!(writer.shutdown());
    assert_eq!(grep(&metrics.stats(), "access_log"), ["access_log.dropped: 0", "access_log.lines: 1"]);
}
