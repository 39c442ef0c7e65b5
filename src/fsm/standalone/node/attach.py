"""`kubectl attach` and `kubectl run -i`: a client and the streams of a running container.

What comes in: a websocket of the API server with the channels of ``sessions``, and a container: one
with ``stdin`` or ``tty`` has a ``console`` in its init, of another there is its log. What goes out:
what it writes (from now on, and to the first client of a console also what came before), and, when
the container has ended, a Status on the channel of errors.

Invariants: a client that goes away ends nothing but its own stream, and the input of a container
with ``stdinOnce``; what one side has not taken is not read from the other.
Not done here: who may attach (the API server).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import WSMsgType, web

from fsm.standalone.duplex import until_one_ends
from fsm.standalone.node import console, sessions

#: What a container without input answers to whoever brings some.
NO_INPUT = b"this container takes no input: its `stdin` is not set; what is typed goes nowhere\r\n"


async def to_console(
    stream: web.WebSocketResponse, directory: Path, log: AsyncIterator[bytes], *, stdin: bool
) -> None:
    """Connect a client with the console of a container, until one of them ends.

    Args:
        stream: the client.
        directory: of the container.
        log: what to show where there is no console any more.
        stdin: whether the client brings input.

    """
    try:
        reader, writer = await _connect(directory)
    except OSError:
        # It ended between the question and now.
        await to_log(stream, log, stdin=False)
        return
    if stdin:
        writer.write(console.HEADER.pack(console.INPUT, 0))

    async def inward() -> None:
        async for message in stream:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == sessions.CLOSE and data == bytes([sessions.STDIN]):
                channel, data = console.CLOSE, b""
            if channel == console.CLOSE or (channel == sessions.STDIN and stdin):
                await _send(writer, channel, data)
            elif channel == sessions.RESIZE:
                await _send(writer, console.RESIZE, data)

    async def outward() -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(console.HEADER.size)
                channel, length = console.HEADER.unpack(head)
                await stream.send_bytes(bytes([channel]) + await reader.readexactly(length))
        await _end(stream)

    try:
        await until_one_ends(inward(), outward())
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def to_log(
    stream: web.WebSocketResponse, chunks: AsyncIterator[bytes], *, stdin: bool
) -> None:
    """Send a client what a container without a console writes, until one of them ends."""

    async def inward() -> None:
        async for _ in stream:
            continue

    async def outward() -> None:
        if stdin:
            await stream.send_bytes(bytes([sessions.STDERR]) + NO_INPUT)
        async for chunk in chunks:
            await stream.send_bytes(bytes([sessions.STDOUT]) + chunk)
        await _end(stream)

    await until_one_ends(inward(), outward())


async def _connect(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Through the descriptor: the path itself is longer than those of sockets may be.
        sock.connect(f"/proc/self/fd/{fd}/{console.SOCKET}")
        return await asyncio.open_unix_connection(sock=sock)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(fd)


async def _send(writer: asyncio.StreamWriter, channel: int, data: bytes) -> None:
    for start in range(0, len(data) or 1, console.FRAME_BYTES_MAX):
        piece = data[start : start + console.FRAME_BYTES_MAX]
        writer.write(console.HEADER.pack(channel, len(piece)) + piece)
        await writer.drain()


async def _end(stream: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        status = json.dumps(sessions.outcome(0)).encode()
        await stream.send_bytes(bytes([sessions.ERROR]) + status)
        await stream.close()
