"""HTTP/2 through one sidecar and two: what is meant survives every change of version.

- one: client ─ h2 ─► sidecar ─ h1 ─► application
- two: client ─ h1 or h2 ─► sidecar ═ mTLS, h2 ═► sidecar ─ h1 ─► application
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import struct
from typing import Any

import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.h2wire import (
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    frame,
    headers,
    request,
)
from proxyrig.process import Pipy
from proxyrig.waiting import until
from proxyrig.wire import Address, fetch
from proxyrig.wire import request as request_1

CLIENT, SERVER = spiffe("caller"), spiffe("shop")


async def two(rig, authority, app: Address) -> tuple[Pipy, Pipy]:
    """Start two sidecars that speak HTTP/2 to each other."""
    server = await rig.pipy(member=authority.member(SERVER))
    client = await rig.pipy(member=authority.member(CLIENT))
    route = config.route(allowed=config.allow(CLIENT))
    inbound = config.http_match(server.inbound.port, config.host(route))
    app_cluster = {"app": config.cluster(config.endpoint(app))}
    await server.apply(
        config.whole(identity=SERVER, inbound={"matches": [inbound]}, clusters=app_cluster)
    )
    match = config.http_match(client.outbound.port, config.host(config.route()), protocol="grpc")
    cluster = config.cluster(config.endpoint(server.inbound, SERVER))
    await client.apply(
        config.whole(identity=CLIENT, outbound={"matches": [match]}, clusters={"app": cluster})
    )
    return client, server


@pytest.fixture(params=["one", "two"])
async def site(request, rig, authority):
    """Give a backend, and the proxy before it or before the other."""
    backend = await rig.backend()
    if request.param == "one":
        return backend, await rig.plain(backend)
    client, _ = await two(rig, authority, backend.address)
    return backend, client


async def test_a_request_arrives_as_it_was_meant(site):
    backend, proxy = site
    async with Frames(proxy.outbound) as client:
        await client.begin()
        fields = (
            *request(b"POST", b"/a?b=c", b"shop:14001"),
            (b"x-one", b"1"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"te", b"trailers"),
            (b"content-length", b"5"),
        )
        await client.send(headers(1, *fields, ends=False) + frame(DATA, END_STREAM, 1, b"hello"))
        message = await client.message(1)
    assert message.status == 200
    [asked] = backend.requests
    assert (asked.method, asked.target, asked.version) == ("POST", "/a?b=c", "HTTP/1.1")
    assert [value for name, value in asked.headers if name.lower() == "host"] == ["shop:14001"]
    assert (asked.header("x-one"), asked.header("cookie")) == ("1", "a=1; b=2")
    assert (asked.header("content-length"), asked.body) == ("5", b"hello")
    # The response has lost what belongs to its connection, and its names are in lower case.
    assert not {"connection", "transfer-encoding", "keep-alive"} & set(message.headers)
    assert all(name == name.lower() for name in message.headers)


async def test_a_body_of_unknown_length_and_its_trailers_arrive(site):
    backend, proxy = site
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *request(b"POST"), ends=False))
        await client.send(frame(DATA, 0, 1, b"one") + frame(DATA, 0, 1, b"two"))
        await client.send(headers(1, (b"x-sum", b"6")))
        assert (await client.message(1)).status == 200
    [asked] = backend.requests
    assert asked.header("transfer-encoding") == "chunked"
    assert (asked.body, asked.trailers) == (b"onetwo", [("x-sum", "6")])


RESPONSES = {
    "HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 200, b"", {}),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", {}),
    "304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, b"", {}),
    "a length of zero": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", {}),
    "chunks": (
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        200,
        b"abc",
        {},
    ),
    "trailers": (
        b"GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
        200,
        b"a",
        {"x-sum": "1"},
    ),
    "hop by hop": (
        b"GET",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
        b"Content-Length: 1\r\n\r\na",
        200,
        b"a",
        {},
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_of_http_1_means_the_same_in_http_2(rig, authority, name):
    method, raw, status, body, trailers = RESPONSES[name]

    async def answer(asked, connection) -> bool:
        await connection.body(asked)
        await connection.send(raw)
        return True

    backend = await rig.backend(answer)
    one = await rig.plain(backend)
    pair, _ = await two(rig, authority, backend.address)
    for proxy in (one, pair):
        async with Frames(proxy.outbound) as client:
            await client.begin()
            for stream in (1, 3):
                await client.send(headers(stream, *request(method)))
                message = await client.message(stream)
                assert (message.status, message.body, message.trailers) == (status, body, trailers)
                assert not {"connection", "x-mine", "keep-alive"} & set(message.headers)
        # And back into HTTP/1.
        response = await fetch(
            proxy.outbound, request_1(method.decode(), "/", "Host: shop"), method.decode()
        )
        assert (response.status, response.body) == (status, body)


async def test_expect_continue_is_answered_by_the_application(rig, authority):
    async def answer(asked, connection) -> bool:
        assert asked.header("expect") == "100-continue"
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.body(asked)
        await connection.respond(200, asked.body)
        return True

    backend = await rig.backend(answer)
    backend.reads_body = False
    client_side, _ = await two(rig, authority, backend.address)
    async with Frames(client_side.outbound) as client:
        await client.begin()
        fields = (*request(b"POST"), (b"expect", b"100-continue"), (b"content-length", b"4"))
        await client.send(headers(1, *fields, ends=False))
        while (read := await client.frame()) is not None and read.kind != HEADERS:
            pass
        assert read is not None
        assert (b":status", b"100") in client.decoder.decode(read.payload, raw=True)
        await client.send(frame(DATA, END_STREAM, 1, b"body"))
        assert (await client.message(1)).body == b"body"


INJECTIONS: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "CR LF in a value": ((b"x", b"a\r\nevil: 1"),),
    "LF in a value": ((b"x", b"a\nevil: 1"),),
    "NUL in a value": ((b"x", b"a\x00b"),),
    "a colon in a name": ((b"x: evil", b"1"),),
    "CR LF in a name": ((b"x\r\nevil", b"1"),),
    "a blank in a name": ((b"x y", b"1"),),
    "an upper case name": ((b"X-One", b"1"),),
    "an empty name": ((b"", b"1"),),
    "a blank around a value": ((b"x", b" a"),),
    "connection": ((b"connection", b"close"),),
    "keep-alive": ((b"keep-alive", b"1"),),
    "proxy-connection": ((b"proxy-connection", b"close"),),
    "transfer-encoding": ((b"transfer-encoding", b"chunked"),),
    "upgrade": ((b"upgrade", b"h2c"),),
    "te of something else": ((b"te", b"gzip"),),
    "two lengths": ((b"content-length", b"0"), (b"content-length", b"0")),
    "a length that is none": ((b"content-length", b"+0"),),
    "a length without a body": ((b"content-length", b"3"),),
    "two hosts": ((b"host", b"shop"), (b"host", b"shop")),
    "another host": ((b"host", b"evil"),),
    "a second method": ((b":method", b"GET"),),
    "an unknown pseudo-header": ((b":evil", b"1"),),
}

LINES: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "CR LF in the path": request(path=b"/ HTTP/1.1\r\nHost: evil\r\n\r\nGET /x"),
    "a blank in the path": request(path=b"/a b"),
    "a path without a slash": request(path=b"a"),
    "an absolute path": request(path=b"http://evil/"),
    "a fragment in the path": request(path=b"/a#b"),
    "an empty path": request(path=b""),
    "CR LF in the method": request(b"GET / HTTP/1.1\r\nX: y"),
    "an empty method": request(b""),
    "CR LF in the authority": request(authority=b"shop\r\nevil: 1"),
    "a path in the authority": request(authority=b"shop/evil"),
    "user info in the authority": request(authority=b"me@shop"),
    "no path": tuple(field for field in request() if field[0] != b":path"),
    "no scheme": tuple(field for field in request() if field[0] != b":scheme"),
    "no authority": tuple(field for field in request() if field[0] != b":authority"),
}


@pytest.mark.parametrize("name", [*INJECTIONS, *LINES])
async def test_what_would_be_another_request_in_http_1_is_refused(rig, name):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    fields = LINES[name] if name in LINES else (*request(), *INJECTIONS[name])
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *fields))
        message = await client.message(1)
        assert message.reset == 1 or 400 <= message.status < 500, message
        assert backend.requests == []
        # It concerns that stream alone.
        await client.send(headers(3, *request(path=b"/good")))
        assert (await client.message(3)).status == 200
    assert [asked.target for asked in backend.requests] == ["/good"]
    stats = await proxy.stats()
    assert any(key.startswith("http.protocol_error.") for key in stats)


@pytest.mark.parametrize("sent", [b"1234", b"123456"])
async def test_a_body_of_another_length_than_announced_never_passes_for_whole(rig, sent):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with Frames(proxy.outbound) as client:
        await client.begin()
        fields = (*request(b"POST"), (b"content-length", b"5"))
        await client.send(headers(1, *fields, ends=False) + frame(DATA, END_STREAM, 1, sent))
        message = await client.message(1)
        assert message.reset == 1
    assert all(len(asked.body) != len(sent) for asked in backend.requests)


async def test_an_upstream_that_breaks_off_resets_the_stream_and_not_the_connection(rig):
    async def half(asked, connection) -> bool:
        if asked.target == "/half":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            return False
        await connection.respond(200, b"whole")
        return True

    backend = await rig.backend(half)
    proxy = await rig.plain(backend)
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *request(path=b"/half")))
        broken = await client.message(1)
        assert (broken.status, broken.reset, broken.ended) == (200, 2, False)
        await client.send(headers(3, *request()))
        assert (await client.message(3)).body == b"whole"


async def test_a_cancelled_request_is_cancelled_at_the_application(rig):
    gone = asyncio.Event()

    async def hang(asked, connection) -> bool:
        try:
            await connection.reader.read()
        except ConnectionResetError:
            gone.set()
        return False

    backend = await rig.backend(hang)
    proxy = await rig.plain(backend)
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *request()))
        await until(lambda: backend.requests, "the request")
        await client.send(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
        await asyncio.wait_for(gone.wait(), 10)


async def test_an_upload_waits_for_an_application_that_does_not_read(rig):
    go_on = asyncio.Event()

    async def slow(asked, connection) -> bool:
        await asyncio.wait_for(go_on.wait(), 20)
        await connection.body(asked)
        await connection.respond(200, str(len(asked.body)).encode())
        return True

    backend = await rig.backend(slow)
    backend.reads_body = False
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    size = 64 * 1024 * 1024
    async with Frames(proxy.outbound) as client:
        await client.begin()
        fields = (*request(b"POST"), (b"content-length", b"%d" % size))
        await client.send(headers(1, *fields, ends=False))
        sent, window = 0, {0: 65_535, 1: 65_535}
        quiet = False
        while sent < size:
            step = min(16_384, size - sent, *window.values())
            if step > 0:
                last = END_STREAM if sent + step == size else 0
                await client.send(frame(DATA, last, 1, b"x" * step))
                sent += step
                window = {stream: left - step for stream, left in window.items()}
                continue
            try:
                read = await asyncio.wait_for(client.frame(), None if quiet else 1)
            except TimeoutError:
                # Nothing more is let in: the application's socket, ours, and the window are full.
                assert sent < size
                assert proxy.resident_kib() - before < 16_000
                quiet = True
                go_on.set()
                continue
            assert read is not None
            if read.kind == WINDOW_UPDATE:
                window[read.stream] += struct.unpack(">I", read.payload)[0]
            elif read.kind == SETTINGS and not read.flags:
                settings = dict(struct.iter_unpack(">HI", read.payload))
                window[1] += settings.get(4, 65_535) - 65_535
        assert quiet, "the application was slow, and everything was let in"
        assert (await client.message(1)).body == str(size).encode()


async def test_sigterm_finishes_what_has_begun_and_announces_the_end(rig):
    go_on = asyncio.Event()

    async def slow(asked, connection) -> bool:
        await asyncio.wait_for(go_on.wait(), 20)
        await connection.respond(200, b"done")
        return True

    backend = await rig.backend(slow)
    proxy = await rig.plain(backend)
    async with Frames(proxy.outbound) as client:
        await client.begin()
        await client.send(headers(1, *request()))
        await until(lambda: backend.requests, "the request")
        proxy.signal(signal.SIGTERM)
        while client.goaway is None:
            read = await client.frame()
            assert read is not None
            if read.kind == PING:
                await client.send(frame(PING, 1, 0, read.payload))
        assert client.goaway == 0
        go_on.set()
        assert (await client.message(1)).body == b"done"
        assert await client.until_closed() == 0
    assert await proxy.ended() == 0


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)],
)
async def test_an_inbound_sidecar_agrees_on_the_version_when_tls_begins(
    rig, authority, offered, agreed
):
    backend = await rig.backend()
    _, server = await two(rig, authority, backend.address)
    member = authority.member(CLIENT)
    flags = dict(flag[2:].split("=", 1) for flag in member.write(rig.directory / "caller"))
    context = ssl.create_default_context(cafile=flags["roots"])
    context.check_hostname = False
    context.load_cert_chain(flags["cert"], flags["key"])
    if offered:
        context.set_alpn_protocols(offered)
    reader, writer = await asyncio.open_connection(
        server.inbound.host, server.inbound.port, ssl=context
    )
    tls: Any = writer.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() == agreed
    writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(100), 10)
    # Who has agreed on HTTP/2 and speaks HTTP/1 is told so in HTTP/2.
    assert answer.startswith(b"HTTP/1.1 200") == (agreed != "h2")
    writer.close()
