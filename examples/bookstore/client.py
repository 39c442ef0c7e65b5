"""An HTTP client that keeps one connection to one application and says in words what went wrong.

What comes in: method, path, headers. What goes out: a ``Reply``, or a ``CallFailed`` whose text a
person can read in a table of reasons ("connection refused", "empty reply").

Invariants: one request at a time per ``Client``; a connection that failed is never used again. A
request is sent again only when it went out on a kept connection that closed before the first byte
of an answer: then the peer closed an idle connection, and did not refuse the request
(RFC 9112 section 9.3.1). On a fresh connection the same event is an answer of the network, and
counts.
"""

import http.client
import queue
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fsm_bookstore.settings import Target

TIMEOUT_S = 5.0
"""Longest wait for a connection and for each part of an answer, in seconds."""

BODY_BYTES_MAX = 64 * 1024
"""LIMIT: bytes of an answer that are read; what the shops say is far shorter."""

REASON_CHARS_MAX = 60
"""LIMIT: characters of a refusal's body that go into the table of reasons."""


class CallFailed(Exception):
    """No answer arrived. The text is the reason, in words, without addresses."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the other side did what was asked of it."""
        return 200 <= self.status < 300

    def reason(self) -> str:
        """Return the status with the first words of the body: ``403 Access denied``."""
        first_line = self.body.decode("utf-8", "replace").strip().partition("\n")[0]
        words = "".join(c for c in first_line if c.isprintable())[:REASON_CHARS_MAX]
        return f"{self.status} {words}".rstrip()


class Client:
    """One kept-alive connection to ``target``, opened when needed."""

    def __init__(self, target: Target, timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """Send one request and read its answer.

        Raises:
            CallFailed: no complete answer arrived.
        """
        kept = self._connection is not None
        try:
            return self._attempt(method, path, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            if not kept:
                raise CallFailed(_in_words(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(_in_words(error)) from error
        try:
            return self._attempt(method, path, headers)
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(_in_words(error)) from error

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._target.host, self._target.port, timeout=self._timeout_s
            )
        try:
            self._connection.request(method, path, headers=dict(headers))
            answer = self._connection.getresponse()
            body = answer.read(BODY_BYTES_MAX)
            if answer.length and len(body) < BODY_BYTES_MAX:
                raise http.client.IncompleteRead(body, answer.length)
            complete = answer.isclosed()
        except BaseException:
            self.close()
            raise
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)
        if answer.will_close or not complete:
            self.close()
        return reply


class ClientPool:
    """Clients to one target for a web server whose requests run side by side."""

    def __init__(self, target: Target, timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue(maxsize=8)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Lend a client, with a kept connection when one is idle."""
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = Client(self._target, self._timeout_s)
        try:
            yield client
        finally:
            try:
                self._idle.put_nowait(client)
            except queue.Full:
                client.close()

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _in_words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "name not found"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    # RemoteDisconnected is a ConnectionResetError too, yet it means an orderly close without a
    # byte.
    if isinstance(error, http.client.RemoteDisconnected):
        return "empty reply"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset"
    if isinstance(error, http.client.IncompleteRead):
        return "answer cut short"
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return f"not an HTTP answer ({type(error).__name__})"
