"""A large configuration on its way to one proxy, while 2,000 others are on theirs.

In: a ``Compiled`` whose parts are shared. Out: its bytes, slice by slice, each when the last has
gone. Invariants: no copy of the whole is ever made; what waits in this process for a slow proxy is
a few slices. Without that a change that concerns everyone takes the memory of all configurations at
once, and OpenSSL's buffers keep it: they grow to the largest write and never shrink.

Not here: HTTP (``server``).
"""

from __future__ import annotations

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from fsm.delivery.registry import Compiled

# LIMIT: of one write, and of what waits to be sent to one proxy; 64 KiB is four TLS records.
SLICE_BYTES = 64 * 1024


class SlicedBody(Payload):
    """The body of a response; aiohttp calls ``write`` once the head is sent."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__(compiled, content_type="application/json")
        self._compiled = compiled
        self._size = compiled.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the whole as text."""
        return self._compiled.body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write slice by slice; the writer waits while the proxy does not read."""
        for piece in self._compiled.slices(SLICE_BYTES):
            await writer.write(piece)
            await writer.drain()
