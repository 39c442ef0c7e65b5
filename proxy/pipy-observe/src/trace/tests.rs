//! Every way to write a context, garbage in every place, shares, and the collector's form.

use super::*;

const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "a2fb4a1d1a96d312";

fn read(headers: &[(&str, &str)]) -> TraceContext {
    TraceContext::read(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes()))
}

fn ids() -> Option<(TraceId, u64)> {
    Some((TraceId { high: 0x463a_c35c_9f64_13ad, low: 0x4848_5a39_53bb_6124 }, 0xa2fb_4a1d_1a96_d312))
}

#[test]
fn many_headers_one_header_and_the_w3cs_name_the_same_place() {
    let many = read(&[
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", SPAN),
        ("x-b3-parentspanid", "0000000000000001"),
        ("x-b3-sampled", "1"),
    ]);
    let one = read(&[("b3", &format!("{TRACE}-{SPAN}-1-0000000000000001"))]);
    let w3c = read(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    assert_eq!(many, TraceContext { ids: ids(), parent: Some(1), sampled: Some(true), b3: true });
    assert_eq!(one, many);
    assert_eq!(w3c, TraceContext { parent: None, b3: false, ..many });
}

#[test]
fn what_is_no_context_counts_as_none() {
    let zeros = "0".repeat(32);
    let long = format!("{TRACE}0");
    for value in ["", "x", "463ac35c9f6413a", &zeros, &long, "463ac35c9f6413ag", "+63ac35c9f6413ad"] {
        assert_eq!(read(&[("x-b3-traceid", value), ("x-b3-spanid", SPAN)]).ids, None, "{value:?}");
    }
    for value in [
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{SPAN}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-1"),
    ] {
        assert_eq!(read(&[("traceparent", &value)]), TraceContext::default(), "{value}");
    }
    // A later version may have more to say.
    assert_eq!(read(&[("traceparent", &format!("01-{TRACE}-{SPAN}-00-more"))]).ids, ids());
}

#[test]
fn a_decision_may_come_without_ids_and_debug_means_sampled() {
    assert_eq!(read(&[("x-b3-sampled", "0")]).sampled, Some(false));
    assert_eq!(read(&[("b3", "0")]).sampled, Some(false));
    assert_eq!(read(&[("b3", "d")]).sampled, Some(true));
    assert_eq!(read(&[("x-b3-flags", "1"), ("x-b3-sampled", "0")]).sampled, Some(true));
    assert_eq!(read(&[("x-b3-sampled", "maybe")]).sampled, None);
}

#[test]
fn headers_that_are_written_are_read_again() {
    let (trace, id) = ids().expect("ids");
    let span = Span { trace, id, parent: Some(7), sampled: false, shared: false };
    let written = span.b3().map(|(name, value)| (name, value.unwrap_or_default()));
    let headers: Vec<(&str, &str)> = written.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(read(&headers), TraceContext { ids: ids(), parent: Some(7), sampled: Some(false), b3: true });
    assert_eq!(read(&[("traceparent", &span.traceparent())]).ids, ids());
    let short = TraceId::parse(SPAN.as_bytes()).expect("a short id");
    assert_eq!(short.text(), SPAN);
}

#[test]
fn a_share_takes_about_as_many_as_it_says_and_the_ends_are_exact() {
    let mut state = 1_u64;
    let mut taken = 0;
    for _ in 0..100_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = TraceId::new(1, state);
        assert!(id.is_in_share(1_000_000));
        assert!(!id.is_in_share(0));
        taken += u32::from(id.is_in_share(100_000));
    }
    assert!((9_000..11_000).contains(&taken), "{taken} of 100000");
}

#[test]
fn a_span_is_one_line_of_the_collectors_json_whatever_was_sent() {
    let (trace, id) = ids().expect("ids");
    let report = SpanReport {
        span: Span { trace, id, parent: Some(7), sampled: true, shared: true },
        client: false,
        name: b"shop\"\n\xff",
        start_unix_us: 1_700_000_000_000_001,
        duration_us: 0,
        service: "shop",
        address: std::net::IpAddr::from([10, 0, 0, 1]),
        tags: &[("http.method", b"GET"), ("user_agent", b""), ("http.url", b"http://shop/\x1b")],
    };
    let mut line = Vec::new();
    report.write(&mut line);
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    let json: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "traceId": TRACE, "id": SPAN, "parentId": "0000000000000007", "kind": "SERVER",
            "name": "shop\"\n\u{fffd}", "timestamp": 1_700_000_000_000_001_u64, "duration": 1, "shared": true,
            "localEndpoint": {"serviceName": "shop", "ipv4": "10.0.0.1", "port": 0},
            "tags": {"http.method": "GET", "http.url": "http://shop/\u{1b}"},
        })
    );
}
