"""Record what crosses a Pod's link, as a pcap stream: what `tcpdump -w` would write.

What comes in: the name of the link in the box, limits, maybe a port. What goes out: chunks of a
pcap file (header first), until a limit is reached.

Invariants: reading never slows the Pod: what we cannot take in time the kernel drops; the filter
looks at TCP and UDP ports of IPv4 only. Not done here: who may ask (``server``).
Source: packet(7); https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator

_ETH_P_ALL = 0x0003
_SNAP_BYTES = 65535
_LINKTYPE_ETHERNET = 1


async def capture(
    link: str, seconds: float, max_bytes: int, port: int | None = None
) -> AsyncIterator[bytes]:
    """Record packets of a link.

    Args:
        link: interface in the box's network namespace.
        seconds: how long to record.
        max_bytes: how much to record at most.
        port: only packets from or to this TCP or UDP port; ``None`` means all.

    Raises:
        OSError: there is no such link.

    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((link, _ETH_P_ALL))
        yield struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAP_BYTES, _LINKTYPE_ETHERNET)
        deadline_s = loop.time() + seconds
        written = 0
        while written < max_bytes:
            try:
                async with asyncio.timeout_at(deadline_s):
                    frame = await loop.sock_recv(sock, _SNAP_BYTES)
            except TimeoutError:
                return
            if port is not None and not _has_port(frame, port):
                continue
            now = time.time()
            head = struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame))
            written += len(head) + len(frame)
            yield head + frame


def _has_port(frame: bytes, port: int) -> bool:
    """Tell whether an Ethernet frame is IPv4 TCP or UDP from or to ``port``."""
    if len(frame) < 38 or frame[12:14] != b"\x08\x00":
        return False
    start = 14 + (frame[14] & 0x0F) * 4
    fragment = int.from_bytes(frame[20:22], "big") & 0x1FFF
    if frame[23] not in (6, 17) or fragment or len(frame) < start + 4:
        return False
    source, target = struct.unpack_from("!HH", frame, start)
    return port in (source, target)
