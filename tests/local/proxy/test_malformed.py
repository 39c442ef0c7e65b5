"""Requests that are none: each is answered once, with a status that says so."""

from __future__ import annotations

import asyncio

import pytest
from proxyrig.wire import Wire, fetch, request

H = b"Host: shop\r\n"

MALFORMED: dict[str, tuple[bytes, int]] = {
    "no words": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400),
    "half an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 505),
    "a blank first": (b" GET / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "one word": (b"GET\r\n" + H + b"\r\n", 400),
    "two words, as in HTTP/0.9": (b"GET /\r\n" + H + b"\r\n", 505),
    "four words": (b"GET / HTTP/1.1 x\r\n" + H + b"\r\n", 400),
    "a tab between": (b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    "two blanks between": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a method with a colon": (b"G:T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "no slash": (b"GET a HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a fragment": (b"GET /#a HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a control byte in the target": (b"GET /\x01 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "version 0.9": (b"GET / HTTP/0.9\r\n" + H + b"\r\n", 505),
    "version 2": (b"GET / HTTP/2.0\r\n" + H + b"\r\n", 505),
    "version in lower case": (b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + H + b"Host: other\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a host with user info": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "another host than the target's": (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\n" + H + b"nonsense\r\n\r\n", 400),
    "a header without a name": (b"GET / HTTP/1.1\r\n" + H + b": x\r\n\r\n", 400),
    "a blank before the colon": (b"GET / HTTP/1.1\r\nHost : shop\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    "a folded first header": (b"GET / HTTP/1.1\r\n " + H + b"\r\n", 400),
    "a bare CR in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    "a bare LF in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\nY: b\r\n\r\n", 400),
    "a NUL in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n", 400),
    "only LF": (b"GET / HTTP/1.1\nHost: shop\n\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        400,
    ),
    "a list of lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3, 4\r\n\r\nabcd", 400),
    "a negative length": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n", 400),
    "a signed length": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc", 400),
    "a length in hex": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "a length beyond all numbers": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\n",
        400,
    ),
    "a length and chunks": (
        b"POST / HTTP/1.1\r\n"
        + H
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "an unknown coding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "chunks not last": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        400,
    ),
    "chunks twice": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        400,
    ),
    "chunks in HTTP/1.0": (
        b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a chunk size that is none": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "a chunk size beyond all numbers": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        400,
    ),
    "a chunk longer than it says": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        400,
    ),
    "a target too long": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "a header too long": (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 200_000 + b"\r\n\r\n", 431),
    "too many headers": (b"GET / HTTP/1.1\r\n" + H + b"X: 1\r\n" * 2_000 + b"\r\n", 431),
    "CONNECT without a port": (b"CONNECT shop HTTP/1.1\r\n" + H + b"\r\n", 400),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a_request_that_is_none_is_refused_once(rig, fault):
    raw, status = MALFORMED[fault]
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    async with await Wire.open(proxy.outbound) as wire:
        # What follows a refused request is not read as another one.
        wire.writer.write(raw + b"\r\n\r\n" + request("GET", "/smuggled"))
        response = await wire.response()
        assert response.status // 100 in (4, 5)
        assert response.status == status, response
        assert response.header("connection") == "close"
        assert await wire.rest() == b""
    assert "/smuggled" not in [r.target for r in backend.requests]
    lines = await proxy.log(1, decision="denied")
    assert len(lines) == 1
    assert lines[0]["status"] == status
    assert lines[0]["reason"]
    counted = [v for k, v in (await proxy.stats()).items() if k.startswith("http.protocol_error.")]
    assert counted == ["1"]
    # The next client is served.
    assert (await fetch(proxy.outbound)).status == 200


@pytest.mark.parametrize(
    "path", ["/a/..%2fb", "/%2e%2e%5cb", "/a\\b", "/a%00b", "/a%zz", "/a/..;/b", "/%"]
)
async def test_a_path_that_can_be_read_in_two_ways_is_refused(rig, path):
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    assert (await fetch(proxy.outbound, request("GET", path))).status == 400
    assert backend.requests == []
    [line] = await proxy.log(1, decision="denied")
    assert line["reason"]


async def test_a_head_that_takes_too_long_is_given_up(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend, timeouts={"request_head_ms": 150})
    async with await Wire.open(proxy.outbound) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: sh")
        response = await wire.response()
        assert (response.status, response.header("connection")) == (408, "close")
        assert await wire.rest() == b""


async def test_the_time_of_a_head_begins_with_its_first_byte(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend, timeouts={"request_head_ms": 400})
    loop = asyncio.get_running_loop()
    async with await Wire.open(proxy.outbound) as wire:
        begun = loop.time()
        # Many heads in two pieces, over longer than one may take: no earlier one's time counts.
        while loop.time() - begun < 0.9:
            raw = request()
            await wire.send(raw[:10])
            # The proxy has the first piece when it has answered another client.
            assert (await fetch(proxy.outbound)).status == 200
            assert (await wire.ask(raw[10:])).status == 200
        assert backend.requests


async def test_an_idle_connection_is_closed_in_its_time(rig):
    backend = await rig.backend()
    proxy = await rig.plain(backend, timeouts={"idle_ms": 100})
    async with await Wire.open(proxy.outbound) as wire:
        assert (await wire.ask(request())).status == 200
        assert await wire.rest() == b""
