"""Each row of ``docs/reference/hostile-peers.md`` is what happens: seen, counted, logged.

The table is read from the page; a row without its fault, or a fault without its row, fails.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from proxyrig import config, faults
from proxyrig.backend import Backend
from proxyrig.certs import Authority, Member, spiffe
from proxyrig.faults import BUYER, CLIENTS, SERVERS, STORE, context, shown
from proxyrig.floods import FLOODS
from proxyrig.h2_servers import H2_SERVERS, h2_server
from proxyrig.h2wire import Frames
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "hostile-peers.md"

TIMEOUTS = {"request_head_ms": 400, "idle_ms": 800, "handshake_ms": 400}

Fault = Callable[[], Awaitable[str]]


def table() -> dict[str, tuple[str, str, str]]:
    """Read the rows: what is seen, the counter, and the words of the log, by fault."""
    rows: dict[str, tuple[str, str, str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "fault":
            rows[cells[0]] = (cells[1], cells[2], cells[3])
    return rows


class Watch:
    """Makes faults at one proxy, and collects where the page is wrong."""

    def __init__(self, proxy: Pipy) -> None:
        self.proxy = proxy
        self.rows = table()
        self.wrong: list[str] = []

    async def fault(self, name: str, make: Fault) -> None:
        """Compare what happens with the row."""
        seen, counter, words = self.rows.get(name, ("?", "?", "?"))
        logged, before = len(self.proxy.all_log()), await self.proxy.stats()
        got = await asyncio.wait_for(make(), 30)

        async def counted() -> bool:
            after = await self.proxy.stats()
            return int(after.get(counter, 0)) > int(before.get(counter, 0))

        def lines() -> list[str]:
            told = self.proxy.all_log()[logged:]
            return [f"{line['decision']}: {line['reason']}" for line in told if line.get("reason")]

        pattern = re.compile(
            "".join(".*" if p == "…" else re.escape(p) for p in re.split("(…)", words))
        )
        told = False
        for _ in range(200):
            told = any(pattern.fullmatch(line) for line in lines())
            if told and await counted():
                break
            await asyncio.sleep(0.05)
        moved = await self.proxy.stats()
        changed = [k for k, v in moved.items() if v != before.get(k) and re.match(r"\D*[a-z_]$", k)]
        if got != seen or not told or not await counted():
            self.wrong.append(f"{name}: {got} | {changed} | {lines()}")

    def judge(self) -> None:
        """Fail with all that is wrong."""
        assert not self.proxy.noticed("panicked")
        assert not self.wrong, "\n".join(self.wrong)


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


async def plain(stack: AsyncExitStack, directory: Path) -> tuple[Pipy, Backend]:
    """Start a proxy before a server that does what it is asked for."""
    backend = await stack.enter_async_context(Backend("app", faults.server))
    proxy = await stack.enter_async_context(Pipy(directory / "pipy"))
    await proxy.apply(config.plain(proxy.outbound.port, backend.address, timeouts=TIMEOUTS))
    return proxy, backend


async def test_clients_at_fault(stack, tmp_path):
    proxy, backend = await plain(stack, tmp_path)
    watch = Watch(proxy)
    before = proxy.resident_kib()
    for name, client in CLIENTS.items():
        await watch.fault(name, partial(client, proxy.outbound))
    for wire in faults.waiting:
        wire.abort()
    faults.waiting.clear()
    for name, (flood, *_) in FLOODS.items():
        await watch.fault(f"h2 flood: {name}", partial(flooded, proxy.outbound, flood))
    watch.judge()
    await until(lambda: proxy.descriptors() < 40, "connections closed")
    await until(lambda: backend.open < 3, "connections to the server closed")
    assert proxy.resident_kib() - before < 16 << 10


async def flooded(to: Address, flood: Any) -> str:
    """Send frames until it is enough for the proxy."""
    async with Frames(to) as client:
        await client.begin()
        for number, piece in enumerate(flood()):
            if not await client.send(piece) or number > 5_000:
                break
        code = await client.until_closed()
        # The reset that follows may overtake the GOAWAY while there is more to send.
        return "GOAWAY 11" if code is None else f"GOAWAY {code}"


async def test_servers_at_fault(stack, tmp_path):
    proxy, _ = await plain(stack, tmp_path)
    watch = Watch(proxy)
    before = proxy.resident_kib()
    for name, path in SERVERS.items():
        await watch.fault(name, partial(faults.client_of, proxy.outbound, path))
    watch.judge()
    assert proxy.resident_kib() - before < 8 << 10


async def test_servers_of_http2_at_fault(stack, tmp_path):
    proxy = await stack.enter_async_context(Pipy(tmp_path / "pipy"))
    watch = Watch(proxy)
    match = config.http_match(proxy.outbound.port, config.host(config.route()), protocol="grpc")
    before = 0
    for name, says in H2_SERVERS.items():
        async with h2_server(says) as to:
            await proxy.apply(
                config.whole(
                    outbound={"matches": [match]},
                    clusters={"app": config.cluster(config.endpoint(to))},
                    timeouts=TIMEOUTS | {"idle_ms": 20_000},
                )
            )
            before = before or proxy.resident_kib()
            await watch.fault(name, partial(faults.client_of, proxy.outbound, "/"))
    watch.judge()
    await until(lambda: proxy.descriptors() < 40, "connections closed")
    assert proxy.resident_kib() - before < 16 << 10


async def member(stack, directory: Path, authority: Authority, **changes: Any) -> Pipy:
    """Start a proxy that takes mutual TLS."""
    backend = await stack.enter_async_context(Backend("app"))
    own = authority.member(STORE)
    proxy = await stack.enter_async_context(Pipy(directory / "server", own))
    route = config.route(allowed=config.allow(BUYER))
    match = config.http_match(proxy.inbound.port, config.host(route), **changes)
    cluster = config.cluster(config.endpoint(backend.address))
    await proxy.apply(
        config.whole(
            identity=STORE,
            inbound={"matches": [match]},
            clusters={"app": cluster},
            timeouts=TIMEOUTS,
        )
    )
    return proxy


async def test_clients_of_tls_at_fault(stack, tmp_path):
    authority, stranger = Authority("the mesh"), Authority("another mesh")
    proxy = await member(stack, tmp_path, authority)
    watch = Watch(proxy)
    day, hour = timedelta(days=1), timedelta(hours=1)
    certificates = {
        "no certificate": None,
        "expired certificate": authority.member(BUYER, begins=-day, ends=-hour),
        "certificate not yet valid": authority.member(BUYER, begins=hour, ends=day),
        "certificate of another authority": stranger.member(BUYER),
        "certificate of another identity": authority.member(spiffe("other")),
        **{f"certificate: {k}": v for k, v in faults.names(authority).items()},
    }
    bare: dict[str, Callable[[Address], Awaitable[str]]] = {
        "no TLS": faults.not_tls,
        "handshake that stops": faults.hello_that_stops,
        "handshake that is cut off": faults.hello_that_is_cut_off,
        "broken handshake": faults.broken_hello,
    }
    for name, make in bare.items():
        await watch.fault(name, partial(make, proxy.inbound))
    for name, certificate in certificates.items():
        by = context(authority, certificate, tmp_path / "client")
        await watch.fault(name, partial(shown, proxy.inbound, by))
    by = context(authority, authority.member(BUYER), tmp_path / "client")
    assert await shown(proxy.inbound, by) == "200"
    await watch.fault("broken record", partial(faults.broken_record, proxy.inbound, by))
    watch.judge()


async def test_clients_behind_a_balancer_at_fault(stack, tmp_path):
    authority = Authority("the mesh")
    proxy = await member(
        stack, tmp_path, authority, proxy_protocol_from=["127.0.0.0/8"], mtls="disabled"
    )
    watch = Watch(proxy)
    for name, said, finish in [
        ("no PROXY header", faults.GET, False),
        ("PROXY header that stops", b"PROXY TCP4 192.0.2.1 ", False),
        ("PROXY header that is cut off", b"PROXY TCP4 192.0.2.1 ", True),
        ("PROXY header without an end", b"PROXY TCP4 " + b"1" * 200, False),
        ("broken PROXY header", b"PROXY TCP4 192.0.2.1 192.0.2.2 0x1 80\r\n", False),
    ]:
        await watch.fault(name, partial(faults.told, proxy.inbound, said, finish))
    watch.judge()


async def test_servers_of_tls_at_fault(stack, tmp_path):
    authority, stranger = Authority("the mesh"), Authority("another mesh")
    day, hour = timedelta(days=1), timedelta(hours=1)
    proxy = await stack.enter_async_context(Pipy(tmp_path / "client", authority.member(BUYER)))
    watch = Watch(proxy)

    async def call(to: Address) -> str:
        cluster = config.cluster(config.endpoint(to, STORE), connect_timeout_ms=400)
        match = config.http_match(proxy.outbound.port, config.host(config.route()))
        await proxy.apply(
            config.whole(
                identity=BUYER,
                outbound={"matches": [match]},
                clusters={"app": cluster},
                timeouts=TIMEOUTS | {"idle_ms": 30_000},
            )
        )
        return await faults.client_of(proxy.outbound, "/")

    async def listening(
        does: Callable[..., Awaitable[None]], tls: ssl.SSLContext | None
    ) -> Address:
        server = await asyncio.start_server(does, "127.0.0.1", 0, ssl=tls)
        stack.callback(server.close)
        return Address(*server.sockets[0].getsockname())

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    await watch.fault("server without TLS", partial(call, await listening(speak, None)))
    await watch.fault(
        "server that ignores the handshake", partial(call, await listening(ignore, None))
    )
    certificates: dict[str, Member] = {
        "server of another identity": authority.member(spiffe("other")),
        "server with an expired certificate": authority.member(STORE, begins=-day, ends=-hour),
        "server whose certificate is not yet valid": authority.member(STORE, begins=hour, ends=day),
        "server of another authority": stranger.member(STORE),
        "server with two identities": faults.names(authority)["two"],
        "server with a NUL in its name": faults.names(authority)["nul"],
        "server with a wildcard": faults.names(authority)["wildcard"],
    }
    for name, certificate in certificates.items():
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.write(tmp_path)
        tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        await watch.fault(name, partial(call, await listening(speak, tls)))
    watch.judge()


def test_every_row_has_its_fault_and_every_fault_its_row():
    told = (Path(__file__).parent / "test_each_fault.py").read_text()
    named = {*CLIENTS, *SERVERS, *H2_SERVERS, *(f"h2 flood: {name}" for name in FLOODS)}
    named |= {f"certificate: {kind}" for kind in ("wildcard", "nul", "two")}
    for row in table():
        assert row in named or f'"{row}"' in told, f"{row} is held by no test"
    assert named <= set(table())
