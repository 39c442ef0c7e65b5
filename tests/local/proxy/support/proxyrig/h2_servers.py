"""Servers of HTTP/2 that break the rules, or make work and give nothing: the other side of floods.

In: a connection of a proxy that asks for something on stream 1. Out: rows of frames, endless for
floods. ``H2_SERVERS`` gives them by their rows in ``docs/reference/hostile-peers.md``. Not here:
what the proxy makes of it (``test_each_fault``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Iterator

from proxyrig.h2wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    headers,
)
from proxyrig.wire import Address

OK = (b":status", b"200")

# SETTINGS by number.
TABLE_SIZE, PUSHES, STREAMS, WINDOW, FRAME_SIZE = 1, 2, 3, 4, 5


def setting(number: int, value: int) -> bytes:
    """Write SETTINGS with one of them."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", number, value))


def again(*pieces: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    """Say something once, then something else for ever, a hundred times in each write."""
    return lambda: itertools.chain([first], itertools.repeat(b"".join(pieces) * 100))


def once(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    """Say something, and no more."""
    return lambda: iter(pieces)


RESET = frame(RST_STREAM, 0, 1, struct.pack(">I", 8))
GRANT = struct.pack(">I", 1)
MOST = struct.pack(">I", 0x7FFFFFFF)
AWAY = frame(GOAWAY, 0, 0, struct.pack(">II", 0x7FFFFFFF, 0))
PROMISE = struct.pack(">I", 2) + block((b":method", b"GET"), (b":path", b"/"))

H2_SERVERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "h2 server flood: SETTINGS": again(setting(WINDOW, 65_535)),
    "h2 server flood: PING": again(frame(PING, 0, 0, b"ppppeeee")),
    "h2 server flood: PING acknowledged": again(frame(PING, 1, 0, b"ppppeeee")),
    "h2 server flood: empty DATA": again(frame(DATA, 0, 1), first=headers(1, OK, ends=False)),
    "h2 server flood: CONTINUATION": again(
        frame(CONTINUATION, 0, 1, block((b"x", b"y"))), first=frame(HEADERS, 0, 1, block(OK))
    ),
    "h2 server flood: RST_STREAM": again(RESET),
    "h2 server flood: WINDOW_UPDATE": again(frame(WINDOW_UPDATE, 0, 1, GRANT)),
    "h2 server flood: PRIORITY": again(frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 16))),
    "h2 server flood: GOAWAY": again(AWAY),
    "h2 server flood: unknown frames": again(frame(0xFA, 0, 0, b"grease")),
    "h2 server flood: interim responses": again(headers(1, (b":status", b"103"), ends=False)),
    "h2 server: WINDOW_UPDATE over the limit": once(frame(WINDOW_UPDATE, 0, 0, MOST)),
    "h2 server: window over the limit": once(setting(WINDOW, 0x80000000)),
    "h2 server: frame size below the limit": once(setting(FRAME_SIZE, 1)),
    "h2 server: PUSH_PROMISE": once(frame(PUSH, END_HEADERS, 1, PROMISE)),
    "h2 server: allows itself to push": once(setting(PUSHES, 1)),
    "h2 server: response to nothing": once(headers(99, OK)),
    "h2 server: broken header block": once(frame(HEADERS, END_HEADERS, 1, b"\xff" * 50)),
    "h2 server: table sizes": once(
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x20\x3f\xe1\x1f" * 2000 + block(OK))
    ),
    "h2 server: head that unpacks to 40 MB": once(
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            block(OK) + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 10_000,
        )
    ),
    "h2 server: body over the window": again(
        frame(DATA, 0, 1, b"x" * 16_384), first=headers(1, OK, ends=False)
    ),
    "h2 server: frame too large": once(
        struct.pack(">I", 1 << 20)[1:] + b"\x00\x00\x00\x00\x00\x01"
    ),
    "h2 server: no HTTP/2": once(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10),
}


@contextlib.asynccontextmanager
async def h2_server(says: Callable[[], Iterator[bytes]]) -> AsyncIterator[Address]:
    """Listen; say that to whoever asks for something, until it closes."""

    async def hear(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                pass

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            if says is not H2_SERVERS["h2 server: no HTTP/2"]:
                writer.write(frame(SETTINGS))
            kind = None
            while kind != HEADERS:
                head = await reader.readexactly(9)
                kind = head[3]
                await reader.readexactly(int.from_bytes(head[:3], "big"))
            heard = asyncio.ensure_future(hear(reader))
            for piece in says():
                writer.write(piece)
                await writer.drain()
                if heard.done():
                    break
            await heard
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname())
