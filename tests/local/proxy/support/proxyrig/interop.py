"""The service of gRPC's interoperability tests, with messages of plain bytes.

The cases are those of gRPC's interop test descriptions; sizes and words are theirs. Where their
messages carry parameters, ours are JSON: ``size`` asks for a payload, ``sizes`` for one each,
``status`` for a failure, ``compress`` for an answer that is compressed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import grpc

from proxyrig.wire import Address

Context = Any


def asking(**what: Any) -> bytes:
    """Write a request; ``pad`` is how many bytes of payload it carries."""
    pad = what.pop("pad", 0)
    return json.dumps(what).encode() + b"\0" + bytes(pad)


def asked(request: bytes) -> dict[str, Any]:
    """Read a request."""
    head, _, payload = request.partition(b"\0")
    return {**json.loads(head), "payload": len(payload)}


class InteropServer:
    """See the module."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 0)
        self._server: Any = None

    async def __aenter__(self) -> InteropServer:
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0)], compression=grpc.Compression.Gzip
        )
        handlers = {
            "EmptyCall": grpc.unary_unary_rpc_method_handler(self.empty),
            "UnaryCall": grpc.unary_unary_rpc_method_handler(self.unary),
            "StreamingInputCall": grpc.stream_unary_rpc_method_handler(self.streaming_input),
            "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(self.streaming_output),
            "FullDuplexCall": grpc.stream_stream_rpc_method_handler(self.full_duplex),
        }
        generic = grpc.method_handlers_generic_handler("grpc.testing.TestService", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = Address("127.0.0.1", port)
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.stop(0)

    async def metadata(self, context: Context) -> None:
        """Give back what custom_metadata sends."""
        sent = dict(context.invocation_metadata())
        if initial := sent.get("x-grpc-test-echo-initial"):
            await context.send_initial_metadata((("x-grpc-test-echo-initial", initial),))
        if trailing := sent.get("x-grpc-test-echo-trailing-bin"):
            context.set_trailing_metadata((("x-grpc-test-echo-trailing-bin", trailing),))

    def compress(self, what: dict[str, Any], context: Context) -> None:
        """Compress the answers where that was asked for."""
        if not what.get("compress"):
            context.disable_next_message_compression()

    async def answer(self, what: dict[str, Any], context: Context) -> bytes:
        """Fail as asked, or give a payload of the size that was asked for."""
        if status := what.get("status"):
            await context.abort(getattr(grpc.StatusCode, status[0]), status[1])
        return bytes(what.get("size", 0))

    async def empty(self, request: bytes, context: Context) -> bytes:
        """Answer nothing with nothing."""
        assert request == b""
        return b""

    async def unary(self, request: bytes, context: Context) -> bytes:
        """Answer."""
        await self.metadata(context)
        what = asked(request)
        self.compress(what, context)
        return await self.answer(what, context)

    async def streaming_input(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Add up the payloads."""
        total = 0
        async for request in requests:
            total += asked(request)["payload"]
        return str(total).encode()

    async def streaming_output(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Send a payload of each size."""
        what = asked(request)
        self.compress(what, context)
        for size in what["sizes"]:
            yield await self.answer({**what, "size": size}, context)

    async def full_duplex(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Answer each request before the next is read."""
        await self.metadata(context)
        async for request in requests:
            what = asked(request)
            if what.get("sleep"):
                await asyncio.Event().wait()
            yield await self.answer(what, context)


class InteropClient:
    """A client of it."""

    def __init__(self, address: Address) -> None:
        options = [
            ("grpc.default_authority", "interop.shop:9000"),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", 32 << 20),
        ]
        self.channel = grpc.aio.insecure_channel(str(address), options=options)
        path = "/grpc.testing.TestService/"
        self.empty = self.channel.unary_unary(path + "EmptyCall")
        self.unary = self.channel.unary_unary(path + "UnaryCall")
        self.streaming_input = self.channel.stream_unary(path + "StreamingInputCall")
        self.streaming_output = self.channel.unary_stream(path + "StreamingOutputCall")
        self.full_duplex = self.channel.stream_stream(path + "FullDuplexCall")
        self.unimplemented = self.channel.unary_unary(path + "UnimplementedCall")
        self.no_service = self.channel.unary_unary(
            "/grpc.testing.UnimplementedService/UnimplementedCall"
        )

    async def __aenter__(self) -> InteropClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
