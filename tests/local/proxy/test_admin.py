"""What the proxy says of itself: pages, metrics, the access log."""

from __future__ import annotations

import json
import re

from proxyrig import config
from proxyrig.wire import fetch, request


async def test_the_pages_of_administration(rig, authority):
    from proxyrig.certs import spiffe

    backend = await rig.backend()
    member = authority.member(spiffe("app"))
    proxy = await rig.pipy(member=member)
    told = config.plain(proxy.outbound.port, backend.address)
    await proxy.apply({**told, "inbound": {"matches": []}})
    await fetch(proxy.outbound)
    assert (await proxy.page("/ready")).body == b"LIVE\n"
    listeners = (await proxy.page("/listeners")).body.decode().splitlines()
    assert f"outbound-listener::{proxy.outbound}" in listeners
    assert f"inbound-listener::{proxy.inbound}" in listeners
    assert f"inbound-prometheus-listener::{proxy.metrics}" in listeners
    dump = json.loads((await proxy.page("/config_dump")).body)
    assert dump["Version"] == told["version"]
    assert "modules/outbound-http-routing.js" in dump["Chains"]["outbound-http"]
    assert (await proxy.stats())["config.version"] == told["version"]
    clusters = (await proxy.page("/clusters")).body.decode().splitlines()
    assert "app::upstream_rq_200::1" in clusters
    certs = json.loads((await proxy.page("/certs")).body)
    assert certs["identity"] == spiffe("app")
    assert certs["chain"] == member.chain
    assert (await proxy.page("/nothing")).status == 404
    assert (await proxy.page("/stats", "POST")).status == 405
    assert (await proxy.page("/stats", "HEAD")).body == b""


async def test_no_page_shows_a_secret(rig, authority):
    from proxyrig.certs import spiffe

    member = authority.member(spiffe("app"))
    proxy = await rig.pipy(member=member)
    secret = "".join(member.key.splitlines()[1:-1])
    for path in ("/config_dump", "/stats", "/clusters", "/listeners", "/certs", "/ready"):
        body = (await proxy.page(path)).body.decode()
        assert "PRIVATE KEY" not in body
        assert secret[:40] not in body
        assert "PRIVATE" not in " ".join(proxy.errors)


async def test_administration_is_not_on_the_metrics_port(rig):
    proxy = await rig.pipy()
    for path in ("/config_dump", "/stats", "/clusters", "/listeners", "/certs"):
        assert (await fetch(proxy.metrics, request("GET", path))).status == 404
    quit_it = await fetch(proxy.metrics, request("POST", "/quitquitquit"))
    assert quit_it.status == 405
    assert (await fetch(proxy.metrics, request("GET", "/ready"))).status == 200
    assert proxy.process.returncode is None


SAMPLE = re.compile(
    r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\])*",?)*\})? [0-9.e+-]+$'
)


async def test_the_metrics_page_is_of_its_format_and_counts_right(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    routes = [config.route(path={"prefix": "/ok"})]
    await proxy.apply(config.plain(proxy.outbound.port, backend.address, *routes))
    for _ in range(7):
        assert (await fetch(proxy.outbound, request("GET", "/ok"))).status == 200
    for _ in range(3):
        assert (await fetch(proxy.outbound, request("GET", "/no"))).status == 403
    response = await fetch(proxy.metrics, request("GET", "/stats/prometheus"))
    assert (response.header("content-type") or "").startswith("text/plain; version=0.0.4")
    families: set[str] = set()
    for line in response.body.decode().splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in families, f"{name} is declared twice"
            families.add(name)
        elif not line.startswith("#"):
            assert SAMPLE.match(line), line
    stats = await proxy.stats()
    assert stats["cluster.app.upstream_rq_total"] == "7"
    assert stats["cluster.app.upstream_rq_2xx"] == "7"
    assert stats["denied.no_route"] == "3"
    assert stats["listener.outbound.downstream_cx_total"] == "10"
    assert stats["cluster.app.upstream_cx_total"] == "1"


async def test_the_log_says_what_was_asked_for(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    routes = [config.route(path={"prefix": "/ok"})]
    told = config.plain(proxy.outbound.port, backend.address, *routes)
    await proxy.apply({**told, "telemetry": {"access_log": "denied"}})
    await fetch(proxy.outbound, request("GET", "/ok"))
    await fetch(proxy.outbound, request("GET", "/no?why", "X-Request-Id: r-1"))
    [line] = await proxy.log(1)
    assert line["decision"] == "denied"
    assert (line["method"], line["path"], line["host"]) == ("GET", "/no?why", "shop")
    assert (line["status"], line["request_id"]) == (403, "r-1")
    assert line["reason"] == "no route of this host fits the path, method and headers"
    assert line["origin"] == "Service/shop/app"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", line["time"])
    await proxy.apply({**told, "version": "off", "telemetry": {"access_log": "off"}})
    await fetch(proxy.outbound, request("GET", "/no"))
    await proxy.apply({**told, "version": "all", "telemetry": {"access_log": "all"}})
    await fetch(proxy.outbound, request("POST", "/ok", body=b"12345"))
    [allowed] = await proxy.log(1, decision="allowed")
    assert allowed["request_bytes"] == 5
    assert (allowed["cluster"], allowed["upstream"]) == ("app", str(backend.address))
    assert allowed["duration_us"] > 0
    assert len(proxy.all_log()) == 2


async def test_one_line_per_request_whatever_it_holds(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    raw = b'GET /%22%0a\xff HTTP/1.1\r\nHost: shop\r\nX-Request-Id: "\\\xff\x80\r\n\r\n'
    raw = raw.replace(b"\xff HTTP", b" HTTP")
    await fetch(proxy.outbound, raw)
    [line] = await proxy.log(1)
    assert line["path"] == "/%22%0A"
    assert line["request_id"].startswith('"\\')
