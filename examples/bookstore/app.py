"""What the four applications share: a small web server, their page, an orderly start and end.

What comes in: an ``App`` (its name, its counters, its routes, its background work). What goes out:
a process that answers HTTP/1.1 on ``PORT`` until SIGTERM or SIGINT, and then ends with code 0.

Every application answers ``GET /`` (its page), ``GET /counters`` (JSON), ``GET /health`` (for its
readiness probe) and ``POST /reset``.

Invariants: an answer carries its length, so connections stay open; request bodies are read and
bounded before anything is answered, so that a kept connection never loses its place; a handler
that fails costs its own request (500), never the process.
"""

import json
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from fsm_bookstore import page, settings
from fsm_bookstore.counters import Counters

BODY_BYTES_MAX = 64 * 1024
"""LIMIT: bytes of a request body; the shops send none."""

IDLE_TIMEOUT_S = 75
"""Seconds after which an idle kept connection is closed (what nginx does by default)."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Mapping[str, str]], Response]
"""Answers one request; takes its headers, names in lower case."""

Work = Callable[[threading.Event], None]
"""Runs beside the web server until the event is set."""


@dataclass(frozen=True, slots=True)
class App:
    """One application."""

    identity: str
    counters: Counters
    look: page.Look
    routes: Mapping[tuple[str, str], Route] = field(default_factory=dict)
    work: tuple[Work, ...] = ()


class Server(ThreadingHTTPServer):
    """The web server of one application; one daemon thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: App) -> None:
        self.app = app
        builtin: dict[tuple[str, str], Route] = {
            ("GET", "/"): lambda _: Response(
                page.render(app.look, app.identity, socket.gethostname()),
                content_type="text/html; charset=utf-8",
            ),
            ("GET", "/counters"): self._counters,
            ("GET", "/health"): lambda _: Response(b"ok\n"),
            ("POST", "/reset"): self._reset,
        }
        self.routes = {**builtin, **app.routes}
        self.paths = {path for _, path in self.routes}
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say what broke; a client that went away in the middle is nothing to report."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()

    def _counters(self, _: Mapping[str, str]) -> Response:
        body = {"identity": self.app.identity, **self.app.counters.snapshot()}
        return json_response(body)

    def _reset(self, _: Mapping[str, str]) -> Response:
        self.app.counters.reset()
        return json_response({"reset": True})


def json_response(body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``body`` as a JSON answer."""
    return Response(
        json.dumps(body).encode() + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def log(text: str) -> None:
    """Write one line for ``kubectl logs``, at once."""
    print(text, flush=True)


def main(build: Callable[[], App]) -> None:
    """Run an application as a process: the body of every ``python -m fsm_bookstore.NAME``."""
    try:
        app = build()
        server = Server(("0.0.0.0", settings.port()), app)
    except (settings.SettingsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    serve(app, server)


def serve(app: App, server: Server) -> None:
    """Serve until SIGTERM or SIGINT.

    The signals are blocked and waited for: PID 1 of a container, which has no default handlers,
    receives them so, and no handler runs in the middle of another function's lock.
    """
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    stop = threading.Event()
    threads = [threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)]
    threads += [threading.Thread(target=work, args=(stop,), daemon=True) for work in app.work]
    for thread in threads:
        thread.start()
    log(f"{app.identity}: listening on port {server.server_address[1]}")
    signal.sigwait(ends)
    stop.set()
    server.shutdown()
    server.server_close()
    log(f"{app.identity}: stopped")


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    # WHY: head and body leave in one segment. Unbuffered they are two, and the second waits for the
    # peer's delayed acknowledgement, 40 ms per request.
    wbufsize = -1
    disable_nagle_algorithm = True

    def version_string(self) -> str:
        return "bookstore"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request: the counters do."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_GET
    do_HEAD = do_GET

    def _answer(self) -> None:
        if not self._skip_body():
            return
        method = "GET" if self.command == "HEAD" else self.command
        path = urlsplit(self.path).path
        route = self.server.routes.get((method, path))
        if route is not None:
            response = self._run(route)
        elif path in self.server.paths:
            response = _plain(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not for {path}")
        else:
            response = _plain(HTTPStatus.NOT_FOUND, f"nothing at {path}")
        self._send(response)

    def _run(self, route: Route) -> Response:
        try:
            return route({name.lower(): value for name, value in self.headers.items()})
        except Exception:
            traceback.print_exc()
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed")

    def _skip_body(self) -> bool:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._send(_plain(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length"))
            return False
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._send(_plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too long"))
            return False
        self.rfile.read(int(length))
        return True

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()


def _plain(status: HTTPStatus, text: str) -> Response:
    return Response(f"{text}\n".encode(), status)
