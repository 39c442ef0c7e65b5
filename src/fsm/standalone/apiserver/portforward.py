"""Port-forward to clients: the websocket channels that Kubernetes defines.

What comes in: a websocket request with ``ports`` and a function that opens a connection to a port.
What goes out: bytes in both directions until either side ends.

    channel 2n: data of the n-th port · channel 2n+1: its errors, as text
    the first message of each channel, from the server: the port, 2 bytes, little endian

Invariants: a failed connection is told on the error channel and ends that port only; when the
client goes, all connections to the Pod end.
Not done here: SPDY, which kubectl speaks (``tunnel``).
Source: https://kubernetes.io/docs/reference/using-api/websockets/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from fsm.standalone.apiserver.errors import StatusError, bad_request

PROTOCOL = "v4.channel.k8s.io"
# LIMIT ports of one request: a person forwards a handful.
PORTS_MAX = 64

Dial = Callable[[int], Awaitable[aiohttp.ClientWebSocketResponse]]


def requested_ports(request: web.Request) -> list[int]:
    """Read the ports of a request.

    Raises:
        StatusError: 400, none, too many or not a port.
    """
    texts = [part for value in request.query.getall("ports", []) for part in value.split(",")]
    if not texts or len(texts) > PORTS_MAX:
        raise bad_request(f"query parameter ports: expected 1 to {PORTS_MAX} ports")
    if not all(text.isdigit() and 0 < int(text) < 65536 for text in texts):
        raise bad_request(f"query parameter ports: {','.join(texts)[:100]!r} are not ports")
    return [int(text) for text in texts]


async def serve(request: web.Request, dial: Dial) -> web.StreamResponse:
    """Serve one port-forward.

    Raises:
        StatusError: 400, not a websocket of a protocol that we speak.
    """
    socket = web.WebSocketResponse(protocols=(PROTOCOL,), max_msg_size=0, heartbeat=30)
    ready = socket.can_prepare(request)
    if not ready.ok:
        raise bad_request(
            "port-forward needs a websocket upgrade", "kubectl does that from version 1.31 on"
        )
    if ready.protocol != PROTOCOL:
        raise bad_request(f"port-forward speaks {PROTOCOL} over websockets")
    ports = requested_ports(request)
    await socket.prepare(request)
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
    inbound: list[asyncio.Queue[bytes]] = [asyncio.Queue(maxsize=16) for _ in ports]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_port(socket, dial, index, port, inbound[index]))
            for index, port in enumerate(ports)
        ]
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                channel, data = message.data[0], message.data[1:]
                if channel % 2 == 0 and channel // 2 < len(ports) and data:
                    # A queue of a port that ended is never read: do not wait for room in it.
                    index = channel // 2
                    if not tasks[index].done():
                        await put_or_end(inbound[index], data, tasks[index])
        for task in tasks:
            task.cancel()
    return socket


async def put_or_end(queue: asyncio.Queue[bytes], data: bytes, reader: asyncio.Task[None]) -> None:
    """Queue bytes, waiting for room only as long as somebody reads."""
    while True:
        try:
            queue.put_nowait(data)
        except asyncio.QueueFull:
            if reader.done():
                return
            await asyncio.wait([reader], timeout=0.005)
        else:
            return


async def _port(
    socket: web.WebSocketResponse,
    dial: Dial,
    index: int,
    port: int,
    inbound: asyncio.Queue[bytes],
) -> None:
    """Carry the bytes of one port until the Pod's side ends."""
    data, errors = bytes([2 * index]), bytes([2 * index + 1])
    try:
        try:
            target = await dial(port)
        except StatusError as error:
            await socket.send_bytes(errors + error.message.encode())
            return
        async with target:
            pump = asyncio.ensure_future(_pump(inbound, target))
            try:
                async for message in target:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        await socket.send_bytes(data + message.data)
            finally:
                pump.cancel()
                await asyncio.wait([pump])
    except (aiohttp.ClientError, ConnectionError):
        # The client is gone; the loop that reads from it ends by itself.
        return
    if socket.prepared and not socket.closed and index == 0:
        # Clients of one port (ours) learn of the end by the close of the socket.
        await socket.close()


async def _pump(inbound: asyncio.Queue[bytes], target: aiohttp.ClientWebSocketResponse) -> None:
    try:
        while True:
            await target.send_bytes(await inbound.get())
    except (aiohttp.ClientError, ConnectionError):
        return
