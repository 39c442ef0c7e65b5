"""Peers that are slow, break off at each byte, or speak no protocol: an end, a count, no harm.

What certificates may not be is in ``../proxy/test_mtls.py`` and ``test_strangers.py`` there, what
requests may not be in ``tests/differential``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import ssl
from collections.abc import AsyncIterator

import pytest
from proxyrig import config
from proxyrig.backend import Backend, Connection, Request
from proxyrig.certs import Authority, spiffe
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, fetch, request

STORE = spiffe("bookstore")


@contextlib.asynccontextmanager
async def plain(directory, script=None, **parts) -> AsyncIterator[tuple[Pipy, Backend]]:
    """Start a proxy before a backend, in plain text; afterwards it must be whole."""
    async with Backend("app", script) as backend, Pipy(directory / "pipy") as proxy:
        await proxy.apply(config.plain(proxy.outbound.port, backend.address, **parts))
        yield proxy, backend
        await whole(proxy)


@contextlib.asynccontextmanager
async def member(directory, **parts) -> AsyncIterator[Pipy]:
    """Start a proxy that takes mutual TLS only."""
    own = Authority("the mesh").member(STORE)
    async with Backend("app") as backend, Pipy(directory / "pipy", own) as proxy:
        match = config.http_match(proxy.inbound.port, config.host(config.route()))
        cluster = config.cluster(config.endpoint(backend.address))
        told = config.whole(
            identity=STORE, inbound={"matches": [match]}, clusters={"app": cluster}, **parts
        )
        await proxy.apply(told)
        yield proxy
        await whole(proxy)


async def whole(proxy: Pipy) -> None:
    """Check that the process has survived without a panic, and that it lets go of connections."""
    assert proxy.process.returncode is None
    assert not proxy.noticed("panicked")
    await until(lambda: proxy.descriptors() < 60, "connections closed")


async def ending(address: Address, data: bytes, finish: bool = True) -> bytes | None:
    """Send bytes and the end; give all that came back, or none for a reset."""
    async with await Wire.open(address) as wire:
        try:
            wire.writer.write(data)
            if finish:
                wire.finish()
            return await wire.rest()
        except OSError:
            return None


@pytest.mark.parametrize(
    "ask",
    [
        request("POST", "/whole", body=b"abcdef"),
        b"POST /whole HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n",
    ],
    ids=["length", "chunks"],
)
async def test_a_request_that_breaks_off_at_any_byte_is_carried_out_by_nobody(tmp_path, ask):
    done: list[Request] = []

    async def script(asked: Request, connection: Connection) -> bool:
        # Only what has come whole gets here.
        done.append(asked)
        await connection.respond(200)
        return True

    async with plain(tmp_path, script) as (proxy, _):
        ends = await asyncio.gather(*(ending(proxy.outbound, ask[:n]) for n in range(len(ask))))
        assert not done
        # Nothing, a refusal or a reset; never a success.
        assert all(not end or end.startswith(b"HTTP/1.1 4") for end in ends), ends
        counted = [k for k in await proxy.stats() if k.startswith("http.protocol_error.")]
        assert counted
        last = await ending(proxy.outbound, ask)
        assert last
        assert last.startswith(b"HTTP/1.1 200")
        assert len(done) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    ],
    ids=["length", "chunks"],
)
async def test_a_response_that_breaks_off_at_any_byte_never_looks_whole(tmp_path, answer):
    async def script(asked: Request, connection: Connection) -> bool:
        await connection.send(answer[: int(asked.target[1:])])
        return False

    async def complete(proxy: Pipy, count: int) -> bool:
        """Say whether the client got a response that is complete, and no error."""
        async with await Wire.open(proxy.outbound) as wire:
            # Not to be sent twice, so that each ends where the server ended.
            await wire.send(request("POST", f"/{count}", "Connection: close"))
            try:
                response = await wire.response()
            except (ConnectionError, EOFError, AssertionError, ValueError):
                return False
            assert response.status in (200, 502), response
            return response.status == 200 and response.body == b"abcdef"

    async with plain(tmp_path, script) as (proxy, _):
        counts = range(len(answer) + 1)
        ends = await asyncio.gather(*(complete(proxy, count) for count in counts))
        assert ends == [False] * len(answer) + [True]


def client_hello() -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_a_handshake_that_breaks_off_at_any_byte_ends_and_is_counted(tmp_path):
    hello = client_hello()
    async with member(tmp_path) as proxy:
        before = proxy.resident_kib()
        for first in range(0, len(hello), 64):
            cuts = range(first, min(first + 64, len(hello)))
            await asyncio.gather(*(ending(proxy.inbound, hello[:n]) for n in cuts))
        stats = await proxy.stats()
        counted = sum(int(v) for k, v in stats.items() if k.startswith("tls.handshake_failure."))
        # The first cuts leave a connection without a word, which is no failure.
        assert counted >= len(hello) - 8, (counted, len(hello))
        assert await proxy.log(1, decision="denied")
        assert proxy.resident_kib() - before < 4 << 10


async def test_garbage_in_place_of_tls_ends_and_is_counted(tmp_path):
    dice, hello = random.Random(7), client_hello()

    def garbage(number: int) -> bytes:
        match number % 4:
            case 0:  # Anything.
                return dice.randbytes(dice.randrange(1, 4096))
            case 1:  # A right header, and anything.
                return b"\x16\x03\x01\x40\x00" + dice.randbytes(0x4000)
            case 2:  # A hello with a bit turned.
                at = dice.randrange(len(hello))
                return hello[:at] + bytes([hello[at] ^ 1 << dice.randrange(8)]) + hello[at + 1 :]
            case _:  # A record longer than records may be.
                return b"\x16\x03\x01\xff\xff" + dice.randbytes(70_000)

    async with member(tmp_path, timeouts={"handshake_ms": 500}) as proxy:
        before = proxy.resident_kib()
        for _ in range(10):
            sent = [garbage(number) for number in range(40)]
            await asyncio.gather(*(ending(proxy.inbound, one) for one in sent))
        stats = await proxy.stats()
        counted = sum(int(v) for k, v in stats.items() if k.startswith("tls.handshake_failure."))
        assert counted >= 300, stats
        assert proxy.resident_kib() - before < 8 << 10


SLOW = 300


async def test_many_slow_heads_are_given_up_while_others_are_served(tmp_path):
    async with plain(tmp_path, timeouts={"request_head_ms": 700}) as (proxy, backend):
        before = proxy.resident_kib()

        async def slow() -> int:
            async with await Wire.open(proxy.outbound) as wire:
                answer = asyncio.create_task(wire.response())
                for byte in b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"a" * 10_000:
                    # A byte at a time, never silent for long; over when it is answered.
                    wire.writer.write(bytes([byte]))
                    await asyncio.wait({answer}, timeout=0.05)
                    if answer.done():
                        break
                return (await answer).status

        attack = [asyncio.create_task(slow()) for _ in range(SLOW)]
        await until(lambda: proxy.descriptors() > SLOW // 2, "the attack")
        assert (await fetch(proxy.outbound)).status == 200
        # Most of it are read buffers; what matters is that it does not grow with time.
        assert proxy.resident_kib() - before < 8 << 10
        assert await asyncio.gather(*attack) == [408] * SLOW
        assert len(backend.requests) == 1
        assert len(await proxy.log(SLOW, status=408)) == SLOW
        assert (await proxy.stats())["http.protocol_error.head_timeout"] == str(SLOW)


async def test_a_body_that_stops_is_given_up(tmp_path):
    async with plain(tmp_path, timeouts={"idle_ms": 300}) as (proxy, backend):
        ends = await asyncio.gather(
            *(
                ending(proxy.outbound, request("POST", "/", "Content-Length: 9") + b"abc", False)
                for _ in range(50)
            )
        )
        # It is the client that was slow; the server never sees the request whole.
        assert all(end and end.startswith(b"HTTP/1.1 408") for end in ends), ends[0]
        assert len(await proxy.log(50, status=408, reason="idle_timeout")) == 50
        stats = await proxy.stats()
        assert stats["cluster.app.upstream_rq_tx_reset"] == "50"
        assert stats["cluster.app.upstream_rq_timeout"] == "0"
        assert stats["cluster.app.upstream_rq_active"] == "0"
        await until(lambda: backend.open == 0, "the server's connections ended")


async def test_a_client_that_does_not_read_is_given_up_and_costs_little(tmp_path):
    async def script(asked: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            await connection.send(b"x" * 1_000_000)
        return True

    async with plain(tmp_path, script, timeouts={"idle_ms": 500}) as (proxy, backend):
        before = proxy.resident_kib()
        wires = [await Wire.open(proxy.outbound, receive_buffer=4096) for _ in range(20)]
        for wire in wires:
            # Not even into the buffers of this process.
            wire.writer.transport.pause_reading()
            await wire.send(request())
        await until(lambda: len(backend.requests) == len(wires), "requests")
        assert proxy.resident_kib() - before < 20 << 10
        await until(lambda: backend.open == 0, "the server's connections ended")
        for wire in wires:
            wire.abort()


async def test_a_server_that_dribbles_its_head_is_given_up(tmp_path):
    async def script(asked: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        await connection.reader.read(-1)
        return False

    async with plain(tmp_path, script, timeouts={"idle_ms": 300}) as (proxy, _):
        response = await fetch(proxy.outbound)
        assert response.status == 504
        [line] = await proxy.log(1)
        assert (line["decision"], line["reason"], line["status"]) == ("failed", "idle_timeout", 504)
        stats = await proxy.stats()
        assert stats["cluster.app.upstream_rq_timeout"] == "1"
        assert stats["cluster.app.upstream_rq_504"] == "1"


async def test_a_handshake_that_stops_is_given_up(tmp_path):
    async with member(tmp_path, timeouts={"handshake_ms": 300}) as proxy:
        cut = client_hello()[:40]
        await asyncio.gather(*(ending(proxy.inbound, cut, False) for _ in range(100)))
        stats = await proxy.stats()
        assert int(stats["tls.handshake_failure.timeout"]) == 100


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
async def test_a_client_that_asks_to_renegotiate_is_refused(tmp_path):
    authority = Authority("the mesh")
    own = authority.member(STORE)
    async with Backend("app") as backend, Pipy(tmp_path / "pipy", own) as proxy:
        match = config.http_match(proxy.inbound.port, config.host(config.route()))
        cluster = config.cluster(config.endpoint(backend.address))
        await proxy.apply(
            config.whole(identity=STORE, inbound={"matches": [match]}, clusters={"app": cluster})
        )
        own.write(tmp_path)
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", str(proxy.inbound), "-tls1_2"),
            *("-cert", str(tmp_path / "cert.pem"), "-key", str(tmp_path / "key.pem")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        # The handshake is over; a line with nothing but R asks for another.
        said = await asyncio.wait_for(process.stdout.readuntil(b"\n---\nSSL handshake"), 10)
        assert b"alert" not in said
        process.stdin.write(b"R\n")
        rest = await asyncio.wait_for(process.stdout.read(-1), 10)
        await process.wait()
        assert b"RENEGOTIATING" in rest
        assert b"no renegotiation" in rest or b"alert" in rest, rest[-500:]
        await whole(proxy)


async def test_oversize_heads_and_many_headers_cost_little(tmp_path):
    async with plain(tmp_path) as (proxy, backend):
        before = proxy.resident_kib()
        heads = [
            b"GET / HTTP/1.1\r\nHost: shop\r\n" + b"X: 1\r\n" * 100_000,
            b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"a" * 2_000_000,
            b"GET /" + b"a" * 2_000_000,
            b"A" * 2_000_000,
        ]
        for _ in range(10):
            await asyncio.gather(*(ending(proxy.outbound, head, False) for head in heads))
        lines = await proxy.log(40, decision="denied")
        assert {line["status"] for line in lines} <= {400, 414, 431}
        assert proxy.resident_kib() - before < 4 << 10
        assert not backend.requests
