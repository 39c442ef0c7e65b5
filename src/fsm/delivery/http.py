"""HTTP/1.1 for clients that mostly wait for an answer.

In: what ``Channel`` receives. Out: an ``Exchange`` for each request, which whoever gets it answers
now or later, once; what it answers goes back in the order of the requests.

    request read ──► handler(exchange) ──► exchange.reply(…) ──► next request, or closed
                          └─ the client leaves before: exchange.left()

WHY not a web framework: a change that concerns everyone is 2,000 answers and 2,000 requests, each
of which cost a task, a router, middlewares and a dozen objects; a waiting request here is an entry
in a set. The parser is llhttp (``httptools``).

Invariants: whatever a client sends costs that client its connection at most; head, body and what is
sent ahead of an answer have limits; an answer is written whole or the connection is cut.
Not here: paths, JSON (``server``), TLS (``channel``).
Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import parse_qsl

import httptools
import orjson

from fsm.delivery.channel import Bytes, Channel, Channels

log = logging.getLogger("fsm.delivery")

# LIMIT: of the head of a request. The longest header is a token, of one or two kilobytes.
HEAD_BYTES_MAX = 32 * 1024
# LIMIT: a request holds at most a signing request or a reason; see csr.CSR_BYTES_MAX.
REQUEST_BYTES_MAX = 64 * 1024
# LIMIT: of a body that is too large, what is read so that the client hears why before the end.
REFUSED_BYTES_MAX = 1024 * 1024
# LIMIT: requests that a client sends ahead of answers; ours send none.
AHEAD_MAX = 8
# LIMIT: until a request has come whole, or the next begins, seconds. Proxies poll again at once.
IDLE_S = 75.0
# LIMIT: for one answer on its way, seconds: 20 MB at 64 kB/s.
SENDING_S = 300.0
# LIMIT: of one write of a long answer; more than one waits for the client to read.
SLICE_BYTES = 64 * 1024

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {226: "IM Used"}
_BODILESS = (204, 304)

Pieces = bytes | Iterator[Bytes]


class Exchange:
    """One request, and where its answer goes."""

    __slots__ = ("_connection", "body", "headers", "left", "method", "path", "query")

    def __init__(
        self,
        connection: Connection,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Hold what was read.

        Args:
            connection: where it came from.
            method: such as ``GET``.
            path: decoded by nobody.
            query: its parameters, of namesakes the last.
            headers: by name in lower case; values of namesakes joined with commas.
            body: the whole.
        """
        self._connection = connection
        self.method, self.path, self.query = method, path, query
        self.headers, self.body = headers, body
        self.left: Callable[[], object] | None = None
        """Is called if the client leaves before the answer."""

    @property
    def tls(self) -> ssl.SSLObject:
        """What TLS knows of the client."""
        return self._connection.tls

    @property
    def pending(self) -> bool:
        """Whether an answer is still wanted."""
        return self._connection.answers(self)

    def reply(
        self,
        status: int,
        body: Pieces = b"",
        *,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer; of several answers, and once the client has left, only the first counts.

        Args:
            status: of HTTP.
            body: JSON, whole or in pieces, each taken when the last has gone.
            size: of all pieces, bytes.
            headers: beside those that every answer has.
        """
        if self.pending:
            self.left = None
            self._connection.send(status, body, size, headers or {})


Handler = Callable[[Exchange], None]


class Connection(Channel):
    """Reads requests and writes answers, in order."""

    def __init__(
        self,
        handler: Handler,
        context: ssl.SSLContext,
        buffer: memoryview,
        all_of_them: Channels,
    ) -> None:
        super().__init__(context, buffer, all_of_them)
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._reading_head, self._head_bytes = True, 0
        self._reset()
        self._now: Exchange | None = None
        self._last = False
        self._pieces: Iterator[Bytes] | None = None
        self._next: deque[tuple[Exchange, bool]] = deque()

    def answers(self, exchange: Exchange) -> bool:
        """Whether this is what is to be answered now."""
        return self._now is exchange and self._pieces is None and not self.closing

    def send(self, status: int, body: Pieces, size: int | None, more: Mapping[str, str]) -> None:
        """Write an answer; see ``Exchange.reply``."""
        assert self._now is not None, "there is something to answer"
        whole = body if isinstance(body, bytes) else None
        length = len(whole) if whole is not None else size
        if status in _BODILESS or self._now.method == "HEAD":
            whole = b""
        head = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", _date(int(time.time()))]
        if status not in _BODILESS:
            head += ["Content-Type: application/json", f"Content-Length: {length}"]
        head += [f"{name}: {value}" for name, value in more.items()]
        if self._last:
            head.append("Connection: close")
        text = "\r\n".join([*head, "", ""]).encode("latin-1")
        if whole is not None and len(whole) <= SLICE_BYTES:
            self.write(text + whole)
            self._answered()
            return
        self.write(text)
        self._pieces = _slices(body)
        self.due = asyncio.get_running_loop().time() + SENDING_S
        self.resumed()

    def finish(self) -> None:
        """Close after the answer that is due, or now if none is."""
        self._last = True
        self._next.clear()
        if self._now is None:
            self.close()

    # What the channel calls.

    def opened(self) -> None:
        """Wait for the first request."""
        self._idle()

    def received(self, data: bytes) -> None:
        """Parse."""
        if self._reading_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # RFC 9110 section 7.8: it is answered as if it had not asked; nothing comes after it.
            log.debug("no other protocol is spoken here")
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP: {error}")
        else:
            if self._reading_head and self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(431, f"the head is longer than {HEAD_BYTES_MAX} bytes")

    def resumed(self) -> None:
        """Write more of a long answer."""
        if self._pieces is None:
            return
        for piece in self._pieces:
            self.write(piece)
            if self.full:
                return
        self._pieces = None
        self._answered()

    def lost(self) -> None:
        """Tell whoever still works on an answer."""
        now, self._now = self._now, None
        self._next.clear()
        self._pieces = None
        # It knows methods of this object, and is known to it.
        del self._parser
        if now is not None and now.left is not None:
            left, now.left = now.left, None
            left()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Let a careful client go on."""
        self._reading_head = False
        if self._headers.get("expect", "").lower() == "100-continue" and self._now is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; of one that is too large nothing is kept."""
        self._body_bytes += len(body)
        if self._body_bytes <= REQUEST_BYTES_MAX:
            self._body.append(body)
            return
        self._body.clear()
        if self._body_bytes > REFUSED_BYTES_MAX:
            self._refuse(413, _TOO_LARGE)

    def on_message_complete(self) -> None:
        """Hand the request on, or refuse it."""
        self._reading_head, self._head_bytes = True, 0
        if self.closing:
            return
        if self._body_bytes > REQUEST_BYTES_MAX:
            self._refuse(413, _TOO_LARGE)
            return
        try:
            url = httptools.parse_url(self._url)
        except httptools.HttpParserError:
            self._refuse(400, "the target is no URL")
            return
        exchange = Exchange(
            self,
            self._parser.get_method().decode("latin-1"),
            (url.path or b"/").decode("latin-1"),
            _parameters((url.query or b"").decode("latin-1")),
            self._headers,
            b"".join(self._body),
        )
        last = not self._parser.should_keep_alive() or "upgrade" in self._headers
        if self._now is None:
            self._begin(exchange, last)
        elif len(self._next) < AHEAD_MAX:
            self._next.append((exchange, last))
        else:
            self.abort()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _begin(self, exchange: Exchange, last: bool) -> None:
        self._now, self._last = exchange, last
        # Whoever answers knows how long that may take.
        self.due = math.inf
        try:
            self._handler(exchange)
        except Exception:
            log.exception("a request failed %s %s", exchange.method, exchange.path)
            exchange.reply(500, b'{"error":"the control plane failed to answer this request"}')

    def _answered(self) -> None:
        self._now = None
        if self._last:
            self.close()
        elif self._next:
            self._begin(*self._next.popleft())
        else:
            self._idle()

    def _idle(self) -> None:
        self.due = asyncio.get_running_loop().time() + IDLE_S

    def _refuse(self, status: int, why: str) -> None:
        """Answer what cannot be read, and close: where the next request begins is not known."""
        if self.closing:
            return
        if self._now is not None:
            # What is being answered came before; there is no place for this answer.
            self.abort()
            return
        log.debug("refused a request status=%d: %s", status, why)
        self._now = Exchange(self, "", "", {}, {}, b"")
        self._last = True
        self._now.reply(status, orjson.dumps({"error": why}))


_TOO_LARGE = f"the body is larger than {REQUEST_BYTES_MAX} bytes"


def _slices(body: Pieces) -> Iterator[Bytes]:
    if not isinstance(body, bytes):
        yield from body
        return
    view = memoryview(body)
    for begin in range(0, len(view), SLICE_BYTES):
        yield view[begin : begin + SLICE_BYTES]


def _parameters(query: str) -> dict[str, str]:
    if "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True))
    # WHY: a poll has nothing to decode, and there are many.
    parts = (part.partition("=") for part in query.split("&") if part)
    return {name: value for name, _, value in parts}


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"
