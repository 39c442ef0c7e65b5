"""``fsm plugin test``: runs a plugin against one request, and shows what it changed.

What comes in: a PipyJS file, a request line with headers and a body, what the service tells the
plugin. What goes out: the heads and bodies that the server and the client saw, as differences.

How: a sidecar of this machine with one rule, the plugin in its chain, a server that answers 200
and tells what it was asked. Invariants: it is the proxy that runs in the mesh; nothing listens
beyond loopback, and nothing stays. Not here: objects of the mesh; a cluster that a plugin names.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Annotated, Any, Literal

import typer

from fsm.cli.errors import ExitCode, Failure

STARTS_WITHIN_S = 10.0
ANSWERS_WITHIN_S = 30.0
Pairs = list[tuple[str, str]]


@dataclass(slots=True)
class Seen:
    """A message as one end saw it."""

    line: str = ""
    headers: Pairs = field(default_factory=list)
    body: bytes = b""


def build() -> typer.Typer:
    """Return the ``plugin`` group."""
    group = typer.Typer(help="Scripts in the chains of sidecars.", no_args_is_help=True)
    # A group of one command would be that command.
    group.callback()(lambda: None)
    group.command("test")(run_once)
    return group


def run_once(
    file: Annotated[Path, typer.Argument(help="The plugin: a PipyJS file, or its manifest.")],
    request: Annotated[
        str, typer.Option("--request", help="Method and path, such as 'GET /get'.")
    ] = "GET /",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="'name: value'; repeatable.")
    ] = None,
    data: Annotated[str, typer.Option("--data", "-d", help="The body of the request.")] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", help="JSON or YAML: what the service tells the plugin."),
    ] = None,
    chain: Annotated[
        str, typer.Option("--chain", help="inbound-http or outbound-http.")
    ] = "inbound-http",
) -> None:
    """Run a plugin against a request; show what it changed."""
    if chain not in ("inbound-http", "outbound-http"):
        raise Failure(f"{chain} is no chain of HTTP", code=ExitCode.USAGE)
    side: Literal["inbound", "outbound"] = "inbound" if chain == "inbound-http" else "outbound"
    method, _, path = request.partition(" ")
    if not method.isalpha() or not path.startswith("/"):
        raise Failure(f"{request!r} is no request", hint="such as 'GET /get'", code=ExitCode.USAGE)
    headers = [_header(text) for text in header or ()]
    with tempfile.TemporaryDirectory(prefix="fsm-plugin-") as folder, _server() as (port, arrived):
        document = _document(file, _told(config), side, port)
        with _sidecar(Path(folder), document, side) as listener:
            sent = Seen(f"{method} {path}", headers, data.encode())
            answer = _ask(listener, method, path, headers, data.encode())
    _show("request", sent, arrived[0] if arrived else None)
    plain = Seen("200", [("content-type", "text/plain")], b"ok\n")
    _show("response", plain if arrived else Seen(), answer)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Failure(f"{text!r} is no header", hint="such as 'x-one: 1'", code=ExitCode.USAGE)
    return name.strip().lower(), value.strip()


def _told(config: Path | None) -> object:
    if config is None:
        return None
    import yaml

    try:
        return yaml.safe_load(config.read_text())
    except OSError as error:
        raise Failure(f"{config} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise Failure(f"{config} cannot be read: {' '.join(str(error).split())}") from error


def _from_manifest(file: Path, text: str) -> tuple[str, str]:
    """Return name and script of the one Plugin in a manifest."""
    import yaml

    try:
        found = [
            (str(document["metadata"]["name"]), str(document["spec"]["pipyscript"]))
            for document in yaml.safe_load_all(text)
            if isinstance(document, dict) and document.get("kind") == "Plugin"
        ]
    except (ValueError, yaml.YAMLError) as error:
        raise Failure(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError) as error:
        raise Failure(f"{file} has a Plugin without metadata.name or spec.pipyscript") from error
    if len(found) != 1:
        raise Failure(f"{file} has {len(found)} Plugins, and one is run at a time")
    return found[0]


def _document(file: Path, told: object, side: str, port: int) -> dict[str, Any]:
    try:
        script = file.read_text()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Failure(f"{file} is not text: {error}") from error
    name = file.stem
    if file.suffix in (".yaml", ".yml"):
        name, script = _from_manifest(file, script)
    stage = [f"modules/{side}-http-{part}.js" for part in ("routing", "load-balancing", "default")]
    target = [{"cluster": "server", "weight": 100}]
    rule = {
        "names": ["*"],
        "service": "test/server",
        "origin": "Service/test/server",
        "plugins": {} if told is None else {name: told},
        "routes": [{"origin": "test", "path": {"prefix": "/"}, "clusters": target}],
    }
    match = {"protocol": "http", "origin": "Service/test/server", "hosts": [rule], "port": 0}
    if side == "inbound":
        match["mtls"] = "disabled"
    server = {"origin": "test", "endpoints": [{"address": f"127.0.0.1:{port}"}]}
    return {
        "version": "test",
        side: {"matches": [match]},
        "clusters": {"server": server},
        "telemetry": {"access_log": "off"},
        "plugins": [{"name": name, "origin": str(file), "script": script}],
        "chains": {f"{side}-http": [stage[0], f"plugins/{name}.js", *stage[1:]]},
    }


@contextmanager
def _server() -> Iterator[tuple[int, list[Seen]]]:
    arrived: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Any:
            # Whatever the method is called.
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = [(name.lower(), value) for name, value in self.headers.items()]
            arrived.append(Seen(f"{self.command} {self.path}", headers, body))
            self.send_response_only(200)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", "3")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"ok\n")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what arrived is shown."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1], arrived
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _sidecar(folder: Path, document: dict[str, Any], side: str) -> Iterator[int]:
    """Start the proxy; give the port that takes requests."""
    beside = Path(sys.executable).with_name("pipy")
    program = str(beside) if beside.exists() else shutil.which("pipy")
    if program is None:
        raise Failure("the proxy, pipy, is not installed here")
    file = folder / "config.json"
    # The rule is about the port, which the kernel chooses: the listener must be there first.
    file.write_text(json.dumps({"version": "boot", side: {}}))
    flags = ("inbound", "outbound", "admin", "metrics")
    process = subprocess.Popen(
        [program, "sidecar", f"--config={file}", *(f"--{flag}=127.0.0.1:0" for flag in flags)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=_read, args=(process, lines))
    reader.start()
    try:
        said = _until(lines, "applied")
        admin = next(line for line in said if " admin-listener on " in line)
        port = _listener(int(admin.rpartition(":")[2]), f"{side}-listener")
        document[side]["matches"][0]["port"] = port
        file.write_text(json.dumps(document))
        process.send_signal(signal.SIGHUP)
        _until(lines, "applied")
        yield port
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stderr is not None:
            process.stderr.close()
        while not lines.empty():
            print(lines.get(), file=sys.stderr)


def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.put(line.rstrip("\n"))


def _until(lines: Queue[str], word: str) -> list[str]:
    said: list[str] = []
    try:
        while True:
            said.append(lines.get(timeout=STARTS_WITHIN_S))
            if "refused" in said[-1]:
                # An excerpt of the script may follow.
                rest = [lines.get() for _ in range(lines.qsize())]
                why = said[-1].partition("refused a configuration: ")[2] or said[-1]
                raise Failure("\n".join([why, *rest]))
            if word in said[-1]:
                return said
    except Empty:
        raise Failure("the proxy did not start", hint="\n".join(said) or None) from None


def _listener(admin: int, name: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=STARTS_WITHIN_S)
    connection.request("GET", "/listeners")
    text = connection.getresponse().read().decode()
    connection.close()
    found = next(line for line in text.splitlines() if line.startswith(f"{name}::"))
    return int(found.rpartition(":")[2])


def _ask(port: int, method: str, path: str, headers: Pairs, body: bytes) -> Seen:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        got = [(name.lower(), value) for name, value in answer.getheaders()]
        return Seen(str(answer.status), got, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"no answer came: {error or type(error).__name__}") from error
    finally:
        connection.close()


_CARRIED = ("host", "connection", "content-length", "serviceidentity", "transfer-encoding")
"""Headers that the proxy itself sets."""


def _show(what: str, before: Seen, after: Seen | None) -> None:
    if after is None:
        print(f"{what}: did not reach the server")
        return
    print(f"{what}: {after.line}")
    if before.line and before.line != after.line:
        print(f"  was {before.line}")
    old = [pair for pair in before.headers if pair[0] not in _CARRIED]
    new = [pair for pair in after.headers if pair[0] not in _CARRIED]
    for mark, pairs, others in (("-", old, new), ("+", new, old)):
        for name, value in pairs:
            if (name, value) not in others:
                print(f"  {mark} {name}: {value}")
    if before.body != after.body:
        print(f"  body: {after.body.decode(errors='replace').rstrip()}")
