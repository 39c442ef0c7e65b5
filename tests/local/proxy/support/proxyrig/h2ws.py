"""A client of WebSocket over HTTP/2 (RFC 8441), of the ``h2`` and ``wsproto`` libraries.

One stream of one connection. It asks only when the server has said that it knows such requests.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.settings
import wsproto.events
from wsproto.connection import Connection, ConnectionType

from proxyrig.wire import Address

Headers = list[tuple[str, str]]


class H2Socket:
    """See the module."""

    def __init__(self, address: Address, path: str = "/chat", *more: tuple[str, str]) -> None:
        self.address, self.path, self.more = address, path, more
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.ws = Connection(ConnectionType.CLIENT)
        self.response: dict[str, str] = {}
        self.reset: int | None = None
        self.ended = False
        self.body = b""
        self.stream = 1

    async def __aenter__(self) -> H2Socket:
        self.reader, self.writer = await asyncio.open_connection(*self.address)
        self.h2.initiate_connection()
        await self._flush()
        enabled = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        while not self.h2.remote_settings.get(enabled):
            await self._some()
        self.stream = self.h2.get_next_available_stream_id()
        asked = [
            *((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")),
            *((":path", self.path), (":authority", "shop"), ("sec-websocket-version", "13")),
        ]
        self.h2.send_headers(self.stream, [*asked, *self.more])
        await self._flush()
        while not self.response and self.reset is None:
            await self._some()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    @property
    def status(self) -> int:
        """Give the status of the response."""
        return int(self.response.get(":status", 0))

    async def _flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def _some(self) -> None:
        """Take what comes."""
        async with asyncio.timeout(10):
            data = await self.reader.read(65536)
        if not data:
            raise EOFError("the connection ended")
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self.response = dict(event.headers)
                case h2.events.DataReceived():
                    self.h2.acknowledge_received_data(event.flow_controlled_length, self.stream)
                    if self.status == 200:
                        if event.data:
                            self.ws.receive_data(event.data)
                    else:
                        self.body += event.data
                case h2.events.StreamEnded():
                    self.ended = True
                case h2.events.StreamReset():
                    self.reset = int(event.error_code)
        await self._flush()

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        event: wsproto.events.Event = (
            wsproto.events.TextMessage(data=message)
            if isinstance(message, str)
            else wsproto.events.BytesMessage(data=message)
        )
        await self._write(self.ws.send(event))

    async def _write(self, data: bytes) -> None:
        while data:
            room = min(
                self.h2.local_flow_control_window(self.stream), self.h2.max_outbound_frame_size
            )
            if room <= 0:
                await self._some()
                continue
            self.h2.send_data(self.stream, data[:room])
            data = data[room:]
            await self._flush()

    async def receive(self) -> str | bytes:
        """Give the next message, whole."""
        parts: list[str | bytes] = []
        while True:
            for event in self.ws.events():
                match event:
                    case wsproto.events.TextMessage() | wsproto.events.BytesMessage():
                        parts.append(event.data)
                        if event.message_finished:
                            first = parts[0]
                            return type(first)().join(parts)  # type: ignore[arg-type]
                    case wsproto.events.Ping():
                        await self._write(self.ws.send(event.response()))
                    case wsproto.events.CloseConnection():
                        await self._write(self.ws.send(event.response()))
                        self.h2.end_stream(self.stream)
                        await self._flush()
                        raise EOFError(f"closed with {event.code}")
            await self._some()

    async def over(self) -> None:
        """Wait until the other side has ended the stream."""
        while not self.ended and self.reset is None:
            await self._some()
