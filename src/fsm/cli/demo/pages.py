"""Brings the pages of the applications to ports of this machine while the demo is kept.

What comes in: a client, the applications. What goes out: listeners on 127.0.0.1, each a way to one
application, through the API's port-forward.

Invariants: the Pod is looked up for each connection, so a Pod that was replaced does not break a
page; a port that is taken is replaced by a free one, and said so; nothing listens beyond loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsm.cli.demo import cast
from fsm.cli.demo.observer import APP_PORT
from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.kube.streams import PortForwardReader, PortForwardWriter

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """One application's page, and the local port at which users of the demo expect it."""

    app: str
    namespace: str
    port: int


PAGES = (
    Page("bookbuyer", "bookbuyer", 8080),
    Page("bookstore-v1", "bookstore", 8081),
    Page("bookstore-v2", "bookstore", 8082),
    Page("bookthief", "bookthief", 8083),
    Page("bookwarehouse", "bookwarehouse", 8084),
)


@asynccontextmanager
async def serve(client: KubeClient) -> AsyncIterator[dict[str, str]]:
    """Serve all pages; yields the URL of each application."""
    async with contextlib.AsyncExitStack() as stack:
        urls: dict[str, str] = {}
        for page in PAGES:
            server = await _listen(client, page)
            stack.push_async_callback(_stop, server)
            port = server.sockets[0].getsockname()[1]
            urls[page.app] = f"http://127.0.0.1:{port}/"
        yield urls


async def _listen(client: KubeClient, page: Page) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await _connect(client, page, reader, writer)

    try:
        return await asyncio.start_server(handle, "127.0.0.1", page.port)
    except OSError:
        return await asyncio.start_server(handle, "127.0.0.1", 0)


async def _stop(server: asyncio.Server) -> None:
    server.close()


async def _connect(
    client: KubeClient,
    page: Page,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    from fsm.kube import ApiError

    try:
        async with asyncio.timeout(5):
            pod = await cast.ready_pod(client, page.namespace, page.app)
            far_reader, far_writer = await client.port_forward(pod.namespace, pod.name, APP_PORT)
    except (Failure, ApiError, TimeoutError):
        text = f"{page.app} does not answer; `kubectl get pods -n {page.namespace}` says why.\n"
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(text)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()
        return
    there = asyncio.create_task(_to_pod(reader, far_writer))
    back = asyncio.create_task(_from_pod(far_reader, writer))
    try:
        # Either direction's end is the end: a browser keeps no half-open connections.
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (there, back):
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        await far_writer.close()
        writer.close()


async def _to_pod(reader: asyncio.StreamReader, writer: PortForwardWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _from_pod(reader: PortForwardReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
