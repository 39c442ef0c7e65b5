"""The client's side, byte by byte: sends what a test says, reads what comes.

Strict where a client must be: a body has the length that was announced, a chunk ends where it says.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

READ_TIMEOUT_S = 10.0


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``; a wildcard is reached over loopback."""
        host, _, port = text.strip().rpartition(":")
        return cls("127.0.0.1" if host == "0.0.0.0" else host, int(port))


@dataclass
class Response:
    """A response as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Give the value of a header, if it is there once."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None


class Wire:
    """A connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address, receive_buffer: int | None = None) -> Wire:
        """Connect."""
        raw = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        raw.setblocking(False)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(raw, address)
        except BaseException:
            raw.close()
            raise
        return cls(*await asyncio.open_connection(sock=raw, limit=1 << 20))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close at once."""
        self.writer.close()

    def abort(self) -> None:
        """Reset the connection."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), READ_TIMEOUT_S)

    def finish(self) -> None:
        """End our direction, and go on reading."""
        self.writer.write_eof()

    async def exactly(self, count: int) -> bytes:
        """Read that many bytes."""
        return await asyncio.wait_for(self.reader.readexactly(count), READ_TIMEOUT_S)

    async def some(self, most: int = 65536) -> bytes:
        """Read what there is, at least one byte; nothing at the end."""
        return await asyncio.wait_for(self.reader.read(most), READ_TIMEOUT_S)

    async def rest(self) -> bytes:
        """Read to the end."""
        return await asyncio.wait_for(self.reader.read(-1), READ_TIMEOUT_S)

    async def line(self) -> str:
        """Read a line, without its end."""
        line = await asyncio.wait_for(self.reader.readline(), READ_TIMEOUT_S)
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the connection ended after {line!r}")
        return line[:-2].decode("latin-1")

    async def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := await self.line():
            name, colon, value = line.partition(":")
            assert colon, f"no header: {line!r}"
            fields.append((name, value.strip()))
        return fields

    async def head(self) -> Response:
        """Read a response head."""
        version, status, *_ = (await self.line()).split(" ", 2)
        assert version == "HTTP/1.1", version
        return Response(int(status), await self._fields())

    async def response(self, method: str = "GET") -> Response:
        """Read a response to a request with this method, interim ones before it included."""
        interim: list[int] = []
        response = await self.head()
        while 100 <= response.status < 200 and response.status != 101:
            interim.append(response.status)
            response = await self.head()
        response.interim = interim
        coding, length = response.header("transfer-encoding"), response.header("content-length")
        assert coding is None or length is None, "both a coding and a length"
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if method == "CONNECT" and response.status // 100 == 2:
            return response
        if coding == "chunked":
            response.body = await self._chunks()
            response.trailers = await self._fields()
        elif length is not None:
            response.body = await self.exactly(int(length))
        else:
            response.body = await self.rest()
        return response

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(await self.line(), 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        return bytes(body)

    async def ask(self, request: bytes, method: str = "GET") -> Response:
        """Send a request, read its response."""
        await self.send(request)
        return await self.response(method)


def request(method: str = "GET", target: str = "/", *headers: str, body: bytes = b"") -> bytes:
    """Write a request; a body has its length announced."""
    lines = [f"{method} {target} HTTP/1.1", *headers]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.insert(1, "Host: shop")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def fetch(address: Address, raw: bytes | None = None, method: str = "GET") -> Response:
    """Ask once, on a connection of its own."""
    async with await Wire.open(address) as wire:
        return await wire.ask(request() if raw is None else raw, method)
