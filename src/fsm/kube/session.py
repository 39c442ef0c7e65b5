"""HTTP to one Kubernetes API server: open, send, decode, and name what went wrong.

What comes in: a ``Connection`` and one request. What goes out: the decoded JSON object, or an
``ApiError`` whose message says what we were doing and what the server answered.

Invariants: every request has a timeout; every failure of the network is ``Unavailable``; nothing is
repeated here, because only the caller knows what is safe to repeat.
Not done here: what the requests mean (``client``).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from fsm.kube.connection import Connection
from fsm.kube.errors import ApiError, Unavailable, from_status

KubeObject = dict[str, Any]

_PIECEWISE_BYTES = 256 * 1024
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Timeouts and sizes of one session.

    Attributes:
        request_timeout_s: whole request, seconds.
        connect_timeout_s: TCP and TLS handshake, seconds.
        watch_timeout_s: how long the server keeps one watch open, seconds; it is resumed then.
        watch_grace_s: a watch silent for this much longer than that is taken for dead, seconds.
        page_size: objects per page of a list.
    """

    request_timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    watch_timeout_s: int = 290
    watch_grace_s: float = 15.0
    page_size: int = 500


@dataclass(slots=True)
class Session:
    """An open session with one API server; use it as ``async with``."""

    connection: Connection
    settings: ClientSettings = field(default_factory=ClientSettings)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        unix = self.connection.unix_socket
        connector = (
            aiohttp.UnixConnector(str(unix))
            if unix
            # LIMIT 0 (none): each watch holds a connection for as long as it lasts.
            else aiohttp.TCPConnector(ssl=self.connection.tls or False, limit=0)
        )
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def raw_get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Read any path of the server, such as ``/readyz`` or ``/version``."""
        response = await self.send("GET", path, f"get {path}", query or {})
        async with response:
            return await self._body(response, f"get {path}")

    async def request(
        self,
        method: str,
        path: str,
        action: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> KubeObject:
        """Send any request and decode the JSON object that comes back.

        Raises:
            ApiError: refused, unreachable, or the answer is not a JSON object.
        """
        data = None if body is None else orjson.dumps(body)
        sent = dict(headers or (_JSON if data is not None else {}))
        async with await self.send(method, path, action, query or {}, data, sent) as response:
            raw = await self._body(response, action)
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Unavailable(0, "BadAnswer", f"cannot {action}: not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise Unavailable(0, "BadAnswer", f"cannot {action}: the answer is no object")
        return answer

    def opened(self) -> aiohttp.ClientSession:
        """Return the HTTP session, for the streams that need it raw."""
        if self._session is None:
            raise RuntimeError("use the client inside `async with`")
        return self._session

    async def _body(self, response: aiohttp.ClientResponse, action: str) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _lost(self.connection, action, error) from error

    async def send(
        self,
        method: str,
        path: str,
        action: str,
        query: Mapping[str, str],
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request and return the successful response with its body unread.

        Raises:
            ApiError: refused or unreachable.
        """
        session = self.opened()
        wanted = {"Accept": "application/json", **(headers or {})}
        try:
            response = await session.request(
                method,
                # Already encoded: a client that normalised `..` would ask for another object.
                URL(self.connection.server + path, encoded=True),
                params=query,
                data=_payload(data),
                headers=wanted | self.connection.authorization(),
                allow_redirects=False,
                timeout=timeout
                or aiohttp.ClientTimeout(
                    total=self.settings.request_timeout_s,
                    connect=self.settings.connect_timeout_s,
                ),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _lost(self.connection, action, error) from error
        if response.status >= 300:
            async with response:
                raise from_status(
                    response.status, _decoded(await self._body(response, action)), action
                )
        return response


def _payload(data: bytes | None) -> bytes | io.BytesIO | None:
    """Wrap a large body, which is then sent piece by piece and does not hold up the loop."""
    return io.BytesIO(data) if data is not None and len(data) > _PIECEWISE_BYTES else data


def _lost(connection: Connection, action: str, error: BaseException) -> ApiError:
    where = connection.unix_socket or connection.server
    why = "timed out" if isinstance(error, asyncio.TimeoutError) else str(error)
    return Unavailable(0, "Unreachable", f"cannot {action}: {where} does not answer: {why}")


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")
