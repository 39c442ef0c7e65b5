"""Clients of HTTP/2 that make work and pay nothing: each is told to calm down, counted and logged.

The limits are those of ``proxy/pipy-h2/src/floods.rs`` and ``config.rs``; here it is shown that the
running proxy keeps them, stays small, and goes on serving others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from proxyrig.h2wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    block,
    frame,
    headers,
    request,
)
from proxyrig.wire import fetch
from proxyrig.wire import request as request_1

ENHANCE_YOUR_CALM, COMPRESSION_ERROR = 11, 9


def _streams() -> Iterator[int]:
    return iter(range(1, 100_000, 2))


def rapid_reset() -> Iterator[bytes]:
    for stream in _streams():
        cancel = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        yield headers(stream, *request(path=b"/hang")) + cancel


def made_you_reset() -> Iterator[bytes]:
    # The server resets the stream for a WINDOW_UPDATE of nothing.
    for stream in _streams():
        nothing = frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))
        yield headers(stream, *request(path=b"/hang")) + nothing


def continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, block(*request()))
    while True:
        yield frame(CONTINUATION, 0, 1, block((b"x", b"y")))


def empty_continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, block(*request()))
    while True:
        yield frame(CONTINUATION, 0, 1)


def settings() -> Iterator[bytes]:
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))


def pings() -> Iterator[bytes]:
    while True:
        yield frame(PING, 0, 0, b"ppppeeee")


def acknowledgements() -> Iterator[bytes]:
    while True:
        yield frame(PING, ACK, 0, b"ppppeeee")


def empty_data() -> Iterator[bytes]:
    yield headers(1, *request(b"POST"), ends=False)
    while True:
        yield frame(DATA, 0, 1)


def padding_only() -> Iterator[bytes]:
    yield headers(1, *request(b"POST"), ends=False)
    while True:
        yield frame(DATA, 8, 1, b"\x08" + b"\x00" * 8)


def priorities() -> Iterator[bytes]:
    while True:
        yield frame(PRIORITY, 0, 3, struct.pack(">IB", 1, 16))


def window_updates() -> Iterator[bytes]:
    yield headers(1, *request(path=b"/hang"))
    while True:
        yield frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))


def unknown_frames() -> Iterator[bytes]:
    while True:
        yield frame(0xFA, 0, 0, b"grease")


def table_sizes() -> Iterator[bytes]:
    # HPACK: a block that changes the size of the table again and again.
    yield frame(
        HEADERS, END_HEADERS | END_STREAM, 1, b"\x20\x3f\xe1\x1f" * 2000 + block(*request())
    )


FLOODS = {
    "rapid reset": (rapid_reset, ENHANCE_YOUR_CALM, "flood_resets"),
    "made you reset": (made_you_reset, ENHANCE_YOUR_CALM, "flood_stream_errors"),
    "CONTINUATION": (continuations, ENHANCE_YOUR_CALM, None),
    "empty CONTINUATION": (empty_continuations, ENHANCE_YOUR_CALM, None),
    "SETTINGS": (settings, ENHANCE_YOUR_CALM, "flood_settings"),
    "PING": (pings, ENHANCE_YOUR_CALM, "flood_pings"),
    "PING acknowledged": (acknowledgements, ENHANCE_YOUR_CALM, "flood_pings"),
    "empty DATA": (empty_data, ENHANCE_YOUR_CALM, "flood_empty_frames"),
    "padding": (padding_only, ENHANCE_YOUR_CALM, "flood_empty_frames"),
    "PRIORITY": (priorities, ENHANCE_YOUR_CALM, "flood_priorities"),
    "WINDOW_UPDATE": (window_updates, ENHANCE_YOUR_CALM, "flood_window_updates"),
    "unknown frames": (unknown_frames, ENHANCE_YOUR_CALM, "flood_ignored"),
    "table sizes": (table_sizes, COMPRESSION_ERROR, None),
}


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
        payload = block(*request()) + big + b"\xbe" * 10_000
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
            await client.send(headers(1 + 2 * number, *request()))
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
            await client.send(headers(1 + 2 * number, *request()))
        message = await client.message(201)
        assert message.reset == 7
        await client.send(frame(PING, 0, 0, b"stillyou"))
        while (read := await client.frame()) is not None and read.kind != PING:
            pass
        assert read is not None
        assert read.payload == b"stillyou"
