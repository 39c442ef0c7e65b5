"""Makes the example importable from a checkout that is not installed; a scripted HTTP peer.

``peers.open(*connections)`` is a real socket on a free port that answers the n-th connection with
the n-th script, one answer per request.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "bookstore"

if importlib.util.find_spec("fsm_bookstore") is None:
    spec = importlib.util.spec_from_file_location(
        "fsm_bookstore", EXAMPLE / "__init__.py", submodule_search_locations=[str(EXAMPLE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fsm_bookstore"] = module
    spec.loader.exec_module(module)

CLOSE = b""
"""In a script: close the connection instead of answering."""


class Peer:
    """Answers the n-th connection with the n-th script, one answer per request."""

    def __init__(self, *connections: Sequence[bytes]) -> None:
        self.requests: list[bytes] = []
        self.accepted = 0
        self._scripts = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self._thread.join(5)

    def _run(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                connection.settimeout(5)
                self._talk(connection, script)

    def _talk(self, connection: socket.socket, script: Sequence[bytes]) -> None:
        for answer in script:
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65536)
                if not part:
                    return
                head += part
            self.requests.append(head)
            if answer == CLOSE:
                return
            connection.sendall(answer)


class Peers:
    """Opens peers for one test; knows how answers are written."""

    CLOSE = CLOSE

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def open(self, *connections: Sequence[bytes]) -> Peer:
        return self._stack.enter_context(Peer(*connections))

    @staticmethod
    def answer(body: bytes = b"ok\n", status: str = "200 OK", *headers: str) -> bytes:
        return answer(body, status, *headers)


@pytest.fixture
def peers() -> Iterator[Peers]:
    with contextlib.ExitStack() as stack:
        yield Peers(stack)


def answer(body: bytes = b"ok\n", status: str = "200 OK", *headers: str) -> bytes:
    """Return a complete HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
