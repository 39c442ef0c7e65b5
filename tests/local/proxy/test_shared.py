"""Connections between sidecars: one each for a few requests, one shared by many, none of them lost.

A relay stands between the two sidecars, so that connections can be counted and cut.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Backend, Connection, Request
from proxyrig.certs import Authority, spiffe
from proxyrig.waiting import until
from proxyrig.wire import Address, Response, Wire, fetch, request

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")

# More than all buffers between the application and a client that reads nothing.
LARGE = 16 << 20


class Relay:
    """Passes bytes on; knows its connections."""

    def __init__(self, to: Address) -> None:
        self.to = to
        self.opened = 0
        self.address = Address("127.0.0.1", 0)
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Relay:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = Address(*self._server.sockets[0].getsockname()[:2])
        return self

    def cut(self) -> None:
        """Reset every connection, both ends."""
        for writer in list(self._writers):
            writer.transport.abort()

    def stop(self) -> None:
        """Listen no more, and cut."""
        self._server.close()
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        there, back = await asyncio.open_connection(*self.to)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        self._writers.discard(writer)
        writer.close()


class Gate:
    """An application that answers nobody until it is opened."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def script(self, asked: Request, connection: Connection) -> bool:
        """Answer with what was asked for, or carry bytes back where an upgrade is asked for."""
        if asked.header("upgrade"):
            await connection.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            while data := await connection.reader.read(65536):
                await connection.send(data)
            return False
        if asked.target == "/large":
            await connection.respond(200, bytes(LARGE))
            return True
        if asked.method == "PUT":
            # Of the body nothing is read, and no answer given.
            await asyncio.Event().wait()
        if asked.method == "POST":
            await connection.body(asked)
        await self.is_open.wait()
        await connection.respond(200, asked.target.encode())
        return True


class Site:
    """Two sidecars, the relay between them, the application."""

    def __init__(self, client: Any, relay: Relay, backend: Backend, gate: Gate) -> None:
        self.client, self.relay, self.backend, self.gate = client, relay, backend, gate

    def ask(
        self, count: int, method: str = "GET", body: bytes = b""
    ) -> list[asyncio.Task[Response]]:
        """Send so many requests at once, each for a path of its own."""
        fields = ("Host: bookstore",)
        asked = [request(method, f"/{number}", *fields, body=body) for number in range(count)]
        return [asyncio.create_task(fetch(self.client.outbound, raw)) for raw in asked]

    async def arrived(self, count: int) -> None:
        """Wait until the application has heard so many."""
        await until(lambda: len(self.backend.requests) >= count, f"{count} requests have arrived")

    async def warm(self, count: int) -> None:
        """Make the connections that so many requests at once have, and leave them kept."""
        tasks = self.ask(count)
        await self.arrived(count)
        self.gate.is_open.set()
        assert {(await task).status for task in tasks} == {200}
        self.gate.is_open.clear()
        self.backend.requests.clear()


@pytest.fixture
async def site(rig, authority: Authority):
    """Make sites; the argument changes the client's cluster."""
    relays = []

    async def make(**changes: Any) -> Site:
        gate = Gate()
        backend = await rig.backend(gate.script)
        server = await rig.pipy(member=authority.member(STORE))
        client = await rig.pipy(member=authority.member(BUYER))
        host = config.host(config.route(allowed=config.allow(BUYER)))
        await server.apply(
            config.whole(
                identity=STORE,
                inbound={"matches": [config.http_match(server.inbound.port, host)]},
                clusters={"app": config.cluster(config.endpoint(backend.address))},
            )
        )
        relay = await Relay(server.inbound).start()
        relays.append(relay)
        await client.apply(outbound(client, relay.address, **changes))
        return Site(client, relay, backend, gate)

    yield make
    for relay in relays:
        relay.stop()


def outbound(client: Any, to: Address, **changes: Any) -> dict[str, Any]:
    """Call a sidecar that must prove its identity."""
    match = config.http_match(client.outbound.port, config.host(config.route()))
    cluster = config.cluster(config.endpoint(to, STORE), **changes)
    return config.whole(identity=BUYER, outbound={"matches": [match]}, clusters={"app": cluster})


async def test_many_requests_at_once_share_a_connection_and_get_their_own_answers(site):
    its = await site()
    tasks = its.ask(60)
    await its.arrived(60)
    its.gate.is_open.set()
    answers = [await task for task in tasks]
    assert [(a.status, a.body.decode()) for a in answers] == [(200, f"/{n}") for n in range(60)]
    # Those that came first have one each, all others one together.
    assert its.relay.opened <= 6


async def test_a_few_requests_have_a_connection_each(site):
    its = await site()
    tasks = its.ask(3)
    await its.arrived(3)
    its.gate.is_open.set()
    assert [(await task).status for task in tasks] == [200] * 3
    assert its.relay.opened == 3
    assert (await its.ask(1)[0]).status == 200
    assert its.relay.opened == 3


async def test_a_limit_on_connections_limits_what_is_asked_at_once(site):
    its = await site(limits={"connections_max": 4})
    tasks = its.ask(20)
    await its.arrived(4)
    assert its.relay.opened == 4
    its.gate.is_open.set()
    assert [(await task).status for task in tasks] == [200] * 20
    assert its.relay.opened == 4


async def test_connections_that_break_under_requests_that_may_be_repeated_are_not_noticed(site):
    its = await site()
    await its.warm(40)
    tasks = its.ask(40)
    await its.arrived(40)
    its.relay.cut()
    await its.arrived(80)
    its.gate.is_open.set()
    answers = [await task for task in tasks]
    assert [(a.status, a.body.decode()) for a in answers] == [(200, f"/{n}") for n in range(40)]


async def test_requests_that_may_not_be_repeated_are_not(site):
    its = await site()
    await its.warm(40)
    tasks = its.ask(40, "POST")
    await its.arrived(40)
    its.relay.cut()
    assert Counter([(await task).status for task in tasks]) == {502: 40}
    assert len(its.backend.requests) == 40


async def test_clients_that_read_nothing_do_not_hold_up_those_who_share_their_connection(site):
    its = await site()
    await its.warm(40)
    # Requests that wait keep the connection shared.
    waiting = its.ask(10)
    await its.arrived(10)
    async with AsyncExitStack() as stack:
        deaf = []
        for number in range(20):
            wire = await stack.enter_async_context(await Wire.open(its.client.outbound, 4096))
            deaf.append(wire)
            await wire.send(request("GET", "/large", "Host: bookstore"))
            await its.arrived(11 + number)
        its.gate.is_open.set()
        assert [(await task).status for task in waiting] == [200] * 10
        tasks = its.ask(20)
        assert [(await asyncio.wait_for(task, 10)).status for task in tasks] == [200] * 20
        # What was held back for them is still theirs.
        assert len((await deaf[-1].response()).body) == LARGE
    assert its.relay.opened <= 40


async def test_uploads_that_nobody_reads_do_not_hold_up_those_who_share_their_connection(site):
    its = await site()
    await its.warm(40)
    its.backend.reads_body = False
    waiting = its.ask(10)
    await its.arrived(10)
    sent = [0] * 20

    async def upload(number: int) -> None:
        async with await Wire.open(its.client.outbound) as wire:
            fields = ("Host: bookstore", f"Content-Length: {1 << 40}")
            await wire.send(request("PUT", f"/{number}", *fields))
            while True:
                await wire.send(bytes(1 << 16))
                sent[number] += 1

    uploads = []
    for number in range(len(sent)):
        uploads.append(asyncio.create_task(upload(number)))
        await its.arrived(11 + number)
    seen: list[int] = []

    async def stuck() -> bool:
        nonlocal seen
        before, seen = seen, list(sent)
        await asyncio.sleep(0.3)
        return before == sent

    await until(stuck, "no upload moves", 30)
    tasks = its.ask(20, "POST", b"read before the answer")
    its.gate.is_open.set()
    for task in (*waiting, *tasks):
        assert (await asyncio.wait_for(task, 10)).status == 200
    for task in uploads:
        task.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)


async def test_a_tunnel_has_a_connection_of_its_own(site):
    its = await site()
    tasks = its.ask(30)
    await its.arrived(30)
    before = its.relay.opened
    async with await Wire.open(its.client.outbound) as wire:
        fields = ("Host: bookstore", "Connection: upgrade", "Upgrade: echo")
        await wire.send(request("GET", "/", *fields))
        assert (await wire.head()).status == 101
        assert its.relay.opened == before + 1
        await wire.send(b"there and back")
        assert await wire.exactly(14) == b"there and back"
    its.gate.is_open.set()
    assert {(await task).status for task in tasks} == {200}


async def test_a_server_that_knows_no_http2_is_spoken_to_in_http1(rig, authority, tmp_path):
    member = authority.member(STORE)
    member.write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    gate, backend = Gate(), Backend("app")
    backend.script = gate.script

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await backend._serve(Connection(reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    client = await rig.pipy(member=authority.member(BUYER))
    relay = await Relay(Address(*server.sockets[0].getsockname()[:2])).start()
    await client.apply(outbound(client, relay.address))
    its = Site(client, relay, backend, gate)
    tasks = its.ask(30)
    await its.arrived(30)
    gate.is_open.set()
    assert [(await task).status for task in tasks] == [200] * 30
    # One each, and those that tried HTTP/2 first.
    assert relay.opened > 30
    relay.stop()
    server.close()
