//! How long the hot pieces take, each alone: `make bench-micro`.
//!
//! What a request costs inside the proxy is the sum of some of these; what it costs in all is measured by `make bench`. The
//! decision is measured with 10 and with 1,000 services on one port: it must not grow with them.

#![allow(missing_docs)]

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pipy_h2::{Config, Connection, Scheme};
use pipy_http::{
    BodyLength, Headers, Limits, Method, ReplyTo, RequestDecoder, RequestHead, RequestItem, ResponseDecoder,
    ResponseHead, ResponseItem, encode_request_head, encode_response_head, normalise_path, strip_hop_by_hop,
};
use pipy_mesh::Plan;
use pipy_mesh::decide::{Caller, OutboundConnection, Request, outbound_connection, request};
use pipy_observe::{
    DestinationLabels, Entry, Labels, LogWriter, Metrics, Span, SpanReport, TraceContext, TraceId,
};
use pipy_pipeline::{Event, Filter, Graph};
use pipy_upstream::{Balancer, Candidate, Dice, Policy};
use serde_json::json;

const GET: &[u8] = b"GET /books/7?page=2 HTTP/1.1\r\nHost: s500.shop:80\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: */*\r\nX-Request-Id: 4bf92f3577b34da6\r\n\r\n";

fn http1(c: &mut Criterion) {
    c.bench_function("http1/request: parse, normalise, write anew", |b| {
        let mut decoder = RequestDecoder::new(Limits::default());
        let mut out = Vec::with_capacity(1024);
        b.iter(|| {
            out.clear();
            decoder.push(Bytes::from_static(GET));
            while let Ok(Some(item)) = decoder.next() {
                if let RequestItem::Head(mut head, length) = item {
                    let _ = black_box(normalise_path(head.path()));
                    strip_hop_by_hop(&mut head.headers, false);
                    let _ = encode_request_head(&head, length, &mut out);
                }
            }
            black_box(out.len())
        });
    });
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 26\r\nConnection: keep-alive\r\n\r\nabcdefghijklmnopqrstuvwxyz";

fn http1_response(c: &mut Criterion) {
    c.bench_function("http1/response: parse, write anew", |b| {
        let mut decoder = ResponseDecoder::new(Limits::default());
        let reply = ReplyTo::new(&RequestHead::new(Method::Get, "/books/7"));
        let mut out = Vec::with_capacity(1024);
        b.iter(|| {
            out.clear();
            decoder.expect(&Method::Get);
            decoder.push(Bytes::from_static(ANSWER));
            let mut body = None;
            while let Ok(Some(item)) = decoder.next() {
                match item {
                    ResponseItem::Head(mut head, length) => {
                        strip_hop_by_hop(&mut head.headers, false);
                        body = encode_response_head(&head, length, reply, &mut out).ok();
                    }
                    ResponseItem::Data(data) => {
                        assert!(body.as_mut().is_some_and(|body| body.encode(&data, &mut out).is_ok()));
                    }
                    ResponseItem::Interim(_) | ResponseItem::End(_) => {}
                }
            }
            black_box(out.len())
        });
    });
}

/// A filter that leaves every hook at its default.
struct PassOn;

impl Filter for PassOn {
    fn name(&self) -> &'static str {
        "pass-on"
    }
}

fn graph(c: &mut Criterion) {
    let mut group = c.benchmark_group("graph/an event through so many filters, to the socket");
    for filters in [0, 1, 5, 10] {
        let mut graph = Graph::new(Instant::now());
        let all = (0..filters).map(|_| Box::new(PassOn) as Box<dyn Filter>).collect();
        let (socket, _) = graph.accept_turning(all);
        group.bench_function(BenchmarkId::from_parameter(filters), |b| {
            b.iter(|| {
                graph.from_socket(socket, Event::Data(Bytes::from_static(b"x")));
                graph.run();
                assert_eq!(graph.ops.len(), 1);
                graph.ops.clear();
            });
        });
    }
    group.finish();
}

fn deliver(from: &mut Connection, to: &mut Connection) {
    let mut pieces = Vec::new();
    from.poll_output(&mut pieces, usize::MAX);
    for piece in pieces {
        to.receive(piece).expect("valid frames");
    }
}

fn http2(c: &mut Criterion) {
    c.bench_function("http2/exchange: a request and 1 KiB back, both ends", |b| {
        let mut client = Connection::client(Config::default());
        let mut server = Connection::server(Config::default());
        let mut head = RequestHead::new(Method::Get, "/books/7?page=2");
        for (name, value) in [("Host", "s500.shop"), ("user-agent", "curl/8.5.0"), ("accept", "*/*")] {
            head.headers.append(name, value).expect("a valid header");
        }
        let body = Bytes::from(vec![b'x'; 1024]);
        b.iter(|| {
            let stream = client.send_request(&head, Scheme::Http, BodyLength::None).expect("a stream");
            deliver(&mut client, &mut server);
            while server.next_event().is_some() {}
            server
                .send_response(stream, &ResponseHead::new(200), BodyLength::Length(1024))
                .expect("it is open");
            let _ = server.send_data(stream, body.clone()).expect("it is open");
            server.send_end(stream, None).expect("it is open");
            deliver(&mut server, &mut client);
            while black_box(client.next_event()).is_some() {}
            client.release(stream, 1024);
        });
    });
}

/// So many services on one port, as the outbound side of a sidecar knows them.
fn plan(services: usize) -> Plan {
    let name = |i: usize| format!("shop/s{i}|80");
    let address = |i: usize| format!("10.96.{}.{}", i / 250, i % 250 + 1);
    let matches: Vec<_> = (0..services)
        .map(|i| {
            let route = json!({"origin": "Service/shop/s", "path": {"prefix": "/"},
                               "clusters": [{"cluster": name(i), "weight": 100}]});
            let names = [format!("s{i}"), format!("s{i}.shop"), format!("s{i}.shop.svc.cluster.local")];
            json!({"port": 80, "destinations": [format!("{}/32", address(i))], "protocol": "http",
                   "origin": format!("Service/shop/s{i}"),
                   "hosts": [{"names": names, "service": format!("shop/s{i}"), "origin": format!("Service/shop/s{i}"),
                              "routes": [route]}]})
        })
        .collect();
    let clusters: serde_json::Map<_, _> = (0..services)
        .map(|i| {
            let identity = format!("spiffe://cluster.local/ns/shop/sa/s{i}");
            let endpoint =
                json!({"address": format!("10.244.{}.{}:80", i / 250, i % 250 + 1), "identity": identity});
            (name(i), json!({"origin": format!("Service/shop/s{i}"), "endpoints": [endpoint]}))
        })
        .collect();
    let whole = json!({"version": "1", "outbound": {"matches": matches}, "clusters": clusters});
    Plan::new(pipy_config::parse(whole.to_string().as_bytes()).expect("a valid configuration"))
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide/outbound request, of services on one port");
    for services in [10, 1_000] {
        let plan = plan(services);
        let last = services - 1;
        let destination: SocketAddr =
            format!("10.96.{}.{}:80", last / 250, last % 250 + 1).parse().expect("an address");
        let authority = format!("s{last}.shop:80");
        let mut headers = Headers::new();
        headers.append("host", authority.as_str()).expect("a valid header");
        let ask = Request {
            authority: &authority,
            port: 80,
            method: &Method::Get,
            path: b"/books/7",
            path_and_query: b"/books/7?page=2",
            headers: &headers,
        };
        group.bench_function(BenchmarkId::from_parameter(services), |b| {
            b.iter(|| match outbound_connection(black_box(&plan), black_box(destination)) {
                OutboundConnection::Match(rule) => {
                    let decision = request(&rule.hosts, ask, Caller::Unknown);
                    assert!(decision.verdict.is_ok());
                }
                other => panic!("{other:?}"),
            });
        });
    }
    group.finish();
}

fn balance(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/pick one of 50");
    for policy in [Policy::RoundRobin, Policy::LeastWork, Policy::Hash] {
        let candidates = (0..50).map(|i| Candidate { weight: 1 + i % 3, priority: 0, name: u64::from(i) });
        let mut balancer = Balancer::new(policy, candidates.collect());
        let mut dice = Dice::new(1);
        let mut key = 0;
        group.bench_function(format!("{policy:?}"), |b| {
            b.iter(|| {
                key += 1;
                black_box(balancer.pick(Some(key), |_| true, |place| (place % 7) as u32, &mut dice))
            });
        });
    }
    group.finish();
}

fn observe(c: &mut Criterion) {
    let writer = LogWriter::to(io::sink()).expect("a thread");
    let mut log = writer.buffer();
    let entry = Entry {
        unix_ms: 1_767_225_599_042,
        protocol: "http",
        source: Some("spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer"),
        destination: Some("spiffe://cluster.local/ns/bookstore/sa/bookstore-v1"),
        peer: "10.244.0.7:41234".parse().ok(),
        host: Some(b"bookstore.bookstore:14001"),
        method: Some(b"GET"),
        path: Some(b"/books-bought?id=1"),
        status: Some(200),
        origin: Some("TrafficTarget/bookstore/bookstore-v1"),
        cluster: Some("bookstore/bookstore-v1|14001|local"),
        request_bytes: Some(0),
        response_bytes: Some(1024),
        duration_us: Some(731),
        ..Entry::default()
    };
    c.bench_function("log/line", |b| b.iter(|| log.record(black_box(&entry))));
    let callers: Vec<_> =
        (0..100).map(|i| format!("spiffe://cluster.local/ns/shop-{i}/sa/default")).collect();
    c.bench_function("log/line, of 100 callers in turn", |b| {
        let mut turn = callers.iter().cycle();
        b.iter(|| log.record(black_box(&Entry { source: turn.next().map(String::as_str), ..entry })));
    });

    let worker = Metrics::new(Labels::default()).worker();
    let cluster = worker.cluster("bookstore/bookstore-v1|14001");
    let header = b"bookstore,Deployment,bookstore-v1,bookstore-v1-0";
    c.bench_function("metrics/request: counters and duration by destination", |b| {
        b.iter(|| {
            cluster.request();
            cluster.response(black_box(200));
            if let Some(labels) = DestinationLabels::parse(black_box(header)) {
                worker.duration(&labels).record_us(731);
            }
        });
    });

    let mut out = Vec::new();
    c.bench_function("trace/span: headers read and written, reported", |b| {
        b.iter(|| {
            out.clear();
            let context = TraceContext::read(|name| match name {
                "x-b3-traceid" => Some(b"463ac35c9f6413ad48485a3953bb6124".as_slice()),
                "x-b3-spanid" => Some(b"a2fb4a1d1a96d312".as_slice()),
                _ => None,
            });
            let trace = context.ids.map_or_else(|| TraceId::new(1, 2), |(trace, _)| trace);
            let span = Span { trace, id: 7, parent: None, sampled: true, shared: false };
            black_box(span.b3());
            let report = SpanReport {
                span,
                client: true,
                name: b"bookstore",
                start_unix_us: 1,
                duration_us: 1,
                service: "bookbuyer",
                address: [10, 0, 0, 1].into(),
                tags: &[("http.method", b"GET"), ("http.url", b"http://bookstore/books")],
            };
            report.write(&mut out);
        });
    });
}

criterion_group!(hot, http1, http1_response, http2, graph, decide, balance, observe);
criterion_main!(hot);
