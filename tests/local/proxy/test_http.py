"""HTTP through the outbound side: what a client sends arrives, what a server says comes back."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from proxyrig import config
from proxyrig.backend import Connection, Request
from proxyrig.waiting import until
from proxyrig.wire import Wire, fetch, request


def told(response: Any) -> Any:
    assert response.status == 200, response
    return json.loads(response.body)


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
async def test_a_request_without_a_body_arrives_and_its_response_comes_back(rig, method):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    response = await fetch(proxy.outbound, request(method, "/a/b?c=d%20e", "X-One: 1", "x-one: 2"))
    seen = told(response)
    assert (seen["method"], seen["target"]) == (method, "/a/b?c=d%20e")
    assert [v for k, v in seen["headers"] if k.lower() == "x-one"] == ["1", "2"]
    assert backend.requests[0].header("host") == "shop"
    assert response.header("content-type") == "application/json"


@pytest.mark.parametrize("size", [1, 8191, 8193, 70_000, 1_000_000])
async def test_a_body_with_a_length_arrives_whole(rig, size):
    body = bytes(i * 7 % 251 for i in range(size))
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    assert told(await fetch(proxy.outbound, request("POST", "/", body=body)))["bytes"] == size
    assert backend.requests[0].body == body
    assert backend.requests[0].header("content-length") == str(size)


async def test_a_chunked_request_arrives_chunked_with_its_trailers(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request("POST", "/", "Transfer-Encoding: chunked", "Trailer: x-sum"))
        for piece in (b"3\r\nabc\r\n", b"1;ext=1\r\nd\r", b"\n0\r\nX-Sum: 9\r\n\r\n"):
            await wire.send(piece)
        seen = told(await wire.response())
    assert seen["body"] == "abcd"
    assert [(k.lower(), v) for k, v in seen["trailers"]] == [("x-sum", "9")]


async def test_a_chunked_response_comes_back_with_its_trailers(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        )
        for piece in (b"5\r\nhello\r\n", b"6\r\n world\r\n", b"0\r\nX-Sum: 11\r\n\r\n"):
            await connection.send(piece)
        return True

    proxy = await rig.plain(await rig.backend(script))
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(2):
            response = await wire.ask(request())
            assert response.body == b"hello world"
            assert [(k.lower(), v) for k, v in response.trailers] == [("x-sum", "11")]


async def test_a_response_to_head_has_a_length_and_no_body(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        response = await wire.ask(request("HEAD"), "HEAD")
        assert int(response.header("content-length") or 0) > 100
        # The connection goes on: nothing of a body is mistaken for the next response.
        assert told(await wire.ask(request()))["method"] == "GET"
    assert len(backend.connections) == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(rig, status):
    async def script(request: Request, connection: Connection) -> bool:
        length = "Content-Length: 5\r\n" if status == 304 else ""
        await connection.send(f"HTTP/1.1 {status} X\r\nETag: a\r\n{length}\r\n".encode())
        return True

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(3):
            response = await wire.ask(request())
            assert (response.status, response.header("etag")) == (status, "a")
    assert len(backend.connections) == 1


async def test_a_client_that_waits_for_100_gets_it_from_the_server(rig):
    async def script(request: Request, connection: Connection) -> bool:
        assert request.header("expect") == "100-continue"
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.body(request)
        return await backend.echo(request, connection)

    backend = await rig.backend(script)
    backend.reads_body = False
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        head, body = request("POST", "/", "Expect: 100-continue", body=b"hello").split(b"\r\n\r\n")
        await wire.send(head + b"\r\n\r\n")
        assert (await wire.head()).status == 100
        await wire.send(body)
        assert told(await wire.response())["body"] == "hello"


async def test_a_client_that_waits_for_100_can_be_refused_without_its_body(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.respond(417, b"no")
        return False

    backend = await rig.backend(script)
    backend.reads_body = False
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request("POST", "/", "Expect: 100-continue", "Content-Length: 5"))
        response = await wire.response()
        assert (response.status, response.interim, response.body) == (417, [], b"no")
        assert response.header("connection") == "close"
        assert await wire.rest() == b""


async def test_early_hints_pass(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await connection.respond(200, b"done")
        return True

    proxy = await rig.plain(await rig.backend(script))
    response = await fetch(proxy.outbound)
    assert (response.interim, response.status, response.body) == ([103], 200, b"done")


async def test_an_upgraded_connection_carries_bytes_both_ways_and_half_closes(rig):
    async def script(request: Request, connection: Connection) -> bool:
        assert request.header("upgrade") == "websocket"
        assert (request.header("connection") or "").lower() == "upgrade"
        await connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\nfirst"
        )
        data = await connection.reader.read(-1)
        # Our direction goes on after the client's has ended.
        await connection.send(data[::-1])
        return False

    proxy = await rig.plain(await rig.backend(script))
    async with await Wire.open(proxy.outbound) as wire:
        ask = request(
            "GET", "/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"
        )
        await wire.send(ask + b"early")
        response = await wire.response()
        assert (response.status, response.header("upgrade")) == (101, "websocket")
        assert await wire.exactly(5) == b"first"
        await wire.send(b"\x00\x01" * 100_000)
        wire.finish()
        assert await wire.rest() == (b"early" + b"\x00\x01" * 100_000)[::-1]


async def test_a_tunnel_whose_server_finishes_first_still_carries_what_the_client_says(rig):
    got = asyncio.get_running_loop().create_future()

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nbye")
        connection.writer.write_eof()
        got.set_result(await connection.reader.read(-1))
        return False

    proxy = await rig.plain(await rig.backend(script))
    async with await Wire.open(proxy.outbound) as wire:
        response = await wire.ask(request("GET", "/", "Connection: Upgrade", "Upgrade: x"))
        assert response.status == 101
        assert await wire.rest() == b"bye"
        await wire.send(b"z" * 300_000)
        wire.finish()
        assert await asyncio.wait_for(got, 10) == b"z" * 300_000


async def test_a_refused_upgrade_is_a_plain_response(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        ask = request("GET", "/", "Connection: Upgrade", "Upgrade: h2c")
        assert told(await wire.ask(ask))["method"] == "GET"
        assert told(await wire.ask(request("GET", "/2")))["target"] == "/2"


async def test_connect_makes_a_tunnel(rig):
    async def script(request: Request, connection: Connection) -> bool:
        assert (request.method, request.target) == ("CONNECT", "db:5432")
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while data := await connection.reader.read(65536):
            await connection.send(data.upper())
        return False

    backend, proxy = await rig.backend(script), await rig.pipy()
    told = config.plain(proxy.outbound.port, backend.address, config.route(methods=["CONNECT"]))
    await proxy.apply(told)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
        assert (await wire.response("CONNECT")).status == 200
        await wire.send(b"hello")
        assert await wire.exactly(5) == b"HELLO"
        wire.finish()
        assert await wire.rest() == b""


async def test_a_tunnel_must_be_named_by_a_rule(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    hidden = request("GET", "/hidden")
    ask = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n" + hidden
    async with await Wire.open(proxy.outbound) as wire:
        response = await wire.ask(ask)
        assert (response.status, response.header("connection")) == (403, "close")
        assert await wire.rest() == b""
    assert backend.requests == []


async def test_a_client_of_http_1_0_is_answered_and_the_connection_ends(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send(b"5\r\nhello\r\n0\r\n\r\n")
        return True

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        response = await wire.ask(b"GET /old HTTP/1.0\r\nHost: shop\r\n\r\n")
        # It does not know chunks: the end of the body is the end of the connection.
        assert response.header("transfer-encoding") is None
        assert response.body == b"hello"
    assert backend.requests[0].version == "HTTP/1.1"


async def test_a_client_that_announces_the_end_gets_all_of_its_response_and_then_the_end(rig):
    """Its socket is closed without waiting for its side; what is on its way still arrives."""
    body = hashlib.sha256(b"piece").digest() * 150_000

    async def script(request: Request, connection: Connection) -> bool:
        await connection.respond(200, body)
        return True

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    # A client that is slow to read: the proxy has long since sent the last byte when it comes.
    async with await Wire.open(proxy.outbound, receive_buffer=4096) as wire:
        await wire.send(request("GET", "/", "Connection: close"))
        response = await wire.response()
        assert (response.status, response.header("connection")) == (200, "close")
        assert response.body == body
        assert await wire.rest() == b""


async def test_http_1_0_with_keep_alive_goes_on(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(2):
            ask = b"GET / HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n"
            response = await wire.ask(ask)
            assert (response.header("connection") or "").lower() == "keep-alive"
            assert told(response)["method"] == "GET"


async def test_a_server_of_http_1_0_ends_its_body_with_the_connection(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil ")
        await connection.send(b"the end")
        return False

    backend = await rig.backend(script)
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        for _ in range(2):
            assert (await wire.ask(request())).body == b"until the end"
        # Chunks took the place of the end of the connection.
        assert not wire.reader.at_eof()
    assert len(backend.connections) == 2


async def test_pipelined_requests_are_answered_in_their_order(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        asks = [request("POST", f"/{i}", body=b"b" * i) for i in range(50)]
        await wire.send(b"".join(asks))
        for i in range(50):
            seen = told(await wire.response())
            assert (seen["target"], seen["bytes"]) == (f"/{i}", i)


async def test_an_absolute_target_names_the_host_and_arrives_in_origin_form(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    raw = b"GET http://other.example:8080/x?y HTTP/1.1\r\nHost: other.example:8080\r\n\r\n"
    assert told(await fetch(proxy.outbound, raw))["target"] == "/x?y"
    assert backend.requests[0].header("host") == "other.example:8080"


async def test_a_path_is_forwarded_as_it_was_judged(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    assert (
        told(await fetch(proxy.outbound, request("GET", "/a/./b/../c//d")))["target"]
        != "/a/./b/../c//d"
    )
    [line] = await proxy.log(1)
    assert line["path"] == backend.requests[0].target


async def test_hop_by_hop_headers_end_here(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    ask = request(
        "GET", "/", "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "X-Hop: 1", "TE: gzip"
    )
    await fetch(proxy.outbound, ask)
    names = {name.lower() for name, _ in backend.requests[0].headers}
    assert not names & {"connection", "keep-alive", "x-hop", "te"}


async def test_connections_to_the_backend_are_kept_and_used_again(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    for _ in range(20):
        told(await fetch(proxy.outbound))
    assert len(backend.connections) == 1


async def test_a_request_that_comes_byte_by_byte_is_one_request(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        for byte in request("POST", "/slow", "Transfer-Encoding: chunked"):
            await wire.send(bytes([byte]))
        for byte in b"3\r\nabc\r\n0\r\n\r\n":
            await wire.send(bytes([byte]))
        assert told(await wire.response())["body"] == "abc"


async def test_a_client_that_ends_its_direction_still_gets_its_response(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request("POST", "/", body=b"hello"))
        wire.finish()
        assert told(await wire.response())["body"] == "hello"
        assert await wire.rest() == b""


async def test_a_large_response_to_a_slow_reader_arrives_whole_in_bounded_memory(rig):
    size = 64 << 20
    piece = hashlib.sha256(b"piece").digest() * 2048
    sent = 0

    async def script(request: Request, connection: Connection) -> bool:
        nonlocal sent
        await connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while sent < size:
            await connection.send(piece)
            sent += len(piece)
        return True

    proxy = await rig.plain(await rig.backend(script))
    before = proxy.resident_kib()
    async with await Wire.open(proxy.outbound, receive_buffer=16384) as wire:
        await wire.send(request())
        assert (await wire.head()).status == 200
        # The reader does not read: the server is stopped long before it has sent everything.
        await _still(lambda: sent)
        assert sent < size / 2
        assert proxy.resident_kib() - before < 6 << 10
        digest, wanted = hashlib.sha256(), hashlib.sha256()
        left = size
        while left:
            data = await wire.some(1 << 20)
            assert data
            digest.update(data)
            left -= len(data)
        for _ in range(size // len(piece)):
            wanted.update(piece)
        assert digest.digest() == wanted.digest()
    assert proxy.resident_kib() - before < 6 << 10


async def test_a_large_request_to_a_slow_server_waits_for_it(rig):
    size = 48 << 20
    go = asyncio.Event()

    async def script(request: Request, connection: Connection) -> bool:
        await go.wait()
        await connection.body(request)
        return await backend.echo(request, connection)

    backend = await rig.backend(script)
    backend.reads_body = False
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    async with await Wire.open(proxy.outbound) as wire:
        wire.writer.write(request("POST", "/", f"Content-Length: {size}"))
        wire.writer.write(b"x" * size)
        transport = wire.writer.transport
        await _still(transport.get_write_buffer_size)
        assert transport.get_write_buffer_size() > size / 2
        assert proxy.resident_kib() - before < 6 << 10
        go.set()
        assert told(await wire.response())["bytes"] == size


async def _still(measure: Any) -> None:
    """Wait until a number no longer changes over many looks."""
    last, same = measure(), 0

    def unchanged() -> bool:
        nonlocal last, same
        now = measure()
        same = same + 1 if now == last else 0
        last = now
        return same >= 20

    await until(unchanged, "a number that no longer changes")


async def test_a_response_before_the_request_is_complete_arrives(rig):
    async def script(request: Request, connection: Connection) -> bool:
        await connection.respond(413, b"too large", "Connection: close")
        return False

    backend = await rig.backend(script)
    backend.reads_body = False
    proxy = await rig.plain(backend)
    for _ in range(20):
        async with await Wire.open(proxy.outbound) as wire:
            await wire.send(request("POST", "/", "Content-Length: 10000000"))
            wire.writer.write(b"x" * 4_000_000)
            response = await wire.response()
            assert (response.status, response.body) == (413, b"too large")
            assert response.header("connection") == "close"


async def test_the_application_is_told_who_asks(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    await fetch(proxy.outbound, request("GET", "/", "ServiceIdentity: forged.by-client"))
    values = [v for k, v in backend.requests[0].headers if k.lower() == "serviceidentity"]
    assert values == ["client.shop"]


async def test_a_route_without_endpoints_is_not_found(rig):
    proxy = await rig.pipy()
    await proxy.apply(
        {**config.plain(proxy.outbound.port, "127.0.0.1:1"), "clusters": {"app": config.cluster()}}
    )
    response = await fetch(proxy.outbound)
    assert (response.status, response.body) == (404, b"Not found")
    [line] = await proxy.log(1)
    assert (line["decision"], line["reason"]) == ("failed", "the cluster has no endpoints")
