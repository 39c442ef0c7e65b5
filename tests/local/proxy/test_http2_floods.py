"""Clients of HTTP/2 that make work and pay nothing: each is told to calm down, counted and logged.

The limits are those of ``proxy/pipy-h2/src/floods.rs`` and ``config.rs``; here it is shown that the
running proxy keeps them, stays small, and goes on serving others.
"""

from __future__ import annotations

import pytest
from proxyrig.floods import FLOODS
from proxyrig.h2wire import END_HEADERS, END_STREAM, HEADERS, PING, Frames, block, frame, headers
from proxyrig.h2wire import request as request_2
from proxyrig.wire import fetch
from proxyrig.wire import request as request_1


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_ended_counted_and_logged_and_others_are_served(rig, name):
    flood, code, label = FLOODS[name]

    async def hang_or_answer(asked, connection) -> bool:
        if asked.target == "/hang":
            await connection.reader.read()
            return False
        await connection.body(asked)
        await connection.respond(200, b"ok")
        return True

    backend = await rig.backend(hang_or_answer)
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    async with Frames(proxy.outbound) as client:
        await client.begin()
        sent = 0
        for piece in flood():
            sent += 1
            if not await client.send(piece) or sent > 5_000:
                break
        assert await client.until_closed() in (code, None)
        if client.goaway is None:
            # The reset that follows may overtake the GOAWAY when we were still sending.
            assert client.closed
    stats = await proxy.stats()
    errors = {key: count for key, count in stats.items() if key.startswith("http.protocol_error.")}
    if label is not None:
        assert f"http.protocol_error.{label}" in errors, errors
    assert errors
    [line, *_] = await proxy.log(decision="denied", protocol="h2")
    assert line["reason"]
    assert proxy.resident_kib() - before < 16_000
    response = await fetch(proxy.outbound, request_1("GET", "/", "Host: shop"))
    assert response.status == 200


async def test_a_header_bomb_is_refused_before_it_is_unpacked(rig):
    """A field of 4 KiB put into the table once and named 20,000 times: 80 MB from 24 KB."""
    backend = await rig.backend()
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    big = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"v" * 4000
    async with Frames(proxy.outbound) as client:
        await client.begin()
        payload = block(*request_2()) + big + b"\xbe" * 10_000
        await client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, payload))
        message = await client.message(1)
        assert message.reset is not None or message.status == 431 or client.goaway is not None
    assert backend.requests == []
    assert proxy.resident_kib() - before < 8_000


async def test_streams_that_nobody_reads_hold_little(rig):
    """A hundred responses of a megabyte, and a window that stays shut."""

    async def large(asked, connection) -> bool:
        await connection.body(asked)
        await connection.respond(200, b"x" * 1_000_000)
        return True

    backend = await rig.backend(large)
    proxy = await rig.plain(backend)
    before = proxy.resident_kib()
    async with Frames(proxy.outbound) as client:
        await client.begin((4, 0))
        for number in range(100):
            await client.send(headers(1 + 2 * number, *request_2()))
        heads = 0
        while heads < 100:
            read = await client.frame()
            assert read is not None
            heads += read.kind == HEADERS
        # Per stream a queue of 64 KiB, what was read when it was full, and the upstream's buffer.
        assert proxy.resident_kib() - before < 60_000
        response = await fetch(proxy.outbound, request_1("GET", "/", "Host: shop"))
        assert len(response.body) == 1_000_000


async def test_more_streams_than_were_agreed_are_refused(rig):
    async def hang(asked, connection) -> bool:
        await connection.reader.read()
        return False

    backend = await rig.backend(hang)
    proxy = await rig.plain(backend)
    async with Frames(proxy.outbound) as client:
        await client.begin()
        for number in range(101):
            await client.send(headers(1 + 2 * number, *request_2()))
        message = await client.message(201)
        assert message.reset == 7
        await client.send(frame(PING, 0, 0, b"stillyou"))
        while (read := await client.frame()) is not None and read.kind != PING:
            pass
        assert read is not None
        assert read.payload == b"stillyou"
