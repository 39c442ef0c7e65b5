"""SPDY/3.1 without IO: bytes in, frames out. kubectl speaks it inside websockets to forward ports.

What comes in: the bytes of one connection, cut anywhere. What goes out: frames (stream opened,
data, end, reset, ping), and the bytes of frames that we send.

Invariants: header blocks of a direction share one compression state, so every block is decoded,
even of streams that are refused; frames and headers have limits; flow control is not part of this
dialect (the clients of Kubernetes neither send nor heed window updates).
Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

# LIMIT of one frame: Kubernetes clients write 32 KiB at a time.
FRAME_BYTES_MAX = 1 << 20
# LIMIT of the headers of one stream: port-forward has three short ones.
HEADER_BYTES_MAX = 16 * 1024

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 0x01
_CONTROL = 0x8000 | 3

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language"
    " accept-ranges age allow authorization cache-control connection content-base content-encoding"
    " content-language content-length content-location content-md5 content-range content-type date"
    " etag expect expires from host if-match if-modified-since if-none-match if-range"
    " if-unmodified-since last-modified location max-forwards pragma proxy-authenticate"
    " proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status"
).split()
_MORE_WORDS = [
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
]
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, "
    "Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in [*_WORDS, *_MORE_WORDS])
    + _TAIL.encode()
)


class SpdyError(ValueError):
    """The peer does not speak SPDY/3.1 as it should; the connection must end."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opens a stream."""

    stream: int
    headers: dict[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; ``ended`` when the peer will send no more on it."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gives a stream up, or with stream 0 the whole connection."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for an echo; send ``Codec.pong``."""

    number: int


Frame = Opened | Data | Reset | Ping


@dataclass(slots=True)
class Codec:
    """One side of one connection."""

    _buffer: bytearray = field(default_factory=bytearray)
    _inflate: zlib._Decompress = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))
    _deflate: zlib._Compress = field(
        default_factory=lambda: zlib.compressobj(wbits=15, zdict=DICTIONARY)
    )

    def receive(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that are complete.

        Raises:
            SpdyError: they make no sense.
        """
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= 8:
            length = int.from_bytes(self._buffer[5:8])
            if length > FRAME_BYTES_MAX:
                raise SpdyError(f"a frame of {length} bytes, more than {FRAME_BYTES_MAX}")
            if len(self._buffer) < 8 + length:
                break
            head, body = bytes(self._buffer[:8]), bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            frame = self._frame(head, body)
            if frame is not None:
                frames.append(frame)
        return frames

    def _frame(self, head: bytes, body: bytes) -> Frame | None:
        first, second, flags = struct.unpack(">HHB", head[:5])
        ended = bool(flags & _FIN)
        if not first & 0x8000:
            return Data((first << 16 | second) & 0x7FFFFFFF, body, ended)
        if first != _CONTROL:
            raise SpdyError(f"version {first & 0x7FFF}, expected 3")
        if second == _GOAWAY:
            return Reset(0)
        if second not in (_SYN_STREAM, _RST_STREAM, _PING):
            return None
        minimum = 10 if second == _SYN_STREAM else 4
        if len(body) < minimum:
            raise SpdyError(f"a control frame of type {second} with {len(body)} bytes")
        number = int(struct.unpack(">I", body[:4])[0])
        if second == _SYN_STREAM:
            return Opened(number & 0x7FFFFFFF, self._headers(body[10:]), ended)
        return Ping(number) if second == _PING else Reset(number & 0x7FFFFFFF)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._inflate.decompress(block, HEADER_BYTES_MAX + 1)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be decompressed: {error}") from error
        if len(raw) > HEADER_BYTES_MAX:
            raise SpdyError(f"headers of more than {HEADER_BYTES_MAX} bytes")
        try:
            count, position = struct.unpack_from(">I", raw)[0], 4
            headers: dict[str, str] = {}
            for _ in range(count):
                name, position = _text(raw, position)
                value, position = _text(raw, position)
                headers[name.lower()] = value
        except (struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"malformed headers: {error}") from error
        return headers

    def reply(self, stream: int) -> bytes:
        """Encode the acceptance of a stream (without headers)."""
        block = self._deflate.compress(struct.pack(">I", 0))
        block += self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_REPLY, struct.pack(">I", stream) + block)

    def data(self, stream: int, data: bytes, *, ended: bool = False) -> bytes:
        """Encode bytes of a stream."""
        head = struct.pack(">IB", stream, _FIN if ended else 0) + len(data).to_bytes(3)
        return head + data

    def reset(self, stream: int) -> bytes:
        """Encode that we give a stream up (status 5, cancel)."""
        return _control(_RST_STREAM, struct.pack(">II", stream, 5))

    def pong(self, number: int) -> bytes:
        """Encode the echo of a ping."""
        return _control(_PING, struct.pack(">I", number))


def _text(raw: bytes, position: int) -> tuple[str, int]:
    length = struct.unpack_from(">I", raw, position)[0]
    start = position + 4
    if start + length > len(raw):
        raise struct.error("a text longer than the block")
    return raw[start : start + length].decode(), start + length


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">HHB", _CONTROL, kind, 0) + len(body).to_bytes(3) + body
