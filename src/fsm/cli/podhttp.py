"""Plain HTTP/1.1 to a port inside a Pod, through the Kubernetes API's port-forward.

What comes in: a client, a Pod, a port, a path. What goes out: status and body. One ``PodHttp``
keeps its connection and opens a new one when that broke, so that it can be asked often and cheaply.

Invariants: every call ends within its timeout; an answer is read whole or not at all; the size of
an answer is bounded. It understands what our own admin pages and the example applications send:
``Content-Length``, ``chunked``, or an answer that ends with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.kube.streams import PortForwardReader, PortForwardWriter

BODY_BYTES_MAX = 256 * 1024 * 1024
"""LIMIT: bytes of one answer; a configuration dump of a large mesh is far smaller."""

HEAD_LINES_MAX = 200
"""LIMIT: header lines of one answer."""


class BadAnswer(Exception):
    """What came back is not an HTTP answer, or ended in its middle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes


class PodHttp:
    """Requests to one port of one Pod, one at a time, over one kept connection."""

    def __init__(self, client: KubeClient, namespace: str, pod: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        self._port = port
        self._stream: tuple[PortForwardReader, PortForwardWriter] | None = None

    async def get(self, path: str, timeout_s: float = 10.0) -> Answer:
        """Ask for ``path``.

        Raises:
            Failure: no answer within ``timeout_s`` seconds, or a broken one.
            ApiError: the API server refuses the port-forward.
        """
        return await self.request("GET", path, timeout_s)

    async def request(self, method: str, path: str, timeout_s: float = 10.0) -> Answer:
        """Send a request without a body; see ``get``."""
        where = f"Pod {self._namespace}/{self._pod}, port {self._port}"
        kept = self._stream is not None
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._attempt(method, path)
                except (BadAnswer, ConnectionError):
                    # A kept connection may have been closed since the last answer.
                    if not kept:
                        raise
                    return await self._attempt(method, path)
        except TimeoutError as error:
            text = f"no answer to {method} {path} within {timeout_s:g} s from {where}"
            raise Failure(text, code=ExitCode.TIMEOUT) from error
        except (BadAnswer, ConnectionError) as error:
            raise Failure(f"{method} {path} at {where}: {error}") from error

    async def get_json(self, path: str, timeout_s: float = 10.0) -> Any:
        """Ask for ``path`` and decode its JSON.

        Raises:
            Failure: as ``get``; the status is not 200, or the body is not JSON.
            ApiError: as ``get``.
        """
        answer = await self.get(path, timeout_s)
        where = f"GET {path} at Pod {self._namespace}/{self._pod}"
        if answer.status != 200:
            words = answer.body[:200].decode(errors="replace").strip()
            raise Failure(f"{where} answers {answer.status} {words}".rstrip())
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise Failure(f"{where} does not answer JSON: {error}") from error

    async def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with contextlib.suppress(ConnectionError, OSError, RuntimeError):
                await stream[1].close()

    async def _attempt(self, method: str, path: str) -> Answer:
        if self._stream is None:
            self._stream = await self._client.port_forward(self._namespace, self._pod, self._port)
        reader, writer = self._stream
        complete = False
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await writer.drain()
            answer, keep = await read_answer(reader)
            complete = keep
            return answer
        finally:
            if not complete:
                await self.close()


async def read_answer(reader: PortForwardReader) -> tuple[Answer, bool]:
    """Read one answer; also tell whether the connection can be used again.

    Raises:
        BadAnswer: it is not HTTP, too large, or ends early.
    """
    status, headers = await _head(reader)
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    length = headers.get("content-length")
    keep = headers.get("connection", "").lower() != "close" and (chunked or length is not None)
    if status in (204, 304):
        body = b""
    elif chunked:
        body = await _chunks(reader)
    elif length is not None:
        body = await _exactly(reader, _number(length, 10))
    else:
        body = await reader.read()
    return Answer(status, body), keep


async def _head(reader: PortForwardReader) -> tuple[int, dict[str, str]]:
    line = await reader.readline()
    if not line:
        raise BadAnswer("the connection was closed without an answer")
    words = line.decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswer(f"not an HTTP answer: {line[:80]!r}")
    headers: dict[str, str] = {}
    for _ in range(HEAD_LINES_MAX):
        line = await reader.readline()
        if line in (b"\r\n", b"\n"):
            return int(words[1]), headers
        if not line.endswith(b"\n"):
            raise BadAnswer("the answer ends in its headers")
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadAnswer(f"the answer has more than {HEAD_LINES_MAX} header lines")


async def _chunks(reader: PortForwardReader) -> bytes:
    body = bytearray()
    while True:
        size = _number((await reader.readline()).decode("latin-1").partition(";")[0].strip(), 16)
        if size == 0:
            break
        if len(body) + size > BODY_BYTES_MAX:
            raise BadAnswer(f"the answer is longer than {BODY_BYTES_MAX} bytes")
        body += await _exactly(reader, size)
        await reader.readline()
    while await reader.readline() not in (b"\r\n", b"\n", b""):
        pass
    return bytes(body)


async def _exactly(reader: PortForwardReader, count: int) -> bytes:
    if count > BODY_BYTES_MAX:
        raise BadAnswer(f"the answer is longer than {BODY_BYTES_MAX} bytes")
    body = bytearray()
    while len(body) < count:
        part = await reader.read(count - len(body))
        if not part:
            raise BadAnswer(f"the answer ends after {len(body)} of {count} bytes")
        body += part
    return bytes(body)


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BadAnswer(f"not a length: {text[:20]!r}")
    return number
