"""Real servers on free ports, each writing down every request that it read: method, target, body.

In: a scratch directory. Out: running servers, and what they have seen. A server's configuration is
in ``tests/differential/servers``; ``{port}`` and the like are filled in. A server that is not
installed is left out; the test demands eight.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from proxyrig.waiting import until
from proxyrig.wire import Address

FILES = Path(__file__).parents[2] / "servers"

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/go/bin"])


@dataclass(frozen=True)
class Seen:
    """A request as a server read it. Some servers tell only the length of a body."""

    method: str
    target: str
    length: int
    body: bytes | None


@dataclass(frozen=True)
class Kind:
    """How a server is started: the program that must be there, and its arguments."""

    name: str
    needs: str
    command: Callable[[Path, int, Path], list[str]]
    # Whether what it read goes to standard output rather than to the file that it is told.
    prints: bool = True


def _fill(name: str, directory: Path, port: int, seen: Path) -> str:
    text = (FILES / name).read_text()
    for word, value in (
        ("{directory}", directory),
        ("{port}", port),
        ("{seen}", seen),
        ("{servers}", FILES),
        ("{modules}", "/usr/lib/apache2/modules"),
    ):
        text = text.replace(word, str(value))
    path = directory / name
    path.write_text(text)
    return str(path)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _asgi(module: str, *arguments: str) -> list[str]:
    return _python("-m", module, *arguments, "asgi_app:app")


KINDS: tuple[Kind, ...] = (
    Kind("nginx", "nginx", lambda d, p, s: ["nginx", "-c", _fill("nginx.conf", d, p, s)], False),
    Kind(
        "HAProxy",
        "haproxy",
        lambda d, p, s: ["haproxy", "-db", "-f", _fill("haproxy.cfg", d, p, s)],
    ),
    Kind(
        "Apache",
        "apache2",
        lambda d, p, s: ["apache2", "-X", "-f", _fill("apache.conf", d, p, s)],
        False,
    ),
    Kind(
        "Caddy",
        "caddy",
        lambda d, p, s: [
            *("caddy", "run", "--adapter", "caddyfile", "--config"),
            _fill("Caddyfile", d, p, s),
        ],
        False,
    ),
    Kind("Node", "node", lambda d, p, s: ["node", str(FILES / "node.js"), str(p)]),
    Kind("Go", "go", lambda d, p, s: [str(d / "go-server"), str(p)]),
    Kind(
        "PHP",
        "php",
        lambda d, p, s: ["php", "-S", f"127.0.0.1:{p}", str(FILES / "router.php")],
        False,
    ),
    Kind(
        "gunicorn",
        sys.executable,
        lambda d, p, s: _python(
            *("-m", "gunicorn", "-b", f"127.0.0.1:{p}", "-k", "gthread", "--threads", "4"),
            *("--keep-alive", "60", "--log-level", "critical", "wsgi_app:app"),
        ),
    ),
    Kind(
        "uvicorn",
        sys.executable,
        lambda d, p, s: _asgi(
            *("uvicorn", "--port", str(p), "--http", "h11", "--log-level", "critical"),
            *("--timeout-keep-alive", "60"),
        ),
    ),
    Kind(
        "Hypercorn",
        sys.executable,
        lambda d, p, s: _asgi(
            *("hypercorn", "-b", f"127.0.0.1:{p}", "--keep-alive", "60", "--log-level", "critical"),
        ),
    ),
    Kind("aiohttp", sys.executable, lambda d, p, s: _python(str(FILES / "aiohttp_app.py"), str(p))),
)


class Server:
    """A running server."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.name = kind.name
        self.address = Address("127.0.0.1", 0)
        self._kind = kind
        self._directory = directory
        self._file = directory / "seen.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Server:
        self._directory.mkdir(parents=True)
        if self._kind.name == "Go":
            await _build_go(self._directory)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = Address("127.0.0.1", port)
        command = self._kind.command(self._directory, port, self._file)
        where = self._directory / "stdout.log"
        if self._kind.prints:
            self._file = where
        with where.open("wb") as out, (self._directory / "stderr.log").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                shutil.which(command[0], path=_PATH) or command[0],
                *command[1:],
                cwd=FILES,
                env={
                    **os.environ,
                    "SEEN": str(self._file),
                    "HOME": str(self._directory),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        try:
            await until(self._accepts, f"{self.name} to accept: {self._said()}", 20)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, f"{self.name} ended: {self._said()}"
        try:
            _, writer = await asyncio.open_connection(*self.address)
        except OSError:
            return False
        writer.close()
        return True

    def _said(self) -> str:
        errors = self._directory / "stderr.log"
        return errors.read_text(errors="replace")[-2000:] if errors.exists() else ""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 3)
            except TimeoutError:
                # Masters that wait for their connections; their children are in their session.
                os.killpg(self._process.pid, 9)
                await self._process.wait()

    def seen(self) -> list[Seen]:
        """Give what it has read so far."""
        if not self._file.exists():
            return []
        whole = self._file.read_text("latin-1").rpartition("\n")[0]
        found = []
        for line in whole.split("\n"):
            # Apache escapes what it refuses in its own way.
            told = json.loads(line.replace("\\x", "\\u00")) if line.startswith("{") else {}
            if told.get("s", told.get("status", 200)) != 200:
                continue  # It refused it by itself, or it broke off.
            if told.get("logger", "").startswith("http.log.access"):
                asked = told["request"]
                # It answers with target, blank and body, and tells how long the answer was.
                length = told["size"] - len(asked["uri"]) - 1
                found.append(Seen(asked["method"], asked["uri"], length, None))
            elif "m" in told and told.get("uh") != "-":
                found.append(_plain(told))
        return found


def _plain(told: dict[str, Any]) -> Seen:
    target = bytes.fromhex(told["uh"]).decode("latin-1") if "uh" in told else told["u"]
    coded = told.get("bh", "").replace("-", "")
    body = bytes.fromhex(coded) if "bh" in told else told["b"].encode("latin-1")
    return Seen(told["m"], target, len(body), body)


async def _build_go(directory: Path) -> None:
    go = shutil.which("go", path=_PATH)
    process = await asyncio.create_subprocess_exec(
        *(str(go), "build", "-o", str(directory / "go-server"), str(FILES / "main.go")),
        env={**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off", "GOTOOLCHAIN": "local"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


def installed() -> list[Kind]:
    """Give the servers that this machine has."""
    return [kind for kind in KINDS if shutil.which(kind.needs, path=_PATH)]
