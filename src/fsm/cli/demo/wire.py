"""Reads a packet capture and tells whether what travelled could be read.

What comes in: the bytes of a pcap file. What goes out: the TCP payloads in it, how many of them
start a TLS record, and where words that only a plain HTTP message holds were found.

Invariants: pure; a capture that was cut off in its middle gives what was complete; packets that are
not TCP over IPv4 or IPv6 are counted and skipped.
Source: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html, RFC 8446 section 5.1
(records).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ETHERNET, RAW_IP = 1, 101

PLAIN_WORDS = (
    b"HTTP/1.1",
    b"GET /",
    b"/buy-a-book",
    b"/books-bought",
    b"client-app",
    b"bookstore-http-client",
    b"Booksbought",
)
"""What the requests and answers of the bookstore consist of; none may be seen between two Pods."""


class BadCapture(Exception):
    """The bytes are not a capture that this module reads."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment that carries data."""

    source: str
    target: str
    source_port: int
    target_port: int
    payload: bytes

    def is_tls_record(self) -> bool:
        """Whether the payload starts with a TLS record header: type, version 3.x, length."""
        head = self.payload[:5]
        return (
            len(head) == 5
            and 20 <= head[0] <= 23
            and head[1] == 3
            and head[2] <= 4
            and 0 < int.from_bytes(head[3:5], "big") <= 2**14 + 256
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a capture shows."""

    segments: tuple[Segment, ...]
    other_packets: int

    @property
    def data_bytes(self) -> int:
        """How many bytes of TCP payload were seen."""
        return sum(len(segment.payload) for segment in self.segments)

    @property
    def tls_records(self) -> int:
        """How many segments start a TLS record."""
        return sum(segment.is_tls_record() for segment in self.segments)

    def between(self, address: str) -> Evidence:
        """Return what was sent to or by ``address``."""
        chosen = (s for s in self.segments if address in (s.source, s.target))
        return Evidence(tuple(chosen), 0)

    def without(self, address: str) -> Evidence:
        """Return what was sent neither to nor by ``address``."""
        chosen = (s for s in self.segments if address not in (s.source, s.target))
        return Evidence(tuple(chosen), 0)

    def readable(self, words: Sequence[bytes] = PLAIN_WORDS) -> list[tuple[bytes, Segment]]:
        """Return each word that can be read, with the segment it is in.

        A word may be cut by the border of two segments, so each flow is searched as one stream too.
        """
        found = [(w, s) for s in self.segments for w in words if w in s.payload]
        flows: dict[tuple[str, int, str, int], list[Segment]] = {}
        for s in self.segments:
            flows.setdefault((s.source, s.source_port, s.target, s.target_port), []).append(s)
        for flow in flows.values():
            stream = b"".join(s.payload for s in flow)
            known = {word for word, segment in found if segment in flow}
            found += [(w, flow[0]) for w in words if w in stream and w not in known]
        return found


def read(capture: bytes) -> Evidence:
    """Return the evidence in a pcap file.

    Raises:
        BadCapture: it is not a pcap file, or of a link type that is not read.
    """
    segments: list[Segment] = []
    others = 0
    for packet in _ip_packets(capture):
        segment = _segment(packet)
        if segment is None:
            others += 1
        elif segment.payload:
            segments.append(segment)
    return Evidence(tuple(segments), others)


def hex_lines(data: bytes, count: int = 3) -> list[str]:
    """Return the first lines of a hex dump: offset, bytes, and what of them is text."""
    lines = []
    for offset in range(0, min(len(data), 16 * count), 16):
        row = data[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
        lines.append(f"{offset:04x}  {row.hex(' ', 1):<47}  {text}")
    return lines


def _ip_packets(capture: bytes) -> Iterator[bytes]:
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<"}
    orders |= {b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
    order = orders.get(capture[:4])
    if order is None or len(capture) < 24:
        raise BadCapture(f"not a pcap file: it starts with {capture[:4].hex(' ') or 'nothing'}")
    (link,) = struct.unpack_from(f"{order}I", capture, 20)
    link &= 0x0FFFFFFF
    if link not in (ETHERNET, RAW_IP):
        raise BadCapture(f"link type {link} is not read here (Ethernet and raw IP are)")
    at = 24
    while at + 16 <= len(capture):
        (length,) = struct.unpack_from(f"{order}I", capture, at + 8)
        at += 16
        frame = capture[at : at + length]
        at += length
        if len(frame) < length:
            return
        if link == RAW_IP:
            yield frame
        elif frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
            yield frame[14:]


def _segment(packet: bytes) -> Segment | None:
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20 and packet[9] == 6:
        start, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        source, target = packet[12:16], packet[16:20]
        # A total of 0 is how segmentation offload shows packets longer than 64 KiB.
        tcp = packet[start : total or None]
    elif version == 6 and len(packet) >= 40 and packet[6] == 6:
        source, target = packet[8:24], packet[24:40]
        tcp = packet[40:]
    else:
        return None
    if len(tcp) < 20:
        return None
    source_port, target_port = struct.unpack_from(">HH", tcp)
    payload = tcp[(tcp[12] >> 4) * 4 :]
    return Segment(_address(source), _address(target), source_port, target_port, payload)


def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
