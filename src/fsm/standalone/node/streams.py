"""Two connections made one: what the gateway does, both for the way out and for the way in.

What comes in: two pairs of streams. What goes out: the bytes of each at the other.

Invariants: what one side has not taken is not read from the other; an end of one direction is
passed on as such, while the other direction goes on; when one side is lost the other is reset.
Not done here: who is connected to whom (``gateway``, ``host_ports``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_CHUNK = 64 << 10

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(near: Streams, far: Streams) -> None:
    """Carry bytes both ways until both have ended; closes both."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(near[0], far[1]))
            group.create_task(_carry(far[0], near[1]))
    except* OSError:
        # One side was lost: so is the other, and it shall know.
        reset(near[1])
        reset(far[1])
    finally:
        for _, writer in (near, far):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that its peer reads an error, not an end."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
