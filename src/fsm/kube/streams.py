"""Byte streams through a Kubernetes API: container logs and port-forward.

What comes in: an opened HTTP response or a websocket URL. What goes out: chunks of log bytes, or
a reader and a writer of one TCP connection into a Pod.

Invariants: no background task; reading pulls from the connection, so back-pressure is that of the
socket; an error that the far side reports is raised at the next read as an ``ApiError``.
Source: https://kubernetes.io/docs/reference/using-api/websockets/ ; the port-forward protocol
``v4.channel.k8s.io``: each message starts with a channel number (0 data, 1 error), and the first
message of each channel carries the port, 2 bytes, little endian.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import aiohttp
import orjson

from fsm.kube.errors import ApiError, Unavailable, from_status

PORT_FORWARD_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1


class LogStream:
    """The log of one container, as it arrives; ends when the container's log ends."""

    def __init__(self, response: aiohttp.ClientResponse, action: str) -> None:
        self._response = response
        self._action = action

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._response.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(0, "Unreachable", f"cannot {self._action}: {error}") from error

    async def read(self) -> bytes:
        """Read to the end (for logs that are not followed) and close."""
        async with self:
            return b"".join([chunk async for chunk in self])


class PortForwardReader:
    """The bytes that come back from the Pod."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, action: str) -> None:
        self._socket = socket
        self._action = action
        self._buffer = bytearray()
        self._greeted: set[int] = set()
        self._ended = False

    async def read(self, count: int = -1) -> bytes:
        """Read up to ``count`` bytes; ``b""`` at the end; ``-1`` reads all to the end.

        Raises:
            ApiError: the far side reports why there is no connection.
        """
        while not self._ended and (count < 0 or not self._buffer):
            await self._receive()
        take = len(self._buffer) if count < 0 else count
        taken = bytes(self._buffer[:take])
        del self._buffer[:take]
        return taken

    async def readline(self) -> bytes:
        """Read one line with its newline; what is left at the end may lack it."""
        while not self._ended and b"\n" not in self._buffer:
            await self._receive()
        position = self._buffer.find(b"\n")
        take = position + 1 if position >= 0 else len(self._buffer)
        line = bytes(self._buffer[:take])
        del self._buffer[:take]
        return line

    def at_eof(self) -> bool:
        """Tell whether all was read and no more can come."""
        return self._ended and not self._buffer

    async def _receive(self) -> None:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            self._ended = message.type is not aiohttp.WSMsgType.TEXT
            return
        channel, data = message.data[0], message.data[1:]
        if channel not in self._greeted:
            self._greeted.add(channel)
            data = data[2:]
        if channel == _DATA:
            self._buffer += data
        elif channel == _ERROR and data:
            self._ended = True
            text = data.decode(errors="replace")
            raise Unavailable(0, "PortForward", f"cannot {self._action}: {text}")


class PortForwardWriter:
    """The bytes that go to the Pod; like ``asyncio.StreamWriter`` in the few methods it has."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._pending = bytearray()

    def write(self, data: bytes) -> None:
        """Queue bytes; they go with the next ``drain``."""
        self._pending += data

    async def drain(self) -> None:
        """Send what is queued.

        Raises:
            ConnectionError: the connection is closed.
        """
        while self._pending:
            # LIMIT 64 KiB per message: servers cap message sizes.
            part = bytes(self._pending[:65536])
            del self._pending[:65536]
            try:
                await self._socket.send_bytes(bytes([_DATA]) + part)
            except (aiohttp.ClientError, RuntimeError) as error:
                raise ConnectionResetError("the port-forward is closed") from error

    async def close(self) -> None:
        """Close the connection in both directions."""
        await self._socket.close()


async def open_port_forward(
    session: aiohttp.ClientSession,
    url: str,
    port: int,
    headers: Mapping[str, str],
    action: str,
    timeout_s: float,
) -> tuple[PortForwardReader, PortForwardWriter]:
    """Open the websocket of one forwarded port.

    Raises:
        ApiError: the server refuses or cannot be reached within ``timeout_s`` seconds.
    """
    # A refused handshake loses its body, which says why; asking once more without the upgrade
    # brings the Status that a person needs.
    try:
        socket = await session.ws_connect(
            url,
            params={"ports": str(port)},
            headers=headers,
            protocols=(PORT_FORWARD_PROTOCOL,),
            timeout=aiohttp.ClientWSTimeout(ws_close=timeout_s),
            max_msg_size=0,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise await _refusal(session, url, headers, error.status, action) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(0, "Unreachable", f"cannot {action}: {error}") from error
    return PortForwardReader(socket, action), PortForwardWriter(socket)


async def _refusal(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    status: int,
    action: str,
) -> ApiError:
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with session.get(url, headers=headers, timeout=timeout) as response:
            body = orjson.loads(await response.read())
            return from_status(response.status, body, action)
    except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
        return from_status(status, None, action)
