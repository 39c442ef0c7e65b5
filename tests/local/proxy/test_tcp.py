"""TCP through the proxy: directions end by themselves, resets get through, nothing is lost.

One proxy in plain text; what a pair does over mTLS is in ``test_tcp_servers``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct

import pytest
from proxyrig import config
from proxyrig.streams import echo, greeting, server
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire


async def carried(rig, address, **changes):
    """Start a proxy that carries bytes to an address."""
    proxy = await rig.pipy()
    await proxy.apply(
        config.whole(
            outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
            clusters={"app": config.cluster(config.endpoint(address))},
            **changes,
        )
    )
    return proxy


async def test_bytes_come_back_and_the_line_counts_them(rig):
    async with server(echo) as app:
        proxy = await carried(rig, app)
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(b"hello")
            assert await wire.exactly(5) == b"hello"
            wire.finish()
            assert await wire.rest() == b""
        [line] = await proxy.log(1, protocol="tcp")
        assert (line["request_bytes"], line["response_bytes"]) == (5, 5)
        assert (line["decision"], line["cluster"]) == ("allowed", "app")


async def test_a_server_that_speaks_first_is_not_kept_waiting(rig):
    async with server(greeting(b"220 ready\r\n")) as app:
        proxy = await carried(rig, app)
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.line() == "220 ready"


async def test_a_client_that_has_finished_still_hears_the_answer(rig):
    async def sum_up(reader, writer):
        whole = await reader.read(-1)
        writer.write(hashlib.sha256(whole).digest())
        await writer.drain()
        writer.write_eof()

    async with server(sum_up) as app:
        proxy = await carried(rig, app)
        sent = bytes(range(256)) * 4096
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(sent)
            wire.finish()
            assert await wire.rest() == hashlib.sha256(sent).digest()


async def test_a_server_that_has_finished_still_hears_the_client(rig):
    heard = asyncio.get_running_loop().create_future()

    async def finish_first(reader, writer):
        writer.write(b"bye")
        writer.write_eof()
        heard.set_result(await reader.read(-1))

    async with server(finish_first) as app:
        proxy = await carried(rig, app)
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.rest() == b"bye"
            await wire.send(b"one more word")
            wire.finish()
            assert await asyncio.wait_for(heard, 10) == b"one more word"


async def test_a_reset_of_the_client_reaches_the_server(rig):
    seen = asyncio.get_running_loop().create_future()

    async def wait(reader, writer):
        writer.write(b"ready")
        try:
            await reader.read(-1)
            seen.set_result("finished")
        except ConnectionResetError:
            seen.set_result("reset")

    async with server(wait) as app:
        proxy = await carried(rig, app)
        wire = await Wire.open(proxy.outbound)
        assert await wire.exactly(5) == b"ready"
        wire.abort()
        assert await asyncio.wait_for(seen, 10) == "reset"
        await until(lambda: proxy.descriptors() < 40, "descriptors given back")


async def test_a_reset_of_the_server_reaches_the_client(rig):
    async def cut(reader, writer):
        writer.write(b"half of i")
        await writer.drain()
        await reader.readexactly(2)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with server(cut) as app:
        proxy = await carried(rig, app)
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.exactly(9) == b"half of i"
            await wire.send(b"ok")
            with pytest.raises(ConnectionResetError):
                await wire.rest()
        [line] = await proxy.log(1, protocol="tcp")
        assert (line["decision"], line["reason"]) == ("failed", "reset")


async def test_a_slow_reader_holds_the_writer_and_not_our_memory(rig):
    async def pour(reader, writer):
        for _ in range(1024):
            writer.write(bytes(64 << 10))
            await writer.drain()
        writer.write_eof()

    async with server(pour) as app:
        proxy = await carried(rig, app)
        wire = await Wire.open(proxy.outbound, receive_buffer=16 << 10)
        await wire.exactly(1)
        before = proxy.resident_kib()
        # 64 MiB wait behind a reader that takes some now and then.
        for _ in range(20):
            await wire.some(4096)
        assert proxy.resident_kib() - before < 4 << 10
        taken = 1
        while data := await wire.some(1 << 20):
            taken += len(data)
        assert taken >= (64 << 20) - 20 * 4096
        wire.close()


async def test_a_connection_on_which_nothing_moves_ends(rig):
    async with server(greeting(b"hello")) as app:
        proxy = await carried(rig, app, timeouts={"idle_ms": 300})
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.exactly(5) == b"hello"
            for _ in range(4):
                await wire.send(b"x")
                assert await wire.exactly(1) == b"x"
            assert await wire.rest() == b""
        [line] = await proxy.log(1, protocol="tcp")
        assert line["reason"] == "idle_timeout"
        assert line["duration_us"] >= 290_000


async def test_nobody_there_looks_like_a_server_that_closes(rig):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = await carried(rig, f"127.0.0.1:{free.getsockname()[1]}")
        async with await Wire.open(proxy.outbound) as wire:
            assert await wire.rest() == b""
    [line] = await proxy.log(1, protocol="tcp")
    assert line["reason"] == "connect_failed"


@contextlib.contextmanager
def nobody():
    """Give an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{free.getsockname()[1]}"


async def test_an_endpoint_that_cannot_be_reached_costs_no_connection(rig):
    async with server(echo) as app:
        proxy = await rig.pipy()
        with nobody() as gone, nobody() as away:
            endpoints = [config.endpoint(one) for one in (gone, app, away)]
            # Never ejected, so that each connection meets them anew.
            health = {"connect_failures": 0}
            told = config.whole(
                outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
                clusters={"app": config.cluster(*endpoints, health=health)},
            )
            await proxy.apply(told)
            for _ in range(12):
                async with await Wire.open(proxy.outbound) as wire:
                    # All of it said, and the end, before anybody has answered.
                    await wire.send(b"all that there is")
                    wire.finish()
                    assert await wire.rest() == b"all that there is"
        lines = await proxy.log(12, protocol="tcp")
        assert {(line["decision"], line["upstream"]) for line in lines} == {("allowed", str(app))}
        stats = await proxy.stats()
        assert int(stats["cluster.app.upstream_cx_connect_fail"]) >= 8
        assert stats["cluster.app.upstream_cx_active"] == "0"


async def test_a_cluster_of_weight_0_takes_a_connection_over(rig):
    async with server(greeting(b"spare")) as app:
        proxy = await rig.pipy()
        with nobody() as gone:
            match = config.tcp_match(proxy.outbound.port)
            match["tcp"]["clusters"] = [
                {"cluster": "first", "weight": 100},
                {"cluster": "spare", "weight": 0},
            ]
            told = config.whole(
                outbound={"matches": [match]},
                clusters={
                    "first": config.cluster(config.endpoint(gone)),
                    "spare": config.cluster(config.endpoint(app)),
                },
            )
            await proxy.apply(told)
            async with await Wire.open(proxy.outbound) as wire:
                assert await wire.exactly(5) == b"spare"
        [line] = await proxy.log(1, protocol="tcp")
        assert (line["decision"], line["cluster"]) == ("allowed", "spare")


async def test_connections_beyond_the_limit_are_reset_and_counted(rig):
    async with server(greeting(b"in")) as app:
        proxy = await carried(rig, app, connection_limits={"outbound_connections_max": 2})
        first, second = await Wire.open(proxy.outbound), await Wire.open(proxy.outbound)
        assert (await first.exactly(2), await second.exactly(2)) == (b"in", b"in")
        async with await Wire.open(proxy.outbound) as third:
            await third.send(b"x")
            with pytest.raises(ConnectionResetError):
                await third.rest()
        [line] = await proxy.log(1, decision="denied")
        assert "as many connections" in line["reason"]
        assert (await proxy.stats())["denied.overloaded"] == "1"
        first.close()
        await proxy.log(1, decision="allowed")
        async with await Wire.open(proxy.outbound) as fourth:
            assert await fourth.exactly(2) == b"in"
        second.close()


async def test_the_other_family_is_carried_too(rig):
    """From an IPv6 listener to an IPv4 server, and the other way round."""
    for listen, host in (("[::1]:0", "127.0.0.1"), ("127.0.0.1:0", "::1")):
        async with server(greeting(b"in"), host) as app:
            proxy = await rig.pipy(outbound=listen)
            at = f"[{app.host}]:{app.port}" if ":" in app.host else str(app)
            await proxy.apply(
                config.whole(
                    outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
                    clusters={"app": config.cluster(config.endpoint(at))},
                )
            )
            ours = Address(proxy.outbound.host.strip("[]"), proxy.outbound.port)
            async with await Wire.open(ours) as wire:
                assert await wire.exactly(2) == b"in"
            [line] = await proxy.log(1)
            assert line["upstream"] == at
