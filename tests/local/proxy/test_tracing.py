"""Traces and the remote log, told to a small collector: both halves of each span, joined.

The collector takes what a Zipkin takes (API v2), and what a store of log lines takes.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from proxyrig import config
from proxyrig.backend import Backend
from proxyrig.certs import spiffe
from proxyrig.waiting import until
from proxyrig.wire import Address, fetch, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")
TRACE, SPAN = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"


def told(address: Address, share: int = 1_000_000, **changes: Any) -> dict[str, Any]:
    collector = {"host": address.host, "port": address.port, "path": "/api/v2/spans"}
    return {
        "collector": collector,
        "origin": "MeshConfig/fsm-system/fsm-mesh-config",
        "sampled_per_million": share,
        **changes,
    }


def spans(collector: Backend) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for sent in collector.requests:
        assert (sent.method, sent.target) == ("POST", "/api/v2/spans")
        assert sent.header("content-type") == "application/json"
        found += json.loads(sent.body)
    return found


async def traced(rig, authority, telemetry: dict[str, Any]):
    app = await rig.backend()
    server = await rig.pipy(member=authority.member(STORE))
    client = await rig.pipy(member=authority.member(BUYER))
    allowed = config.host(config.route(allowed=config.allow(BUYER)))
    await server.apply(
        config.whole(
            identity=STORE,
            workload={"namespace": "bookstore", "pod": "b-0", "service_account": "bookstore"},
            inbound={"matches": [config.http_match(server.inbound.port, allowed)]},
            clusters={"app": config.cluster(config.endpoint(app.address))},
            telemetry=telemetry,
        )
    )
    match = config.http_match(client.outbound.port, config.host(config.route()))
    await client.apply(
        config.whole(
            identity=BUYER,
            workload={"namespace": "bookbuyer", "pod": "b-1", "service_account": "bookbuyer"},
            outbound={"matches": [match]},
            clusters={"app": config.cluster(config.endpoint(server.inbound, STORE))},
            telemetry=telemetry,
        )
    )
    return app, client, server


async def ask(client, *headers: str):
    raw = request("GET", "/books?a=1", "Host: bookstore:14001", "User-Agent: curl", *headers)
    return await fetch(client.outbound, raw)


async def test_both_sidecars_tell_the_two_halves_of_one_span(rig, authority):
    collector = await rig.backend()
    app, client, server = await traced(rig, authority, {"tracing": told(collector.address)})
    assert (await ask(client)).status == 200
    await until(lambda: len(spans(collector)) == 2, "two spans")
    by_kind = {span["kind"]: span for span in spans(collector)}
    made, served = by_kind["CLIENT"], by_kind["SERVER"]
    assert (made["traceId"], made["id"]) == (served["traceId"], served["id"])
    assert "parentId" not in made
    assert served["shared"] is True
    assert "shared" not in made
    assert made["name"] == "bookstore:14001"
    assert made["localEndpoint"]["serviceName"] == "bookbuyer"
    assert served["localEndpoint"]["serviceName"] == "bookstore"
    assert made["timestamp"] > 1_600_000_000_000_000
    assert made["duration"] >= served["duration"] > 0
    tags = made["tags"]
    assert tags["http.url"] == "http://bookstore:14001/books?a=1"
    assert (tags["http.method"], tags["http.status_code"]) == ("GET", "200")
    assert tags["upstream_cluster"] == "app"
    assert tags["user_agent"] == "curl"
    assert tags["guid:x-request-id"] == served["tags"]["guid:x-request-id"] != ""
    # What the application sends on makes its own calls children of this span.
    [seen] = app.requests
    assert seen.header("x-b3-traceid") == made["traceId"]
    assert seen.header("x-b3-spanid") == served["id"]
    assert seen.header("x-b3-sampled") == "1"
    # And it is told whose request it is.
    parts = [seen.header(f"fsm-stats-{part}") for part in ("namespace", "kind", "name", "pod")]
    assert parts == ["bookbuyer", None, "bookbuyer", "b-1"]
    for proxy, direction in ((client, "outbound"), (server, "inbound")):
        stats = await proxy.stats()
        assert stats[f"{direction}_http_tracing.sampled_1"] == "1"
        assert stats[f"{direction}_http_tracing.sampled_0"] == "0"


async def test_a_trace_that_was_begun_is_gone_on_with(rig, authority):
    collector = await rig.backend()
    app, client, _ = await traced(rig, authority, {"tracing": told(collector.address, 0)})
    b3 = (f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}", "X-B3-Sampled: 1")
    await ask(client, *b3)
    await until(lambda: len(spans(collector)) == 2, "two spans")
    for span in spans(collector):
        assert (span["traceId"], span["parentId"]) == (TRACE, SPAN)
    assert app.requests[0].header("x-b3-parentspanid") == SPAN
    # The W3C's header is gone on with too, and says the same afterwards.
    await ask(client, f"traceparent: 00-{TRACE}-{SPAN}-01")
    await until(lambda: len(spans(collector)) == 4, "four spans")
    version, trace, span, flags = (app.requests[1].header("traceparent") or "").split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span == app.requests[1].header("x-b3-spanid") != SPAN
    assert app.requests[0].header("traceparent") is None


async def test_what_is_not_sampled_is_not_told_but_passed_on(rig, authority):
    collector = await rig.backend()
    tracing = told(collector.address, 0, traceparent=True)
    app, client, server = await traced(rig, authority, {"tracing": tracing, "access_log": "all"})
    await ask(client)
    await ask(client, "x-b3-sampled: 1")
    await until(lambda: len(spans(collector)) == 2, "the spans of the second request")
    first, second = app.requests
    assert (first.header("x-b3-sampled"), second.header("x-b3-sampled")) == ("0", "1")
    assert (first.header("traceparent") or "").endswith("-00")
    assert {span["traceId"] for span in spans(collector)} == {second.header("x-b3-traceid")}
    stats = await client.stats()
    assert stats["outbound_http_tracing.sampled_0"] == "1"
    # The log names the trace in either case, on both sides.
    for proxy in (client, server):
        lines = await proxy.log(2)
        assert [line["trace_id"] for line in lines] == [
            request.header("x-b3-traceid") for request in (first, second)
        ]
        assert all(len(line["span_id"]) == 16 for line in lines)


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(rig, authority):
    collector = await rig.backend()
    gone = collector.address
    collector.stop_listening()
    _, client, _ = await traced(rig, authority, {"tracing": told(gone)})
    answers = await asyncio.gather(*(ask(client) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}

    async def dropped() -> bool:
        return (await client.stats())["export.spans.dropped"] == "50"

    await until(dropped, "fifty dropped spans", 20)
    assert (await client.stats())["export.spans.sent"] == "0"


async def test_lines_of_the_log_go_elsewhere_too_with_the_pod_and_the_key(rig):
    collector = await rig.backend()
    app = await rig.backend()
    proxy = await rig.pipy()
    remote = told(collector.address)
    remote["collector"] |= {"path": "/?query=insert", "authorization": "Basic c2VjcmV0"}
    workload = {"namespace": "shop", "pod": "till-0"}
    whole = config.plain(proxy.outbound.port, app.address)
    telemetry = {"remote_log": remote, "access_log": "off"}
    await proxy.apply({**whole, "workload": workload, "telemetry": telemetry})
    assert (await fetch(proxy.outbound)).status == 200
    await until(lambda: collector.requests, "a line")
    [sent] = collector.requests
    assert (sent.target, sent.header("authorization")) == ("/?query=insert", "Basic c2VjcmV0")
    [line] = [json.loads(line) for line in sent.body.decode().splitlines()]
    assert (line["pod"], line["decision"], line["status"]) == ("shop/till-0", "allowed", 200)
    assert proxy.all_log() == [], "nothing was to be logged here"
    dump = (await proxy.page("/config_dump")).body.decode()
    assert "c2VjcmV0" not in dump
    assert '"***"' in dump
