"""A server of the machine itself, beyond the box: what is asked there has found the way out."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest


def address() -> str:
    """Find an address of this machine that is not a loopback one; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        return str(sock.getsockname()[0])


@contextlib.contextmanager
def datagrams() -> Iterator[tuple[str, int]]:
    """Answer datagrams with ``beyond:`` and what came; gives the address and the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address(), 0))
    where: tuple[str, int] = sock.getsockname()

    def serve() -> None:
        while True:
            data, who = sock.recvfrom(65535)
            if not data:
                return
            with contextlib.suppress(OSError):
                sock.sendto(b"beyond:" + data, who)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield where
    finally:
        sock.sendto(b"", where)
        thread.join(10)
        sock.close()
