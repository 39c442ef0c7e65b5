"""After a mixed load each counter says what clients and the application saw, on both sidecars.

client h1 and h2 ─► outbound sidecar ═ mTLS ═► inbound sidecar ─► application
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Backend, Connection, Request
from proxyrig.certs import spiffe
from proxyrig.h2wire import HEADERS, RST_STREAM, Frames, frame, headers
from proxyrig.h2wire import request as request_2
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Wire, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")

# How often each path is asked for, by each kind of client.
LOAD = {
    "/ok": 40,
    "/missing": 7,
    "/busy": 5,
    "/flaky": 6,
    "/cut": 4,
    "/half": 3,
    "/hang": 5,
    "/moved": 2,
}


class Application:
    """Answers by the path; counts the bytes of its connections."""

    def __init__(self) -> None:
        self.read = self.written = 0
        self.flaky = 0
        self.hanging = 0
        self.asked: Counter[str] = Counter()
        self.seen = asyncio.Event()

    async def __call__(self, asked: Request, connection: Connection) -> bool:
        path = asked.target
        self.asked[path] += 1
        match path:
            case "/missing":
                await connection.respond(404, b"no")
            case "/moved":
                await connection.respond(301, b"", "Location: /ok")
            case "/busy":
                await connection.respond(503, b"busy")
            case "/flaky":
                self.flaky += 1
                await connection.respond(503 if self.flaky % 2 else 200, b"flaky")
            case "/cut":
                return False
            case "/half":
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                # A reset any earlier may overtake what was sent.
                await asyncio.wait_for(self.seen.wait(), 10)
                self.seen.clear()
                return False
            case "/hang":
                self.hanging += 1
                try:
                    await connection.reader.read(1)
                finally:
                    self.hanging -= 1
                return False
            case _:
                await connection.respond(200, b"x" * 1000)
        return True


@pytest.fixture
async def site(rig, authority):
    application = Application()
    backend = await rig.backend(application)
    begin = backend._begin

    def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed, write = reader.feed_data, writer.transport.write

        def fed(data: bytes) -> None:
            application.read += len(data)
            feed(data)

        def wrote(data: bytes) -> None:
            application.written += len(data)
            write(data)

        reader.feed_data = fed  # type: ignore[method-assign]
        writer.transport.write = wrote  # type: ignore[method-assign]
        begin(reader, writer)

    backend._server.close()
    backend._server = await asyncio.start_server(counted, "127.0.0.1", 0, limit=1 << 20)
    address = backend._server.sockets[0].getsockname()
    backend.address = type(backend.address)(*address[:2])
    server = await rig.pipy(member=authority.member(STORE))
    client = await rig.pipy(member=authority.member(BUYER))
    route = config.route(("app|local", 100), allowed=config.allow(BUYER))
    await server.apply(
        config.whole(
            identity=STORE,
            inbound={"matches": [config.http_match(server.inbound.port, config.host(route))]},
            clusters={"app|local": config.cluster(config.endpoint(backend.address))},
        )
    )
    retry = {
        "origin": "Retry/shop/three",
        "statuses": [{"first": 503, "last": 503}],
        "retries_max": 2,
        "backoff_ms": 1,
    }
    cluster = config.cluster(config.endpoint(server.inbound, STORE), retry=retry)
    match = config.http_match(client.outbound.port, config.host(config.route()))
    await client.apply(
        config.whole(identity=BUYER, outbound={"matches": [match]}, clusters={"app": cluster})
    )
    return application, backend, client, server


def method(path: str) -> str:
    """Give a method that is not sent twice where a connection breaks."""
    return "POST" if path == "/cut" else "GET"


async def ask_1(proxy: Pipy, application: Application, path: str) -> int | None:
    """Ask in HTTP/1; leave while it hangs. Give the status, or none where it broke off."""
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request(method(path), path))
        if path == "/half":
            assert (await wire.head()).status == 200
            application.seen.set()
            with pytest.raises((EOFError, OSError)):
                await wire.exactly(100)
            return None
        if path == "/hang":
            await until(lambda: application.hanging, "a request that hangs")
            wire.abort()
            return None
        return (await wire.response()).status


async def ask_2(proxy: Pipy, application: Application, path: str) -> int | None:
    """Do the same in HTTP/2, where a stream is reset and the connection stays."""
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *request_2(method(path).encode(), path.encode())))
        if path == "/half":
            while (read := await client.frame()) and read.kind != HEADERS:
                pass
            application.seen.set()
        if path == "/hang":
            await until(lambda: application.hanging, "a request that hangs")
            await client.send(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
            await until(lambda: not application.hanging, "the end of it")
            return None
        message = await client.message(1)
        return None if message.reset is not None else message.status


def numbers(stats: dict[str, str], cluster: str) -> dict[str, int]:
    """Give what counts for a cluster."""
    prefix = f"cluster.{cluster}."
    return {k.removeprefix(prefix): int(v) for k, v in stats.items() if k.startswith(prefix)}


def check_sums(counted: dict[str, int]) -> None:
    """Check what must hold for every cluster at rest."""
    assert counted["upstream_rq_active"] == 0
    by_class = sum(counted.get(f"upstream_rq_{n}xx", 0) for n in range(1, 6))
    by_code = sum(v for k, v in counted.items() if re.fullmatch(r"upstream_rq_[1-5]\d\d", k))
    assert by_class == by_code
    assert by_class <= counted["upstream_rq_total"]


@pytest.mark.parametrize("ask", [ask_1, ask_2], ids=["h1", "h2"])
async def test_counters_agree_with_what_both_ends_saw(site, ask):
    application, backend, client, server = site
    seen: Counter[int | None] = Counter()
    for path, count in LOAD.items():
        # One after the other where it matters which try meets which answer.
        if path in ("/flaky", "/half", "/hang"):
            for _ in range(count):
                seen[await ask(client, application, path)] += 1
                await until(lambda: not application.hanging, "nothing that hangs")
        else:
            seen.update(
                await asyncio.gather(*(ask(client, application, path) for _ in range(count)))
            )
    ok, busy, flaky, cut, half, hang = (
        LOAD[f"/{p}"] for p in ("ok", "busy", "flaky", "cut", "half", "hang")
    )
    assert seen[200] == ok + flaky
    assert (seen[404], seen[301], seen[503], seen[502]) == (7, 2, busy, cut)
    assert seen[None] == half + hang
    # A try more for each that was flaky, two for each that was busy.
    tries = sum(LOAD.values()) + flaky + 2 * busy
    assert sum(application.asked.values()) == tries == len(backend.requests)

    async def at_rest(proxy: Pipy, cluster: str) -> dict[str, int]:
        found: dict[str, int] = {}

        async def rest() -> bool:
            nonlocal found
            found = numbers(await proxy.stats(), cluster)
            return found["upstream_rq_active"] == 0 and len(proxy.all_log()) >= sum(LOAD.values())

        await until(rest, "no request under way")
        return found

    inn, out = await at_rest(server, "app|local"), await at_rest(client, "app")
    for counted in (inn, out):
        check_sums(counted)
        assert counted["upstream_rq_total"] == tries
        assert counted["upstream_rq_503"] == 3 * busy + flaky
        assert counted["upstream_rq_404"] == 7
        assert counted["upstream_rq_301"] == 2
        assert counted["upstream_rq_502"] == cut
        assert counted["upstream_rq_tx_reset"] == hang
    assert inn["upstream_rq_rx_reset"] == cut + half
    assert out["upstream_rq_rx_reset"] == half
    assert out["upstream_rq_retry"] == flaky + 2 * busy
    assert out["upstream_rq_retry_success"] == flaky
    assert out["upstream_rq_retry_limit_exceeded"] == busy
    assert inn["upstream_rq_retry"] == 0
    # What begins and breaks off counts by its status.
    for counted in (inn, out):
        assert counted["upstream_rq_200"] == ok + flaky + half
    assert inn["upstream_cx_total"] == len(backend.connections)
    await until(lambda: backend.open == inn["upstream_cx_active"], "connections")
    assert inn["upstream_cx_tx_bytes_total"] == application.read
    assert inn["upstream_cx_rx_bytes_total"] == application.written
    # One line per request on one side, one per try on the other.
    assert len(await client.log(sum(LOAD.values()))) == sum(LOAD.values())
    assert len(await server.log(tries)) == tries
    page = (await client.page("/stats/prometheus")).body.decode()
    [durations] = re.findall(r"fsm_request_duration_ms_count\{[^}]*\} (\d+)", page)
    # Who hangs has not said whose response it is; retries are one request.
    assert int(durations) == sum(LOAD.values()) - hang


async def test_labels_do_not_grow_with_what_clients_say(site):
    application, _, client, _ = site

    async def series() -> int:
        text = (await client.page("/stats/prometheus")).body.decode()
        return sum(1 for line in text.splitlines() if line and not line.startswith("#"))

    await ask_1(client, application, "/ok")
    before = await series()
    for number in range(50):
        async with await Wire.open(client.outbound) as wire:
            raw = request("GET", f"/ok{number}?x={number}", f"Host: h{number}", f"X-A{number}: 1")
            assert (await wire.ask(raw)).status == 200
    assert await series() <= before + 2


async def test_statuses_that_no_one_knows_are_bounded(rig):
    async def odd(asked: Request, connection: Connection) -> bool:
        await connection.respond(int(asked.target[1:]))
        return True

    proxy = await rig.plain(await rig.backend(odd))
    for status in range(200, 1000, 7):
        async with await Wire.open(proxy.outbound) as wire:
            await wire.ask(request("GET", f"/{status}"))
    text = (await proxy.page("/stats/prometheus")).body.decode()
    codes: set[Any] = set(re.findall(r'sidecar_response_code="(\d+)"', text))
    assert len(codes) <= 600
    assert {code for code in codes if not 100 <= int(code) <= 599} == set()


async def test_a_client_that_is_gone_does_not_hold_its_request(rig):
    """Half-closed clients get their answer if it comes soon; others are not waited for."""
    application = Application()
    backend: Backend = await rig.backend(application)
    proxy = await rig.plain(backend)

    async def active() -> str:
        return (await proxy.stats())["cluster.app.upstream_rq_active"]

    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request("GET", "/ok"))
        wire.finish()
        assert (await wire.response()).status == 200
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request("GET", "/hang"))
        await until(lambda: application.hanging, "the request")
        wire.finish()
        assert await active() == "1"
        await until(lambda: not application.hanging, "the end of it")
    assert await active() == "0"
    [line] = await proxy.log(1, path="/hang")
    assert line["decision"] == "failed"
