"""A backend that a test can script: real HTTP/1 over a real socket, on a free port of loopback.

It notes every request and answers with what it got, unless the test gives a script. A script takes
each request and its connection and says with true that the connection goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from proxyrig.wire import Address

Script = Callable[["Request", "Connection"], Awaitable[bool | None]]


@dataclass
class Request:
    """A request as it came."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Give the last value of a header."""
        return {key.lower(): value for key, value in self.headers}.get(name)


class Connection:
    """A connection from the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer: tuple[str, int] = writer.get_extra_info("peername")

    async def fields(self) -> list[tuple[str, str]]:
        """Read headers or trailers."""
        lines = []
        while (line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            lines.append((name, value.strip()))
        return lines

    async def head(self) -> Request | None:
        """Read a request head; none at the end."""
        line = await self.reader.readline()
        if not line:
            return None
        method, target, version = line.decode("latin-1").split()
        return Request(method, target, version, await self.fields())

    async def body(self, request: Request) -> None:
        """Read the body."""
        if request.header("transfer-encoding") == "chunked":
            body = bytearray()
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            request.body, request.trailers = bytes(body), await self.fields()
        elif length := request.header("content-length"):
            request.body = await self.reader.readexactly(int(length))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        """Send a response with the length of its body."""
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)


class Backend:
    """See the module."""

    def __init__(self, name: str, script: Script | None = None, host: str = "127.0.0.1") -> None:
        self.name = name
        self.script = script
        self.address = Address(host, 0)
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.errors: list[BaseException] = []
        # For scripts that read the body themselves, or not at all.
        self.reads_body = True
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Say how many connections are open."""
        return len(self._tasks)

    async def __aenter__(self) -> Backend:
        self._server = await asyncio.start_server(self._begin, self.address.host, 0, limit=1 << 20)
        self.address = Address(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None and self.errors:
            raise self.errors[0]

    def stop_listening(self) -> None:
        """Refuse connections from now on; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            while (request := await connection.head()) is not None:
                self.requests.append(request)
                if self.reads_body:
                    await connection.body(request)
                answer = self.script or self.echo
                if not await answer(request, connection):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The proxy went away, as some tests make it.
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.writer.close()

    async def echo(self, request: Request, connection: Connection) -> bool:
        """Answer with the request."""
        told: dict[str, Any] = {
            "server": self.name,
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "trailers": request.trailers,
            "bytes": len(request.body),
            "body": request.body[:4096].decode("latin-1"),
            "peer": connection.peer[0],
        }
        body = json.dumps(told).encode()
        if request.method == "HEAD":
            await connection.send(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
        else:
            await connection.respond(200, body, "Content-Type: application/json")
        return True
