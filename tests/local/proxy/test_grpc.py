"""gRPC of the real library through a pair of sidecars: each kind of call, its end, its failures.

client ─ h2 ─► outbound sidecar ═ mTLS, h2 by ALPN ═► inbound sidecar ─ h2 ─► server
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.grpcs import Echo, GrpcBackend
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address

CLIENT, SERVER = spiffe("caller"), spiffe("echo")


def serving(proxy: Pipy, app: Address, *allowed: str) -> dict[str, Any]:
    """Serve the application's gRPC to these callers."""
    host = config.host(config.route(allowed=config.allow(*(allowed or (CLIENT,)))))
    match = config.http_match(proxy.inbound.port, host, protocol="grpc")
    return config.whole(
        identity=SERVER,
        inbound={"matches": [match]},
        clusters={"app": config.cluster(config.endpoint(app))},
    )


def calling(proxy: Pipy, *to: Address, identity: str | None = SERVER) -> dict[str, Any]:
    """Call these sidecars."""
    cluster = config.cluster(*(config.endpoint(one, identity) for one in to))
    match = config.http_match(proxy.outbound.port, config.host(config.route()), protocol="grpc")
    return config.whole(identity=CLIENT, outbound={"matches": [match]}, clusters={"app": cluster})


class Pair:
    """Two sidecars, an application behind one, a client before the other."""

    def __init__(self, client: Pipy, server: Pipy, app: GrpcBackend, echo: Echo) -> None:
        self.client, self.server, self.app, self.echo = client, server, app, echo


@pytest.fixture
async def pair(rig, authority) -> AsyncIterator[Pair]:
    async with GrpcBackend() as app:
        server = await rig.pipy(member=authority.member(SERVER))
        client = await rig.pipy(member=authority.member(CLIENT))
        await server.apply(serving(server, app.address))
        await client.apply(calling(client, server.inbound))
        async with Echo(client.outbound) as echo:
            yield Pair(client, server, app, echo)


async def test_a_unary_call_comes_back_with_its_metadata_and_both_logs_know_its_status(pair):
    call = pair.echo.unary(b"hello", metadata=(("x-ask", "this"),), timeout=10)
    assert await call == b"hello"
    assert dict(await call.initial_metadata())["x-told"] == "this"
    trailing = dict(await call.trailing_metadata())
    assert (trailing["x-tell"], trailing["x-bytes-bin"]) == ("at the end", b"\x00\xff")
    for proxy in (pair.client, pair.server):
        [line] = await proxy.log(path="/test.Echo/Unary")
        assert (line["protocol"], line["status"], line["grpc_status"]) == ("h2", 200, 0)
        assert (line["host"], line["method"]) == ("echo.shop:9000", "POST")
    stats = await pair.server.stats()
    assert stats["listener.inbound.downstream_cx_http2_total"] == "1"
    assert pair.app.peers
    assert all("127.0.0.6" in peer for peer in pair.app.peers)


async def test_many_messages_go_up_in_one_call(pair):
    async def messages() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    assert await pair.echo.gather(messages(), timeout=30) == b"200 2000000"


async def test_many_messages_come_down_in_one_call(pair):
    received = [message async for message in pair.echo.scatter(b"300 20000", timeout=30)]
    assert [message[0] for message in received] == [number % 256 for number in range(300)]
    assert {len(message) for message in received} == {20_000}


async def test_each_side_hears_the_other_before_it_goes_on(pair):
    call = pair.echo.chat(timeout=30)
    for number in range(50):
        await call.write(b"%d" % number)
        assert await call.read() == b"re: %d" % number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_a_failure_before_any_message_arrives_with_its_words(pair):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pair.echo.unary(b"", metadata=(("x-fail", "FAILED_PRECONDITION"),), timeout=10)
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "asked to fail: FAILED_PRECONDITION %ü"
    [line] = await pair.client.log(path="/test.Echo/Unary")
    assert (line["status"], line["grpc_status"], line["decision"]) == (200, 9, "allowed")


async def test_a_method_that_is_not_there_is_unimplemented(pair):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pair.echo.nothing(b"", timeout=10)
    assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_deadline_reaches_the_server_and_ends_the_call_on_both_sides(pair):
    await pair.echo.unary(b"", timeout=25)
    assert 20 < pair.app.left_s[0] < 26
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pair.echo.hang(b"", timeout=0.3)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: pair.app.cancelled == 1, "the server to hear of the deadline")


async def test_a_cancelled_call_is_cancelled_at_the_server_and_others_go_on(pair):
    call = pair.echo.hang(b"")
    waiting = asyncio.ensure_future(call.wait_for_connection())
    await until(lambda: pair.app.began == 1, "the call")
    call.cancel()
    await until(lambda: pair.app.cancelled == 1, "the cancellation")
    waiting.cancel()
    assert await pair.echo.unary(b"still here", timeout=10) == b"still here"


async def test_a_hundred_calls_share_one_connection_between_the_sidecars(pair):
    calls = [pair.echo.chat(timeout=30) for _ in range(100)]

    async def converse(number: int) -> None:
        for turn in range(5):
            await calls[number].write(b"%d.%d" % (number, turn))
        await calls[number].done_writing()
        heard = [message async for message in calls[number]]
        assert heard == [b"re: %d.%d" % (number, turn) for turn in range(5)]

    await asyncio.gather(*(converse(number) for number in range(100)))
    stats = await pair.server.stats()
    assert int(stats["listener.inbound.downstream_cx_total"]) <= 2
    assert int(stats["cluster.app.upstream_cx_total"]) <= 2


async def test_a_slow_reader_holds_up_the_server_and_not_the_other_calls(pair):
    slow = pair.echo.scatter(b"2000 50000", timeout=60)
    assert len(await slow.read()) == 50_000
    for number in range(20):
        assert await pair.echo.unary(b"%d" % number, timeout=10) == b"%d" % number
    # 100 MB were asked for: what nobody reads stays with the server.
    assert pair.client.resident_kib() < 64_000
    assert pair.server.resident_kib() < 64_000
    for _ in range(1999):
        assert len(await slow.read()) == 50_000
    assert await slow.read() is grpc.aio.EOF


async def test_who_is_not_allowed_is_told_so(pair):
    await pair.server.apply(serving(pair.server, pair.app.address, spiffe("somebody-else")))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pair.echo.unary(b"", timeout=10)
    assert failed.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_where_nobody_listens_the_call_is_unavailable(pair):
    await pair.app.leave(0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pair.echo.unary(b"", timeout=10)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_calls_that_are_under_way_when_a_server_leaves_are_finished(pair):
    call = pair.echo.chat(timeout=30)
    await call.write(b"first")
    assert await call.read() == b"re: first"
    leaving = asyncio.ensure_future(pair.app.leave(20))
    for number in range(20):
        await call.write(b"%d" % number)
        assert await call.read() == b"re: %d" % number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await leaving


async def test_a_sidecar_that_ends_loses_no_call(rig, authority):
    """Two sidecars before two applications; one is told to end under load."""
    async with GrpcBackend() as one, GrpcBackend() as other:
        servers = []
        for app in (one, other):
            proxy = await rig.pipy(member=authority.member(SERVER))
            await proxy.apply(serving(proxy, app.address))
            servers.append(proxy)
        client = await rig.pipy(member=authority.member(CLIENT))
        await client.apply(calling(client, *(proxy.inbound for proxy in servers)))
        async with Echo(client.outbound) as echo:
            done, stop = 0, False

            async def caller() -> None:
                nonlocal done
                while not stop:
                    assert await echo.unary(b"?", timeout=20) == b"?"
                    done += 1

            callers = [asyncio.ensure_future(caller()) for _ in range(16)]
            await until(lambda: done > 300, "calls")
            # First no new requests go there, as when its Pod leaves the endpoints; then it ends.
            await client.apply(calling(client, servers[1].inbound))
            servers[0].signal(signal.SIGTERM)
            assert await servers[0].ended() == 0
            reached = done
            await until(lambda: done > reached + 300, "more calls")
            stop = True
            await asyncio.gather(*callers)
