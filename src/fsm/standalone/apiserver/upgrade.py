"""SPDY directly on an upgraded connection: what kubectl before 1.31 (Debian's) speaks.

What comes in: a request with ``Upgrade: SPDY/3.1``. What goes out: ``SpdyConnection``, to send
bytes and to receive them.

Invariants: what the client sends faster than it is taken is bounded, then its socket is not read;
a connection that is lost ends ``receive``. Not done here: frames (``spdy``), streams' meaning.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from fsm.standalone.apiserver.errors import bad_request

# LIMIT bytes that wait for us before the client's socket is left alone.
_WAITING_MAX = 1 << 20


class _Feed:
    """Takes the connection's bytes in the place of the HTTP parser."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > _WAITING_MAX:
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._arrived.set()

    def set_exception(self, *_: Any) -> None:
        self.feed_eof()

    async def take(self) -> bytes:
        while not self._buffer and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._transport.resume_reading()
        return taken


class SpdyConnection:
    """An upgraded connection.

    Attributes:
        response: what the handler returns in the end.

    """

    def __init__(self, response: web.StreamResponse, feed: _Feed) -> None:
        self.response = response
        self._feed = feed

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow."""
        await self.response.write(data)

    async def receive(self) -> bytes:
        """Receive what has come; ``b""`` when the client is gone."""
        return await self._feed.take()


def wanted(request: web.Request) -> bool:
    """Tell whether a request asks for this upgrade."""
    return request.headers.get("Upgrade", "").lower() == "spdy/3.1"


async def accept(request: web.Request, protocol: str) -> SpdyConnection:
    """Upgrade the connection.

    Raises:
        StatusError: 400, the client does not speak ``protocol``.

    """
    offered = request.headers.getall("X-Stream-Protocol-Version", [])
    known = {text.strip() for value in offered for text in value.split(",")}
    if protocol not in known:
        raise bad_request(f"unable to upgrade: {protocol} is served, offered were {sorted(known)}")
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        raise bad_request("unable to upgrade: the connection is gone")
    feed = _Feed(transport)
    response = web.StreamResponse(
        status=101,
        headers={
            "Upgrade": "SPDY/3.1",
            "Connection": "Upgrade",
            "X-Stream-Protocol-Version": protocol,
        },
    )
    # Before the answer: no byte that follows it may reach the HTTP parser.
    request.protocol.set_parser(feed)  # type: ignore[arg-type]
    request.protocol.keep_alive(False)
    await response.prepare(request)
    return SpdyConnection(response, feed)
