"""Servers of bytes for tests: each connection is handed to a function, and its end is awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from proxyrig.wire import Address

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[Address]:
    """Serve connections on a free port; those that are open at the end are cut."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)
            writer.close()

    listening = await asyncio.start_server(one, host, 0)
    try:
        address = listening.sockets[0].getsockname()
        yield Address(address[0], address[1])
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes; finish when the client has."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def greeting(words: bytes) -> Serve:
    """Speak first, then echo."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await echo(reader, writer)

    return serve


def name(words: bytes) -> Serve:
    """Say who this is to the first words of a client, with those words."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(65536)
        writer.write(words + b" heard " + first)
        await writer.drain()
        writer.write_eof()

    return serve
