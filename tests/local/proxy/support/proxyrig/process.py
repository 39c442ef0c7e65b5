"""The proxy under test: a process of its own on free ports, with its configuration in files.

It starts with no rules, says on which ports it listens, and gets its rules with a reload, as rules
name the ports. Standard error and the access log are collected; a test that fails shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any

from proxyrig.certs import Member
from proxyrig.waiting import until
from proxyrig.wire import Address, Response, fetch, request

_ROOT = Path(__file__).parents[5]


def binary() -> Path:
    """Give the proxy to test: what PIPY_BIN names, else the newest build."""
    if named := os.environ.get("PIPY_BIN"):
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    builds = [target / kind / "pipy" for kind in ("release", "debug")]
    builds.append(_ROOT / ".venv" / "bin" / "pipy")
    there = [build for build in builds if os.access(build, os.X_OK)]
    if not there:
        raise AssertionError("no build of pipy is there; run `cargo build -p pipy` or set PIPY_BIN")
    return max(there, key=lambda build: build.stat().st_mtime)


class Pipy:
    """See the module."""

    def __init__(
        self,
        directory: Path,
        member: Member | None = None,
        roots: str | None = None,
        flags: tuple[str, ...] = (),
        inbound: str = "127.0.0.1:0",
        outbound: str = "127.0.0.1:0",
        command: tuple[str, ...] = (),
        boot: dict[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "config.json"
        self.errors: list[str] = []
        self._log: list[str] = []
        self._member, self._roots = member, roots
        self._flags = [f"--inbound={inbound}", f"--outbound={outbound}", *flags]
        self._command = command
        self._boot = boot
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self.admin = self.metrics = self.inbound = self.outbound = Address("", 0)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """Give the process, which must have been started."""
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> Pipy:
        boot = {"version": "boot", "inbound": {}, "outbound": {}}
        self.config.write_text(json.dumps(boot if self._boot is None else self._boot))
        credentials = self._member.write(self.directory, self._roots) if self._member else []
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            binary(),
            "sidecar",
            f"--config={self.config}",
            "--admin=127.0.0.1:0",
            "--metrics=127.0.0.1:0",
            *self._flags,
            *credentials,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(_collect(self._process.stdout, self._log)),
            asyncio.create_task(_collect(self._process.stderr, self.errors)),
        ]
        try:
            await self._listening()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _listening(self) -> None:
        await until(lambda: self.process.returncode is not None or self.noticed("applied"), "start")
        assert self.process.returncode is None, f"pipy ended: {self.errors}"
        admin = next(line for line in self.errors if " admin-listener on " in line)
        self.admin = Address.parse(admin.rpartition(" ")[2])
        if not self._command:
            await self.find_ports()

    async def find_ports(self) -> None:
        """Ask which ports are open."""
        for line in (await self.page("/listeners")).body.decode().splitlines():
            name, _, at = line.partition("::")
            match name:
                case "inbound-listener":
                    self.inbound = Address.parse(at)
                case "outbound-listener":
                    self.outbound = Address.parse(at)
                case "inbound-prometheus-listener":
                    self.metrics = Address.parse(at)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)
        if kind is not None:
            print(
                f"--- {self.directory.name} said:", *self.errors[-40:], *self._log[-40:], sep="\n"
            )

    def noticed(self, words: str) -> bool:
        """Say whether standard error has a line with these words."""
        return any(words in line for line in self.errors)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self, deadline_s: float = 10.0) -> int:
        """Wait for the end of the process; give its exit code."""
        return await asyncio.wait_for(self.process.wait(), deadline_s)

    async def page(self, path: str, method: str = "GET") -> Response:
        """Get a page of the administration."""
        return await fetch(self.admin, request(method, path), method)

    async def stats(self) -> dict[str, str]:
        """Get the statistics."""
        text = (await self.page("/stats")).body.decode()
        return dict(line.split(": ", 1) for line in text.splitlines())

    def write(self, config: dict[str, Any] | str) -> None:
        """Write a configuration where the proxy reads it, whole or not at all."""
        text = config if isinstance(config, str) else json.dumps(config)
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    async def apply(self, config: dict[str, Any]) -> None:
        """Put a configuration to work; fail with the reason when it is refused."""
        self.write(config)
        before = len(self.errors)
        self.signal(signal.SIGHUP)
        told = await until(
            lambda: [line for line in self.errors[before:] if "configuration" in line], "reload"
        )
        assert "applied" in told[0], told
        # The page is served by the worker, after the update that stands before it in its queue.
        assert (await self.stats())["config.version"] == config["version"]

    async def refuse(self, config: dict[str, Any] | str) -> str:
        """Offer a configuration that is refused; give the reason that it shows."""
        self.write(config)
        before = len(self.errors)
        self.signal(signal.SIGHUP)
        await until(lambda: any("kept the" in line for line in self.errors[before:]), "a refusal")
        return (await self.stats())["config.refused_reason"]

    async def log(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait for that many lines of the access log with these fields."""

        def found() -> list[dict[str, Any]] | None:
            lines = [json.loads(line) for line in self._log]
            lines = [line for line in lines if all(line.get(k) == v for k, v in fields.items())]
            return lines if len(lines) >= count else None

        with contextlib.suppress(AssertionError):
            return await until(found, "the log", 5) or []
        raise AssertionError(f"no {count} lines with {fields} in {self._log}")

    def all_log(self) -> list[dict[str, Any]]:
        """Give every line of the access log that has come."""
        return [json.loads(line) for line in self._log]

    def descriptors(self) -> int:
        """Count the open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_kib(self) -> int:
        """Give the memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(
            next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        )


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode(errors="replace").rstrip("\n"))
