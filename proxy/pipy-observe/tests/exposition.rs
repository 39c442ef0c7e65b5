//! The Prometheus page, read back by a small parser of the text format, and against golden text.

use std::collections::BTreeMap;

use pipy_observe::{DestinationLabels, Labels, Metrics, REQUEST_BUCKETS_MS};
use proptest::prelude::*;

/// One line: name, labels, value.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a page as the format describes it; panics where a scraper would refuse. Checks that families are contiguous,
/// announced, sorted, and that no series comes twice.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line must end");
    let mut samples: Vec<Sample> = Vec::new();
    let mut families: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help text");
            assert!(words.ends_with('.'), "{line}");
            let kind =
                lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("a type after the help");
            let (typed, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(typed, name);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            families.push((name.to_owned(), kind.to_owned()));
            continue;
        }
        let sample = parse_sample(line);
        let (family, kind) = families.last().expect("a family before its samples");
        let base = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| sample.name.strip_suffix(suffix))
                .expect("a histogram's suffix"),
            _ => &sample.name,
        };
        assert_eq!(base, family, "{line}");
        let twice = samples.iter().any(|other| other.name == sample.name && other.labels == sample.labels);
        assert!(!twice, "twice: {line}");
        samples.push(sample);
    }
    let mut sorted = families.clone();
    sorted.sort();
    sorted.dedup_by(|a, b| a.0 == b.0);
    assert_eq!(families, sorted, "families are sorted and come once");
    samples
}

fn parse_sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().expect("the value ends") {
                    (i, '"') => break i + 1,
                    (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("unknown escape {c:?} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice in {line}");
            rest = &after[end..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("the labels end");
    }
    let value = rest.strip_prefix(' ').expect("a value").parse().expect("a number");
    Sample { name: name.to_owned(), labels, value }
}

fn find<'a>(samples: &'a [Sample], name: &str, labels: &[(&str, &str)]) -> Vec<&'a Sample> {
    samples
        .iter()
        .filter(|sample| sample.name == name)
        .filter(|sample| {
            labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        })
        .collect()
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    match find(samples, name, labels)[..] {
        [sample] => sample.value,
        ref others => panic!("{name} {labels:?}: {} samples", others.len()),
    }
}

fn workload() -> Labels {
    Labels {
        namespace: "bookbuyer".into(),
        kind: "Deployment".into(),
        name: "bookbuyer".into(),
        pod: "bookbuyer-1".into(),
    }
}

const CLUSTER: (&str, &str) = ("sidecar_cluster_name", "bookstore/bookstore|14001");

#[test]
fn workers_are_added_up() {
    let metrics = Metrics::new(workload());
    let workers = [metrics.worker(), metrics.worker(), metrics.worker()];
    for (i, worker) in workers.iter().enumerate() {
        let cluster = worker.cluster(CLUSTER.1);
        for _ in 0..=i {
            cluster.request();
            cluster.response(204);
        }
        cluster.cx_active.inc();
        cluster.cx_tx_bytes.add(100);
        worker.proxy.denied.get("no-route").inc();
        worker.proxy.listeners.get("inbound").cx_total.inc();
    }

    let samples = parse(&metrics.prometheus());

    assert_eq!(value(&samples, "sidecar_cluster_upstream_rq_total", &[CLUSTER]), 6.0);
    assert_eq!(value(&samples, "sidecar_cluster_upstream_cx_active", &[CLUSTER]), 3.0);
    assert_eq!(value(&samples, "sidecar_cluster_upstream_cx_tx_bytes_total", &[CLUSTER]), 300.0);
    assert_eq!(value(&samples, "sidecar_denied_total", &[("reason", "no-route")]), 3.0);
    assert_eq!(value(&samples, "sidecar_listener_downstream_cx_total", &[("listener", "inbound")]), 3.0);
}

#[test]
fn the_class_of_a_status_is_one_digit() {
    let metrics = Metrics::new(workload());
    let worker = metrics.worker();
    let cluster = worker.cluster(CLUSTER.1);
    for status in [200, 204, 404, 503, 0, 999, 101] {
        cluster.request();
        cluster.response(status);
    }

    let samples = parse(&metrics.prometheus());

    let class = |class: &str| {
        let labels = [
            CLUSTER,
            ("source_namespace", "bookbuyer"),
            ("source_workload_kind", "Deployment"),
            ("source_workload_name", "bookbuyer"),
            ("source_workload_pod", "bookbuyer-1"),
            ("sidecar_response_code_class", class),
        ];
        value(&samples, "sidecar_cluster_upstream_rq_xx", &labels)
    };
    assert_eq!(["0", "1", "2", "3", "4", "5"].map(class), [1.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    let code = |code: &str| {
        value(&samples, "sidecar_cluster_external_upstream_rq", &[CLUSTER, ("sidecar_response_code", code)])
    };
    assert_eq!(["101", "200", "204", "404", "503", "999"].map(code), [1.0; 6]);
    assert_eq!(value(&samples, "sidecar_cluster_external_upstream_rq_completed", &[CLUSTER]), 6.0);
}

#[test]
fn every_counter_of_a_known_cluster_is_zero_before_its_first_request() {
    let metrics = Metrics::new(workload());
    metrics.worker().set_clusters(&[CLUSTER.1]);

    let samples = parse(&metrics.prometheus());

    for name in [
        "upstream_cx_tx_bytes_total",
        "upstream_cx_rx_bytes_total",
        "upstream_cx_active",
        "upstream_cx_destroy_remote_with_active_rq",
        "upstream_cx_destroy_local_with_active_rq",
        "upstream_cx_connect_timeout",
        "upstream_rq_pending_failure_eject",
        "upstream_rq_pending_overflow",
        "upstream_rq_timeout",
        "upstream_rq_rx_reset",
        "upstream_rq_tx_reset",
        "external_upstream_rq_completed",
        "upstream_rq_total",
        "upstream_rq_retry",
        "upstream_rq_retry_success",
        "upstream_rq_retry_limit_exceeded",
        "upstream_rq_retry_overflow",
        "upstream_rq_retry_backoff_exponential",
        "upstream_rq_retry_backoff_ratelimited",
    ] {
        assert_eq!(value(&samples, &format!("sidecar_cluster_{name}"), &[CLUSTER]), 0.0, "{name}");
    }
    for name in ["upstream_rq_xx", "external_upstream_rq_xx"] {
        assert_eq!(find(&samples, &format!("sidecar_cluster_{name}"), &[CLUSTER]).len(), 6, "{name}");
    }
    assert_eq!(value(&samples, "sidecar_server_live", &[]), 1.0);
}

#[test]
fn durations_are_cumulative_and_labelled_by_both_ends() {
    let metrics = Metrics::new(workload());
    let destination =
        DestinationLabels::parse(b"bookstore,Deployment,bookstore-v1,bookstore-v1-abc").expect("labels");
    for worker in [metrics.worker(), metrics.worker()] {
        let histogram = worker.duration(&destination);
        for us in [400, 7_000, 30_000, 4_000_000_000] {
            histogram.record_us(us);
        }
    }

    let samples = parse(&metrics.prometheus());

    let labels = [
        ("source_namespace", "bookbuyer"),
        ("source_kind", "Deployment"),
        ("source_name", "bookbuyer"),
        ("source_pod", "bookbuyer-1"),
        ("destination_namespace", "bookstore"),
        ("destination_kind", "Deployment"),
        ("destination_name", "bookstore-v1"),
        ("destination_pod", "bookstore-v1-abc"),
    ];
    let buckets = find(&samples, "fsm_request_duration_ms_bucket", &labels);
    let bounds: Vec<&str> = buckets.iter().map(|bucket| bucket.labels["le"].as_str()).collect();
    let mut expected: Vec<String> = REQUEST_BUCKETS_MS.iter().map(ToString::to_string).collect();
    expected.push("+Inf".into());
    assert_eq!(bounds, expected);
    let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.value).collect();
    assert_eq!(counts[..5], [2.0, 4.0, 4.0, 6.0, 6.0]);
    assert_eq!(counts[16..], [6.0, 8.0]);
    assert_eq!(value(&samples, "fsm_request_duration_ms_count", &labels), 8.0);
    assert_eq!(value(&samples, "fsm_request_duration_ms_sum", &labels), 8_000_074.8);
}

#[test]
fn a_renamed_workload_shows_at_once() {
    let metrics = Metrics::new(Labels::default());
    metrics.worker().set_clusters(&[CLUSTER.1]);
    metrics.set_workload(workload());
    let samples = parse(&metrics.prometheus());
    let labels = [CLUSTER, ("source_workload_pod", "bookbuyer-1")];
    assert_eq!(value(&samples, "sidecar_cluster_upstream_rq_total", &labels), 0.0);
}

#[test]
fn a_page_without_clusters_is_as_expected() {
    let metrics = Metrics::new(workload());
    let worker = metrics.worker();
    worker.proxy.tls_handshakes.add(2);
    worker.proxy.tls_failures.get("unknown \"ca\"").inc();
    worker.proxy.rate_limited_service.inc();
    metrics.control.config_applied.inc();
    metrics.control.connected.set(1);
    let page = metrics.prometheus();
    parse(&page);
    let samples: Vec<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("sidecar_config_apply_ms_bucket"))
        .collect();
    assert_eq!(
        samples,
        [
            r#"http_local_rate_limiter{http_local_rate_limit="throttle_route"} 0"#,
            r#"http_local_rate_limiter{http_local_rate_limit="throttle_service"} 1"#,
            "inbound_http_logging_sampled_0 0",
            "inbound_http_logging_sampled_1 0",
            "inbound_http_tracing_sampled_0 0",
            "inbound_http_tracing_sampled_1 0",
            "outbound_http_logging_sampled_0 0",
            "outbound_http_logging_sampled_1 0",
            "outbound_http_tracing_sampled_0 0",
            "outbound_http_tracing_sampled_1 0",
            "sidecar_access_log_dropped_total 0",
            "sidecar_access_log_lines_total 0",
            "sidecar_certificate_not_after_seconds 0",
            "sidecar_config_apply_ms_sum 0.000",
            "sidecar_config_apply_ms_count 0",
            r#"sidecar_config_total{outcome="applied"} 1"#,
            r#"sidecar_config_total{outcome="refused"} 0"#,
            "sidecar_control_plane_connected 1",
            "sidecar_server_live 1",
            r#"sidecar_tls_handshake_failures_total{reason="unknown \"ca\""} 1"#,
            "sidecar_tls_handshakes_total 2",
        ]
    );
}

#[test]
fn reading_while_workers_count_never_goes_backwards() {
    let metrics = Metrics::new(workload());
    let total = |page: &str| value(&parse(page), "sidecar_cluster_upstream_rq_total", &[CLUSTER]);
    std::thread::scope(|scope| {
        for worker in [metrics.worker(), metrics.worker()] {
            let cluster = worker.cluster(CLUSTER.1);
            scope.spawn(move || {
                for _ in 0..200_000 {
                    cluster.request();
                    cluster.response(200);
                }
            });
        }
        let mut before = 0.0;
        for _ in 0..20 {
            let now = total(&metrics.prometheus());
            assert!(now >= before);
            before = now;
        }
    });
    assert_eq!(total(&metrics.prometheus()), 400_000.0, "no count was lost");
}

proptest! {
    #[test]
    fn any_label_comes_back_as_it_was(name in ".{1,40}", reason in ".{1,40}", pod in "\\PC{0,40}") {
        let metrics = Metrics::new(Labels { pod: pod.clone(), ..workload() });
        let worker = metrics.worker();
        worker.cluster(&name).request();
        worker.proxy.denied.get(&reason).inc();

        let samples = parse(&metrics.prometheus());

        let labels = [("sidecar_cluster_name", name.as_str()), ("source_workload_pod", &pod)];
        prop_assert_eq!(value(&samples, "sidecar_cluster_upstream_rq_total", &labels), 1.0);
        prop_assert_eq!(value(&samples, "sidecar_denied_total", &[("reason", &reason)]), 1.0);
    }
}
