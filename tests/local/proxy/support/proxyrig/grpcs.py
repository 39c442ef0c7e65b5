"""A gRPC service of the real library, and channels to it; messages are plain bytes.

The methods of ``test.Echo``:

- ``Unary`` gives its request back; metadata ``x-ask`` comes back as initial metadata ``x-told``,
  and ``x-tell`` is among the trailing ones. ``x-fail: <code>`` ends it with that code before any
  message, which on the wire is a response of trailers only.
- ``Gather`` gives the number of messages and their bytes.
- ``Scatter`` gives as many messages of as many bytes as it is asked for (``b"10 1000"``).
- ``Chat`` answers each message before it reads the next.
- ``Hang`` never answers; the service notes that it began, and that it was cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import grpc

from proxyrig.wire import Address

Context = Any


class GrpcBackend:
    """See the module."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address = Address(host, 0)
        self.began = 0
        self.cancelled = 0
        self.left_s: list[float | None] = []
        self.peers: set[str] = set()
        self._server: Any = None

    async def __aenter__(self) -> GrpcBackend:
        # One listener per process: a second one on the same port must fail, not share.
        options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 1000)]
        self._server = grpc.aio.server(options=options)
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "Scatter": grpc.unary_stream_rpc_method_handler(self.scatter),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
        }
        generic = grpc.method_handlers_generic_handler("test.Echo", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        port = self._server.add_insecure_port(f"{self.address.host}:0")
        self.address = Address(self.address.host, port)
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(0)

    async def leave(self, grace_s: float) -> None:
        """Say goodbye to every connection, and serve what is under way."""
        await self._server.stop(grace_s)

    async def unary(self, request: bytes, context: Context) -> bytes:
        """Give the request back."""
        self.peers.add(context.peer())
        metadata = dict(context.invocation_metadata())
        self.left_s.append(context.time_remaining())
        if code := metadata.get("x-fail"):
            await context.abort(getattr(grpc.StatusCode, code), f"asked to fail: {code} %ü")
        if told := metadata.get("x-ask"):
            await context.send_initial_metadata((("x-told", told),))
        context.set_trailing_metadata((("x-tell", "at the end"), ("x-bytes-bin", b"\x00\xff")))
        return request

    async def gather(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Count what comes."""
        count = size = 0
        async for request in requests:
            count, size = count + 1, size + len(request)
        return f"{count} {size}".encode()

    async def scatter(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Send many messages."""
        count, size = map(int, request.split())
        for number in range(count):
            yield bytes([number % 256]) * size

    async def chat(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer one by one."""
        async for request in requests:
            yield b"re: " + request

    async def hang(self, request: bytes, context: Context) -> bytes:
        """Wait for ever."""
        self.began += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b""


class Echo:
    """A client of it."""

    def __init__(self, address: Address, authority: str = "echo.shop:9000") -> None:
        options = [("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
        self.channel = grpc.aio.insecure_channel(str(address), options=options)
        self.unary = self.channel.unary_unary("/test.Echo/Unary")
        self.gather = self.channel.stream_unary("/test.Echo/Gather")
        self.scatter = self.channel.unary_stream("/test.Echo/Scatter")
        self.chat = self.channel.stream_stream("/test.Echo/Chat")
        self.hang = self.channel.unary_unary("/test.Echo/Hang")
        self.nothing = self.channel.unary_unary("/test.Echo/Nothing")

    async def __aenter__(self) -> Echo:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
