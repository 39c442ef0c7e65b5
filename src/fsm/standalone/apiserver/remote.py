"""`kubectl exec` and `attach`: a command's streams between a client and the node agent.

What comes in: a websocket of ``v5.channel.k8s.io`` or ``v4.channel.k8s.io`` (kubectl from 1.30 on,
and client libraries), or a SPDY upgrade of ``v4.channel.k8s.io`` (kubectl before that). What goes
out: the same channels to the agent, which speaks v5 (``node.sessions``).

Invariants: each message is passed on before the next is read; either side's end ends the other; the
client learns the end from the Status on the error channel, which comes last.
Source: https://kubernetes.io/docs/reference/using-api/websockets/
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from fsm.standalone.apiserver import upgrade
from fsm.standalone.apiserver.errors import bad_request
from fsm.standalone.apiserver.spdy import Codec, Data, Frame, Opened, Ping, Reset, SpdyError
from fsm.standalone.duplex import until_one_ends

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
SPDY_PROTOCOL = "v4.channel.k8s.io"
_CHANNELS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
_STDIN, _ERROR, _CLOSE = 0, 3, 255
# How long a client of SPDY may take to open its streams, seconds: the kubelet's figure.
_STREAMS_S = 30.0
# How long a client may take to read the end, seconds.
_LINGER_S = 2.0

Dial = Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]]


def flags(request: web.Request) -> dict[str, str]:
    """Read which streams are wanted.

    Raises:
        StatusError: 400, none.

    """
    query = request.query
    chosen = {
        name: "true" if query.get(name) in ("1", "true", "True") else "false"
        for name in ("stdin", "stdout", "stderr", "tty")
    }
    if "true" not in (chosen["stdin"], chosen["stdout"], chosen["stderr"]):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return chosen


async def serve(request: web.Request, dial: Dial) -> web.StreamResponse:
    """Connect a client with the agent.

    Raises:
        StatusError: 400, no protocol that is known; or what ``dial`` raises.

    """
    if upgrade.wanted(request):
        return await _serve_spdy(request, dial)
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, heartbeat=30)
    ready = socket.can_prepare(request)
    if not ready.ok:
        raise bad_request("this needs an upgrade to a websocket or to SPDY/3.1")
    if ready.protocol not in PROTOCOLS:
        raise bad_request(f"the protocols {' and '.join(PROTOCOLS)} are served")
    async with await dial() as agent:
        await socket.prepare(request)

        async def inward() -> None:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await agent.send_bytes(message.data)

        async def outward() -> None:
            async for message in agent:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await socket.send_bytes(message.data)

        await until_one_ends(inward(), outward())
        await socket.close()
    return socket


async def _serve_spdy(request: web.Request, dial: Dial) -> web.StreamResponse:
    chosen = flags(request)
    expected = {"error"} | {n for n in ("stdin", "stdout", "stderr") if chosen[n] == "true"}
    if chosen["tty"] == "true":
        expected = (expected - {"stderr"}) | {"resize"}
    # First the agent: what it refuses is told as a plain answer, not inside the upgrade.
    async with await dial() as agent:
        connection = await upgrade.accept(request, SPDY_PROTOCOL)
        streams = _Streams(connection)
        with contextlib.suppress(SpdyError, TimeoutError):
            async with asyncio.timeout(_STREAMS_S):
                while not expected <= set(streams.by_name):
                    if not await streams.hear(None):
                        return connection.response
            await until_one_ends(streams.inward(agent), streams.outward(agent))
    if request.transport is not None:
        request.transport.close()
    return connection.response


class _Streams:
    """The streams of one upgraded connection, by what they carry."""

    def __init__(self, connection: upgrade.SpdyConnection) -> None:
        self.by_name: dict[str, int] = {}
        self._connection = connection
        self._codec = Codec()

    async def hear(self, agent: aiohttp.ClientWebSocketResponse | None) -> bool:
        """Act on what the client sent next; returns whether it is still there.

        Raises:
            SpdyError: it makes no sense.

        """
        data = await self._connection.receive()
        for frame in self._codec.receive(data):
            if not await self._act(frame, agent):
                return False
        return bool(data)

    async def inward(self, agent: aiohttp.ClientWebSocketResponse) -> None:
        """Pass on what the client sends until it is gone."""
        for frame in self._held:
            await self._act(frame, agent)
        while await self.hear(agent):
            continue

    async def outward(self, agent: aiohttp.ClientWebSocketResponse) -> None:
        """Pass on what the command writes, then its end, and let the client hang up."""
        names = {number: name for name, number in _CHANNELS.items()}
        async for message in agent:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            stream = self.by_name.get(names.get(message.data[0], ""))
            if stream is not None:
                ended = message.data[0] == _ERROR
                await self._send(stream, message.data[1:], ended=ended)
        for name in ("stdout", "stderr"):
            if name in self.by_name:
                await self._send(self.by_name[name], b"", ended=True)
        await asyncio.sleep(_LINGER_S)

    async def _send(self, stream: int, data: bytes, *, ended: bool) -> None:
        await self._connection.send_bytes(self._codec.data(stream, data, ended=ended))

    _held: tuple[Frame, ...] = ()

    async def _act(self, frame: Frame, agent: aiohttp.ClientWebSocketResponse | None) -> bool:
        match frame:
            case Opened(stream, headers):
                self.by_name[headers.get("streamtype", "")] = stream
                await self._connection.send_bytes(self._codec.reply(stream))
            case Data(stream, data, ended):
                if agent is None:
                    # Input that comes before all streams are open.
                    self._held = (*self._held, frame)
                    return True
                name = next((n for n, s in self.by_name.items() if s == stream), "")
                channel = _CHANNELS.get(name)
                if channel is not None and data:
                    await agent.send_bytes(bytes([channel]) + data)
                if channel == _STDIN and ended:
                    await agent.send_bytes(bytes([_CLOSE, _STDIN]))
            case Ping(number):
                await self._connection.send_bytes(self._codec.pong(number))
            case Reset(stream):
                return stream != 0
        return True
