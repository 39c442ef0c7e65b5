"""HTTP/2 by hand: frames out, frames in; header blocks by the library, or as raw as a test wants.

``Frames`` is a connection that does nothing by itself: it acknowledges no SETTINGS and opens no
window. Blocks are encoded without indexing and without any check, so that a test may say what no
library would.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from types import TracebackType

import hpack

from proxyrig.wire import Address

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS = 1, 1, 4

Field = tuple[bytes, bytes]


@dataclass(frozen=True)
class Frame:
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Give the error code of RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        code: int = struct.unpack_from(">I", self.payload, at)[0]
        return code


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Write a field that no table knows, with lengths up to 16 KiB."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    out = b"\x7f"
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def block(*fields: Field) -> bytes:
    """Write a header block."""
    return b"".join(literal(name, value) for name, value in fields)


def request(
    method: bytes = b"GET", path: bytes = b"/", authority: bytes = b"shop"
) -> tuple[Field, ...]:
    """Give the four fields of a request."""
    return (
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", authority),
    )


def headers(stream: int, *fields: Field, ends: bool = True) -> bytes:
    """Write HEADERS with a whole block."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block(*fields))


@dataclass
class Message:
    """What came on a stream."""

    interim: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> int:
        """Give the status; zero when there is none."""
        return int(self.headers.get(":status", 0))


class Frames:
    """See the module."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.decoder = hpack.Decoder()
        self.goaway: int | None = None
        self.closed = False

    async def __aenter__(self) -> Frames:
        self.reader, self.writer = await asyncio.open_connection(
            self.address.host, self.address.port
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    async def begin(self, *settings: tuple[int, int]) -> None:
        """Send preface and SETTINGS."""
        payload = b"".join(struct.pack(">HI", *setting) for setting in settings)
        await self.send(PREFACE + frame(SETTINGS, 0, 0, payload))

    async def send(self, data: bytes) -> bool:
        """Send bytes; false when the other side has closed."""
        try:
            self.writer.write(data)
            async with asyncio.timeout(10):
                await self.writer.drain()
        except OSError:
            return False
        return True

    async def frame(self) -> Frame | None:
        """Read a frame; none at the end."""
        try:
            async with asyncio.timeout(10):
                head = await self.reader.readexactly(9)
                size = int.from_bytes(head[:3], "big")
                payload = await self.reader.readexactly(size)
        except TimeoutError:
            raise
        except (asyncio.IncompleteReadError, OSError):
            self.closed = True
            return None
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        read = Frame(head[3], head[4], stream, payload)
        if read.kind == GOAWAY:
            self.goaway = read.code
        return read

    async def message(self, stream: int) -> Message:
        """Read until a stream has ended, or the connection."""
        message = Message()
        while not message.ended and message.reset is None:
            read = await self.frame()
            if read is None:
                break
            if read.stream != stream:
                continue
            if read.kind == HEADERS:
                assert read.flags & END_HEADERS, "responses of tests fit one frame"
                fields = dict(self.decoder.decode(read.payload))
                if fields.get(":status", "").startswith("1"):
                    message.interim.append(fields)
                elif message.headers:
                    message.trailers = fields
                else:
                    message.headers = fields
            elif read.kind == DATA:
                message.body += read.payload
            elif read.kind == RST_STREAM:
                message.reset = read.code
            message.ended |= read.kind in (HEADERS, DATA) and bool(read.flags & END_STREAM)
        return message

    async def until_closed(self) -> int | None:
        """Read to the end of the connection; give the code of its GOAWAY."""
        while await self.frame() is not None:
            pass
        return self.goaway
