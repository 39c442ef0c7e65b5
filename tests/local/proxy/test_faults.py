"""What goes wrong upstream, and what the client sees of it."""

from __future__ import annotations

import asyncio
import socket

import pytest
from proxyrig import config
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, fetch, request


async def test_an_upstream_that_refuses_is_a_bad_gateway(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    backend.stop_listening()
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(2):
            response = await wire.ask(request())
            assert (response.status, response.body) == (502, b"upstream connect failure")
    lines = await proxy.log(2)
    assert {(line["decision"], line["reason"]) for line in lines} == {("failed", "connect_failed")}
    stats = await proxy.stats()
    assert stats["cluster.app.upstream_cx_connect_fail"] == "2"
    assert stats["cluster.app.upstream_cx_active"] == "0"


async def test_an_upstream_that_does_not_answer_the_connection_times_out(rig):
    # A full backlog: the kernel drops what comes, as an unreachable host does.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        full = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            full.append(filler)
        proxy = await rig.pipy()
        told = config.plain(proxy.outbound.port, f"127.0.0.1:{deaf.getsockname()[1]}")
        told["clusters"]["app"]["connect_timeout_ms"] = 60
        await proxy.apply(told)
        response = await fetch(proxy.outbound)
        assert (response.status, response.body) == (504, b"upstream connect timeout")
        assert (await proxy.stats())["cluster.app.upstream_cx_connect_timeout"] == "1"
        for filler in full:
            filler.close()


async def test_an_upstream_that_never_answers_is_given_up(rig):
    async def script(request, connection) -> bool:
        await connection.reader.read(-1)
        return False

    proxy = await rig.plain(await rig.backend(script), timeouts={"idle_ms": 150})
    assert (await fetch(proxy.outbound)).status == 504


async def test_a_kept_connection_that_the_server_just_closed_is_no_error(rig):
    async def script(request, connection) -> bool:
        if len(backend.requests) == 1:
            return await backend.echo(request, connection)
        if connection is backend.connections[0]:
            # The second request on it meets the end of the connection.
            return False
        return await backend.echo(request, connection)

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        assert (await wire.ask(request())).status == 200
        assert (await wire.ask(request("GET", "/again"))).status == 200
    assert [r.target for r in backend.requests] == ["/", "/again", "/again"]
    assert len(backend.connections) == 2


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_request_that_may_have_been_carried_out_is_not_sent_twice(rig, how):
    async def script(request, connection) -> bool:
        if len(backend.requests) == 1:
            return await backend.echo(request, connection)
        if how == "reset":
            raw = connection.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        assert (await wire.ask(request())).status == 200
        response = await wire.ask(request("POST", "/pay", body=b"100"))
        assert (response.status, response.body) == (502, b"upstream closed the connection")
    assert [r.target for r in backend.requests] == ["/", "/pay"]


async def test_idle_connections_that_the_server_closes_are_forgotten(rig):
    async def script(request, connection) -> bool:
        await backend.echo(request, connection)
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    for number in range(1, 30):
        assert (await fetch(proxy.outbound, request("POST", "/", body=b"x"))).status == 200
        await until(lambda: backend.open == 0, "the end of the connection")
        stats = proxy.stats

        async def forgotten() -> bool:
            return (await stats())["cluster.app.upstream_cx_active"] == "0"  # noqa: B023

        await until(forgotten, "the end seen by the proxy")
        assert len(backend.connections) == number


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_response_that_breaks_off_does_not_look_complete(rig, response):
    async def script(request, connection) -> bool:
        await connection.send(response)
        return False

    proxy = await rig.plain(await rig.backend(script))
    async with await Wire.open(proxy.outbound) as wire:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, EOFError, ValueError)):
            await wire.ask(request())
    [line] = await proxy.log(1)
    assert line["decision"] == "failed"


@pytest.mark.parametrize(
    "response",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Hint\r\n\r\n" * 1000,
    ],
)
async def test_a_response_that_is_none_is_a_bad_gateway(rig, response):
    async def script(request, connection) -> bool:
        await connection.send(response)
        await connection.reader.read(-1)
        return False

    proxy = await rig.plain(await rig.backend(script))
    answer = await fetch(proxy.outbound)
    assert (answer.status, answer.body) == (502, b"upstream protocol error")
    [line] = await proxy.log(1)
    assert (line["decision"], line["reason"]) == ("failed", "protocol_error")


async def test_what_a_server_says_unasked_answers_no_request(rig):
    async def script(request, connection) -> bool:
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        return True

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(5):
            assert (await wire.ask(request())).body == b"ok"
    assert len(backend.connections) == 5


async def test_a_client_that_goes_away_takes_its_upstream_connection_along(rig):
    async def script(request, connection) -> bool:
        await connection.reader.read(-1)
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    wire = await Wire.open(proxy.outbound)
    await wire.send(request())
    await until(lambda: backend.requests, "the request at the backend")
    wire.abort()
    await until(lambda: backend.open == 0, "the end of the upstream connection")
    [line] = await proxy.log(1)
    assert (line["decision"], line["reason"]) == ("failed", "client_closed")


async def test_endpoints_take_turns(rig):
    backends = [await rig.backend(name=f"app-{i}") for i in range(3)]
    proxy = await rig.pipy()
    told = config.plain(proxy.outbound.port, backends[0].address)
    endpoints = [
        config.endpoint(b.address, weight=w) for b, w in zip(backends, (1, 2, 3), strict=True)
    ]
    told["clusters"]["app"] = config.cluster(*endpoints)
    await proxy.apply(told)
    for _ in range(12):
        assert (await fetch(proxy.outbound)).status == 200
    assert [len(b.requests) for b in backends] == [2, 4, 6]


async def test_tcp_half_closes_both_ways_and_loses_nothing(rig):
    got = asyncio.get_running_loop().create_future()

    async def serve(reader, writer) -> None:
        writer.write(b"first")
        writer.write_eof()
        got.set_result(await reader.read(-1))
        writer.close()

    app = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = await rig.pipy()
    await proxy.apply(
        config.whole(
            outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
            clusters={
                "app": config.cluster(config.endpoint(Address(*app.sockets[0].getsockname())))
            },
        )
    )
    async with await Wire.open(proxy.outbound) as wire:
        assert await wire.rest() == b"first"
        await wire.send(b"y" * 2_000_000)
        wire.close()
        assert len(await asyncio.wait_for(got, 10)) == 2_000_000
    app.close()
    [line] = await proxy.log(1)
    assert (line["request_bytes"], line["response_bytes"]) == (2_000_000, 5)


async def test_a_tcp_upstream_that_resets_resets_the_client(rig):
    async def serve(reader, writer) -> None:
        writer.write(b"partial")
        await writer.drain()
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        writer.close()

    app = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = await rig.pipy()
    await proxy.apply(
        config.whole(
            outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
            clusters={
                "app": config.cluster(config.endpoint(Address(*app.sockets[0].getsockname())))
            },
        )
    )
    async with await Wire.open(proxy.outbound) as wire:
        assert await wire.exactly(7) == b"partial"
        await wire.send(b"!")
        with pytest.raises(ConnectionResetError):
            await wire.rest()
    app.close()


async def test_a_tcp_upstream_that_cannot_be_reached_closes_without_a_word(rig):
    backend = await rig.backend()
    backend.stop_listening()
    proxy = await rig.pipy()
    await proxy.apply(
        config.whole(
            outbound={"matches": [config.tcp_match(proxy.outbound.port)]},
            clusters={"app": config.cluster(config.endpoint(backend.address))},
        )
    )
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(b"hello?")
        assert await wire.rest() == b""
    [line] = await proxy.log(1)
    assert (line["decision"], line["reason"]) == ("failed", "connect_failed")
