"""Clients of HTTP/2 that make work and pay nothing, as endless rows of frames.

``FLOODS`` gives for each the frames, the code of the GOAWAY that ends it, and the label of the
counter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from proxyrig.h2wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    headers,
    request,
)

ENHANCE_YOUR_CALM, COMPRESSION_ERROR = 11, 9


def _streams() -> Iterator[int]:
    return iter(range(1, 100_000, 2))


def rapid_reset() -> Iterator[bytes]:
    for stream in _streams():
        cancel = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        yield headers(stream, *request(path=b"/hang")) + cancel


def made_you_reset() -> Iterator[bytes]:
    # The server resets the stream for a WINDOW_UPDATE of nothing.
    for stream in _streams():
        nothing = frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))
        yield headers(stream, *request(path=b"/hang")) + nothing


def continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, block(*request()))
    while True:
        yield frame(CONTINUATION, 0, 1, block((b"x", b"y")))


def empty_continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, block(*request()))
    while True:
        yield frame(CONTINUATION, 0, 1)


def settings() -> Iterator[bytes]:
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))


def pings() -> Iterator[bytes]:
    while True:
        yield frame(PING, 0, 0, b"ppppeeee")


def acknowledgements() -> Iterator[bytes]:
    while True:
        yield frame(PING, ACK, 0, b"ppppeeee")


def empty_data() -> Iterator[bytes]:
    yield headers(1, *request(b"POST"), ends=False)
    while True:
        yield frame(DATA, 0, 1)


def padding_only() -> Iterator[bytes]:
    yield headers(1, *request(b"POST"), ends=False)
    while True:
        yield frame(DATA, 8, 1, b"\x08" + b"\x00" * 8)


def priorities() -> Iterator[bytes]:
    while True:
        yield frame(PRIORITY, 0, 3, struct.pack(">IB", 1, 16))


def window_updates() -> Iterator[bytes]:
    yield headers(1, *request(path=b"/hang"))
    while True:
        yield frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))


def unknown_frames() -> Iterator[bytes]:
    while True:
        yield frame(0xFA, 0, 0, b"grease")


def table_sizes() -> Iterator[bytes]:
    # HPACK: a block that changes the size of the table again and again.
    yield frame(
        HEADERS, END_HEADERS | END_STREAM, 1, b"\x20\x3f\xe1\x1f" * 2000 + block(*request())
    )


FLOODS = {
    "rapid reset": (rapid_reset, ENHANCE_YOUR_CALM, "flood_resets"),
    "made you reset": (made_you_reset, ENHANCE_YOUR_CALM, "flood_stream_errors"),
    "CONTINUATION": (continuations, ENHANCE_YOUR_CALM, None),
    "empty CONTINUATION": (empty_continuations, ENHANCE_YOUR_CALM, None),
    "SETTINGS": (settings, ENHANCE_YOUR_CALM, "flood_settings"),
    "PING": (pings, ENHANCE_YOUR_CALM, "flood_pings"),
    "PING acknowledged": (acknowledgements, ENHANCE_YOUR_CALM, "flood_pings"),
    "empty DATA": (empty_data, ENHANCE_YOUR_CALM, "flood_empty_frames"),
    "padding": (padding_only, ENHANCE_YOUR_CALM, "flood_empty_frames"),
    "PRIORITY": (priorities, ENHANCE_YOUR_CALM, "flood_priorities"),
    "WINDOW_UPDATE": (window_updates, ENHANCE_YOUR_CALM, "flood_window_updates"),
    "unknown frames": (unknown_frames, ENHANCE_YOUR_CALM, "flood_ignored"),
    "table sizes": (table_sizes, COMPRESSION_ERROR, None),
}
