//! What observing one request costs: a log line, and the counters. `cargo run --release -p pipy-observe --example log_cost`.
//!
//! Prints nanoseconds per request to standard error, the best of several rounds (the others met a busy machine).

use std::hint::black_box;
use std::time::Instant;

use pipy_observe::{Decision, DestinationLabels, Direction, Entry, Labels, LogWriter, Metrics};

const ROUNDS: u32 = 20;
const REQUESTS: u32 = 100_000;

fn main() -> std::io::Result<()> {
    let metrics = Metrics::new(Labels::default());
    let worker = metrics.worker();
    let cluster = worker.cluster("bookstore/bookstore-v1|14001");
    let destination = DestinationLabels {
        namespace: "bookstore",
        kind: "Deployment",
        name: "bookstore-v1",
        pod: "bookstore-v1-7c9",
    };
    let duration = worker.duration(&destination);
    best("counters of a request", |i| {
        let cluster = black_box(&cluster);
        cluster.request();
        cluster.rq_active.inc();
        cluster.cx_tx_bytes.add(200);
        cluster.cx_rx_bytes.add(300);
        cluster.response(200);
        cluster.rq_active.dec();
        duration.record_us(u64::from(i % 4000));
    });
    best("finding the histogram of a destination", |_| {
        black_box(worker.duration(black_box(&destination)));
    });

    let writer = LogWriter::to(std::io::sink())?;
    let mut buffer = writer.buffer();
    let (peer, upstream) = ("10.244.0.7:41234".parse().ok(), "127.0.0.1:14001".parse().ok());
    best("a log line", |i| {
        buffer.record(black_box(&Entry {
            unix_ms: 1_767_225_599_042 + u64::from(i / 50),
            direction: Direction::Inbound,
            protocol: "http",
            source: Some("spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer"),
            destination: Some("spiffe://cluster.local/ns/bookstore/sa/bookstore-v1"),
            peer,
            host: Some(b"bookstore.bookstore:14001"),
            method: Some(b"GET"),
            path: Some(b"/books-bought?author=unknown"),
            status: Some(200),
            decision: Decision::Allowed,
            origin: Some("TrafficTarget/bookstore/bookstore-v1"),
            rule_origin: Some("HTTPRouteGroup/bookstore/routes#books-bought"),
            service: Some("bookstore/bookstore"),
            cluster: Some("bookstore/bookstore-v1|14001|local"),
            upstream,
            request_bytes: Some(0),
            response_bytes: Some(512),
            duration_us: Some(u64::from(i)),
            connection_id: Some(7),
            ..Entry::default()
        }));
    });
    eprintln!("lines: {} written, {} dropped", writer.stats().written.get(), writer.stats().dropped.get());
    Ok(())
}

fn best(what: &str, mut request: impl FnMut(u32)) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for i in 0..REQUESTS {
            request(i);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS));
    }
    eprintln!("{what}: {best:.1} ns");
}
