"""WebSocket of real libraries through one sidecar and two, whichever version each side speaks.

client h1 (websockets) or h2 (RFC 8441) ─► sidecar [═ mTLS, h1 or h2 ═► sidecar] ─► application h1
(websockets) or h2 (hypercorn)
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import proxyrig
import pytest
import websockets
from proxyrig import config
from proxyrig.backend import Connection, Request
from proxyrig.certs import spiffe
from proxyrig.h2wire import Frames, frame, headers, request
from proxyrig.h2ws import H2Socket
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, Wire, fetch
from proxyrig.wire import request as request_1

CLIENT, SERVER = spiffe("caller"), spiffe("chat")


async def echo(ws: Any) -> None:
    """Send messages back; the path and the protocol first."""
    await ws.send(f"{ws.request.path} {ws.subprotocol}")
    async for message in ws:
        if message == "bye":
            return
        await ws.send(message)


@contextlib.asynccontextmanager
async def application(version: str) -> AsyncIterator[Address]:
    """Start an application of WebSocket that speaks one version of HTTP."""
    if version == "h1":
        server = await websockets.serve(
            echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=1 << 24, ping_interval=None
        )
        async with server:
            yield Address(*next(iter(server.sockets)).getsockname()[:2])
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "hypercorn",
                "--bind",
                f"fd://{number}",
                "proxyrig.ws_app:asgi",
            ),
            pass_fds=[number],
            env={**os.environ, "PYTHONPATH": str(Path(proxyrig.__file__).parents[1])},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            # Until it accepts, the kernel does.
            yield Address(*listening.getsockname()[:2])
        finally:
            process.kill()
            await process.wait()


def protocol(version: str) -> str:
    """Give the protocol of the contract that is carried over this version."""
    return "grpc" if version == "h2" else "http"


async def one(rig: Any, app: Address, version: str) -> Pipy:
    """Start one sidecar before an application."""
    proxy: Pipy = await rig.pipy()
    match = config.http_match(
        proxy.outbound.port, config.host(config.route()), protocol=protocol(version)
    )
    cluster = {"app": config.cluster(config.endpoint(app))}
    await proxy.apply(config.whole(outbound={"matches": [match]}, clusters=cluster))
    return proxy


async def two(
    rig: Any, authority: Any, app: Address, version: str, between: str, *allowed: str
) -> tuple[Pipy, Pipy]:
    """Start two sidecars that speak some version to each other, and another to the application."""
    server = await rig.pipy(member=authority.member(SERVER))
    client = await rig.pipy(member=authority.member(CLIENT))
    route = config.route(allowed=config.allow(*(allowed or (CLIENT,))))
    match = config.http_match(server.inbound.port, config.host(route), protocol=protocol(version))
    await server.apply(
        config.whole(
            identity=SERVER,
            inbound={"matches": [match]},
            clusters={"app": config.cluster(config.endpoint(app))},
        )
    )
    match = config.http_match(
        client.outbound.port, config.host(config.route()), protocol=protocol(between)
    )
    cluster = config.cluster(config.endpoint(server.inbound, SERVER))
    await client.apply(
        config.whole(identity=CLIENT, outbound={"matches": [match]}, clusters={"app": cluster})
    )
    return client, server


async def talk(address: Address, version: str, app: str) -> None:
    """Say things that come back, small and large, and say goodbye.

    Not to hypercorn, which does not end a stream in good order: one just leaves.
    """
    messages: list[str | bytes] = ["hello", b"\x00\xff", "ü" * 100_000, b"x" * 1_000_000, ""]
    if version == "h1":
        async with websockets.connect(
            "ws://shop/chat?a=b%20c",
            host=address.host,
            port=address.port,
            subprotocols=["chat"],
            max_size=1 << 24,
            proxy=None,
        ) as ws:
            assert str(await ws.recv()).startswith("/chat")
            for message in messages:
                await ws.send(message)
                assert await ws.recv() == message
            assert ws.subprotocol == "chat"
            if app == "h2":
                raw = ws.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return ws.transport.abort()
            await ws.send("bye")
            await ws.wait_closed()
        assert ws.close_code == 1000
        return
    async with H2Socket(address, "/chat?a=b%20c", ("sec-websocket-protocol", "chat")) as h2:
        assert h2.status == 200, h2.response
        assert h2.response["sec-websocket-protocol"] == "chat"
        assert "sec-websocket-accept" not in h2.response
        assert str(await h2.receive()).startswith("/chat")
        for message in messages:
            await h2.send(message)
            assert await h2.receive() == message
        if app == "h2":
            return
        await h2.send("bye")
        with pytest.raises(EOFError, match="1000"):
            await h2.receive()
        await h2.over()
        assert h2.reset is None


async def none_left(proxy: Pipy) -> None:
    """Wait until nothing is under way."""

    async def idle() -> bool:
        return (await proxy.stats())["cluster.app.upstream_rq_active"] == "0"

    await until(idle, "no request under way")


@pytest.mark.parametrize("app", ["h1", "h2"])
@pytest.mark.parametrize("client", ["h1", "h2"])
async def test_messages_pass_one_sidecar_whatever_each_side_speaks(rig, client, app):
    async with application(app) as address:
        proxy = await one(rig, address, app)
        await asyncio.gather(*(talk(proxy.outbound, client, app) for _ in range(5)))
        lines = await proxy.log(5, status=101)
        assert {line["method"] for line in lines} == {"GET"}
        await none_left(proxy)


@pytest.mark.parametrize("app", ["h1", "h2"])
@pytest.mark.parametrize("between", ["h1", "h2"])
@pytest.mark.parametrize("client", ["h1", "h2"])
async def test_messages_pass_two_sidecars(rig, authority, client, between, app):
    async with application(app) as address:
        first, second = await two(rig, authority, address, app, between)
        await asyncio.gather(*(talk(first.outbound, client, app) for _ in range(3)))
        for proxy in (first, second):
            lines = await proxy.log(3, status=101)
            assert len(lines) == 3
            assert app == "h2" or {line["decision"] for line in lines} == {"allowed"}
            await none_left(proxy)


@pytest.mark.parametrize("client", ["h1", "h2"])
async def test_a_caller_that_is_not_allowed_gets_no_websocket(rig, authority, client):
    async with application("h1") as address:
        first, _ = await two(rig, authority, address, "h1", "h2", spiffe("another"))
        if client == "h1":
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(
                    "ws://shop/chat", host="127.0.0.1", port=first.outbound.port, proxy=None
                )
            assert refused.value.response.status_code == 403
        else:
            async with H2Socket(first.outbound) as h2:
                assert h2.status == 403


@pytest.mark.parametrize("between", ["h1", "h2"])
async def test_an_application_that_refuses_is_heard(rig, authority, between):
    async def no(asked: Request, connection: Connection) -> bool:
        await connection.respond(426, b"not here")
        return True

    backend = await rig.backend(no)
    first, _ = await two(rig, authority, backend.address, "h1", between)
    async with H2Socket(first.outbound) as h2:
        await h2.over()
        assert (h2.status, h2.body) == (426, b"not here")


async def test_an_application_that_answers_like_a_page_opens_no_tunnel(rig):
    async def page(asked: Request, connection: Connection) -> bool:
        await connection.respond(200, b"a page")
        return True

    proxy = await rig.plain(await rig.backend(page))
    async with H2Socket(proxy.outbound) as h2:
        assert h2.status == 502


def digest(key: str) -> str:
    """Give the digest of RFC 6455 section 4.2.2."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: {right}\r\n", 200),
        ("Upgrade: websocket\r\nSec-WebSocket-Accept: bm9uc2Vuc2U=\r\n", 502),
        ("Upgrade: websocket\r\n", 502),
        ("Upgrade: other\r\nSec-WebSocket-Accept: {right}\r\n", 502),
    ],
    ids=["right", "wrong", "none", "other"],
)
async def test_an_application_must_prove_that_it_knows_websocket(rig, fields, status):
    async def answer(asked: Request, connection: Connection) -> bool:
        right = digest(asked.header("sec-websocket-key") or "")
        head = f"HTTP/1.1 101 S\r\nConnection: upgrade\r\n{fields.format(right=right)}\r\n"
        await connection.send(head.encode())
        return False

    proxy = await rig.plain(await rig.backend(answer))
    async with H2Socket(proxy.outbound) as h2:
        assert h2.status == status


async def test_each_request_gets_a_key_of_its_own(rig):
    keys: set[str | None] = set()

    async def note(asked: Request, connection: Connection) -> bool:
        keys.add(asked.header("sec-websocket-key"))
        await connection.respond(404)
        return True

    proxy = await rig.plain(await rig.backend(note))
    for _ in range(3):
        async with H2Socket(proxy.outbound) as h2:
            assert h2.status == 404
    assert len(keys) == 3
    assert all(key and len(base64.b64decode(key)) == 16 for key in keys)


async def test_a_server_of_http_2_that_knows_no_upgrades_is_502(rig):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(4))  # SETTINGS without ENABLE_CONNECT_PROTOCOL.
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = await one(rig, Address(*server.sockets[0].getsockname()), "h2")
    asked = ("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abcd")
    async with await Wire.open(proxy.outbound) as wire:
        response = await wire.ask(request_1("GET", "/", *asked))
        assert response.status == 502
    server.close()


async def test_bytes_sent_before_the_answer_wait_for_it(rig):
    async def late(asked: Request, connection: Connection) -> bool:
        await asyncio.wait_for(seen.wait(), 10)
        right = digest(asked.header("sec-websocket-key") or "")
        head = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        await connection.send(f"{head}Sec-WebSocket-Accept: {right}\r\n\r\n".encode())
        heard.append(await connection.reader.readexactly(5))
        return False

    seen, heard = asyncio.Event(), list[bytes]()
    backend = await rig.backend(late)
    proxy = await rig.plain(backend)
    asked = (*request(b"CONNECT", b"/chat"), (b":protocol", b"websocket"))
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *asked, ends=False) + frame(0, 0, 1, b"early"))
        await until(lambda: backend.requests, "the request")
        assert not heard
        seen.set()
        message = await client.message(1)
        assert message.status == 200
        assert heard == [b"early"]


# Upgrade: h2c (RFC 7540 section 3.2)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
async def test_curl_goes_on_in_http_2_where_it_asks_to(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--http2", "-H", "Host: shop", "-w", "%{http_version} %{http_code}\n"),
        *(f"http://{proxy.outbound}/first", f"http://{proxy.outbound}/second"),
        *("-o", "/dev/null", "-o", "/dev/null"),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said == b"2 200\n2 200\n"
    assert [asked.target for asked in backend.requests] == ["/first", "/second"]
    for asked in backend.requests:
        assert not {"upgrade", "http2-settings", "connection"} & {
            k.lower() for k, _ in asked.headers
        }
    lines = await proxy.log(2)
    assert [(line["protocol"], line["path"]) for line in lines] == [
        ("h2", "/first"),
        ("h2", "/second"),
    ]


ASKING = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")


@pytest.mark.parametrize(
    "raw",
    [
        request_1("POST", "/", *ASKING, body=b"abc"),
        request_1("GET", "/", *ASKING[1:], "Connection: Upgrade"),
        request_1("GET", "/", *ASKING, "HTTP2-Settings: AAMAAABk"),
        request_1("GET", "/", *ASKING[:2], "HTTP2-Settings: ??"),
        request_1("GET", "/", *ASKING[:2], "HTTP2-Settings: AAUAAAAB"),
    ],
    ids=["body", "connection", "twice", "no base64", "bad value"],
)
async def test_a_doubtful_wish_is_answered_in_http_1_and_goes_no_further(rig, raw):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    response = await fetch(proxy.outbound, raw)
    assert response.status == 200
    [asked] = backend.requests
    assert not {"upgrade", "http2-settings"} & {name.lower() for name, _ in asked.headers}


async def test_what_is_sent_ahead_of_the_answer_is_http_1_still(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(request_1("GET", "/first", *ASKING) + request_1("GET", "/second"))
        assert [(await wire.response()).status for _ in range(2)] == [200, 200]
    assert [asked.target for asked in backend.requests] == ["/first", "/second"]


async def test_a_request_on_the_new_connection_is_decided_about_as_any_other(rig):
    backend = await rig.backend()
    proxy = await rig.pipy()
    route = config.route(path={"exact": "/open"})
    match = config.http_match(proxy.outbound.port, config.host(route))
    cluster = {"app": config.cluster(config.endpoint(backend.address))}
    await proxy.apply(config.whole(outbound={"matches": [match]}, clusters=cluster))
    async with Frames(proxy.outbound) as client:
        await client.send(request_1("GET", "/open", *ASKING))
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101 ")
        await client.begin()
        assert (await client.message(1)).status == 200
        await client.send(headers(3, *request(path=b"/secret")))
        assert (await client.message(3)).status == 403
        # Whoever goes on in HTTP/1 is not understood.
        await client.send(request_1("GET", "/secret"))
        await client.until_closed()
    assert [asked.target for asked in backend.requests] == ["/open"]


async def test_nobody_changes_the_version_inside_of_tls(rig, authority):
    backend = await rig.backend()
    first, second = await two(rig, authority, backend.address, "h1", "h1")
    async with await Wire.open(first.outbound) as wire:
        # The first sidecar takes the wish itself, and tells nobody.
        await wire.send(request_1("GET", "/", *ASKING))
        assert (await wire.head()).status == 101
        await until(lambda: backend.requests, "the request")
    [line] = await second.log(1)
    assert line["protocol"] == "http"
