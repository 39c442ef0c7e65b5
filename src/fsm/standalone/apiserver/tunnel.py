"""Port-forward to kubectl: SPDY streams inside a websocket.

What comes in: a websocket request of the protocol ``SPDY/3.1+portforward.k8s.io`` and a function
that opens a connection to a port. What goes out: one connection into the Pod for each pair of
streams that the client opens.

    error stream {streamtype: error, port, requestid} ─┐ one connection; what goes wrong is told
    data stream  {streamtype: data,  port, requestid} ─┘ on the error stream, as text

Invariants: a connection that fails ends its own pair only; when the websocket ends, all do; what a
Pod has not taken yet is bounded, and then nothing more is read from the client.
Not done here: half-closed connections: the agent's protocol has none, so after the client has said
all, the Pod's answer is awaited as long as it goes on (``LINGER_S``).
Source: https://kubernetes.io/docs/reference/using-api/websockets/ and ``spdy``
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from aiohttp import web

from fsm.standalone.apiserver import upgrade
from fsm.standalone.apiserver.errors import StatusError
from fsm.standalone.apiserver.portforward import Dial, put_or_end
from fsm.standalone.apiserver.spdy import Codec, Data, Frame, Opened, Ping, Reset, SpdyError

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
UPGRADE_PROTOCOL = "portforward.k8s.io"

# LIMIT connections of one port-forward at a time: a browser opens a dozen.
PAIRS_MAX = 256
# How long a Pod may be silent, in seconds, after the client has said all.
LINGER_S = 2.0


@dataclass(slots=True)
class _Pair:
    """The two streams of one connection; 0 until the client opens it."""

    port: int
    data: int = 0
    error: int = 0
    inbound: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(maxsize=64))
    said_all: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


async def serve(request: web.Request, dial: Dial) -> web.StreamResponse:
    """Serve one port-forward of kubectl."""
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0)
    await socket.prepare(request)
    async with asyncio.TaskGroup() as group:
        tunnel = _Tunnel(socket, dial, group)
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    for frame in tunnel.codec.receive(message.data):
                        await tunnel.take(frame)
        except SpdyError as error:
            await socket.close(code=1002, message=str(error).encode()[:120])
        finally:
            tunnel.end()
    return socket


async def serve_upgraded(request: web.Request, dial: Dial) -> web.StreamResponse:
    """Serve one port-forward of a kubectl before 1.31: the same streams, without a websocket.

    Raises:
        StatusError: 400, the client speaks another protocol.
    """
    connection = await upgrade.accept(request, UPGRADE_PROTOCOL)
    async with asyncio.TaskGroup() as group:
        tunnel = _Tunnel(connection, dial, group)
        try:
            while data := await connection.receive():
                for frame in tunnel.codec.receive(data):
                    await tunnel.take(frame)
        except (SpdyError, ConnectionError):
            pass
        finally:
            tunnel.end()
    if request.transport is not None:
        request.transport.close()
    return connection.response


class _Sender(Protocol):
    async def send_bytes(self, data: bytes) -> None: ...


class _Tunnel:
    """The streams of one connection."""

    def __init__(self, socket: _Sender, dial: Dial, group: asyncio.TaskGroup) -> None:
        self.codec = Codec()
        self._socket = socket
        self._dial = dial
        self._group = group
        self._pairs: dict[str, _Pair] = {}

    async def take(self, frame: Frame) -> None:
        """Act on one frame.

        Raises:
            SpdyError: more streams than allowed.
        """
        match frame:
            case Opened():
                await self._open(frame)
            case Data(stream, data, ended):
                pair = next((p for p in self._pairs.values() if p.data == stream), None)
                if pair is None or pair.task is None:
                    return
                if data:
                    await put_or_end(pair.inbound, data, pair.task)
                if ended:
                    pair.said_all.set()
            case Reset(stream):
                for pair in self._pairs.values():
                    if pair.task and stream in (0, pair.data, pair.error):
                        pair.task.cancel()
            case Ping(number):
                await self._socket.send_bytes(self.codec.pong(number))

    def end(self) -> None:
        """Give all connections up."""
        for pair in self._pairs.values():
            if pair.task is not None:
                pair.task.cancel()

    async def _open(self, frame: Opened) -> None:
        kind, port = frame.headers.get("streamtype"), frame.headers.get("port", "")
        identity = frame.headers.get("requestid", "")
        if kind not in ("data", "error") or not port.isdigit() or not 0 < int(port) < 65536:
            await self._socket.send_bytes(self.codec.reset(frame.stream))
            return
        if len(self._pairs) >= PAIRS_MAX:
            raise SpdyError(f"more than {PAIRS_MAX} connections at a time")
        pair = self._pairs.setdefault(identity, _Pair(int(port)))
        if kind == "data":
            pair.data = frame.stream
        else:
            pair.error = frame.stream
        await self._socket.send_bytes(self.codec.reply(frame.stream))
        if pair.data and pair.error and pair.task is None:
            pair.task = self._group.create_task(self._carry(identity, pair))

    async def _carry(self, identity: str, pair: _Pair) -> None:
        """Carry the bytes of one connection until the Pod's side ends."""
        told = b""
        try:
            async with await self._dial(pair.port) as target:
                sending = asyncio.ensure_future(self._send(pair, target))
                try:
                    await self._receive(pair, target)
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
        except StatusError as error:
            told = error.message.encode()
        except (aiohttp.ClientError, ConnectionError) as error:
            told = f"the connection into the pod was lost: {error}".encode()
        finally:
            self._pairs.pop(identity, None)
        try:
            await self._socket.send_bytes(self.codec.data(pair.error, told, ended=True))
            await self._socket.send_bytes(self.codec.data(pair.data, b"", ended=True))
        except (aiohttp.ClientError, ConnectionError):
            return

    async def _send(self, pair: _Pair, target: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await target.send_bytes(await pair.inbound.get())
        except (aiohttp.ClientError, ConnectionError):
            return

    async def _receive(self, pair: _Pair, target: aiohttp.ClientWebSocketResponse) -> None:
        ending = asyncio.ensure_future(pair.said_all.wait())
        try:
            while True:
                arriving = asyncio.ensure_future(target.receive())
                await asyncio.wait({arriving, ending}, return_when="FIRST_COMPLETED")
                if not arriving.done():
                    await asyncio.wait({arriving}, timeout=LINGER_S)
                if not arriving.done():
                    arriving.cancel()
                    await asyncio.wait({arriving})
                    return
                message = arriving.result()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    return
                # LIMIT 64 KiB per frame, so that connections take turns.
                for start in range(0, len(message.data), 65536):
                    part = message.data[start : start + 65536]
                    await self._socket.send_bytes(self.codec.data(pair.data, part))
        finally:
            ending.cancel()
            await asyncio.wait({ending})
