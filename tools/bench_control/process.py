"""Processes of the bench: started, watched, ended; what they cost.

In: a command. Out: its lines, its CPU time and memory. Invariants: whatever happens, a process that
was started is gone when its block is left; one that ends early is an error with its last words.
Source: proc(5), fields 14 and 15 of ``stat``; ``VmRSS`` and ``VmHWM`` of ``status``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
LAST_WORDS = 20


class Failed(Exception):
    """A process did not do what it was started for; the text has its last words."""


class Process:
    """One of them; ``started`` makes it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._words: deque[str] = deque(maxlen=LAST_WORDS)

    async def tell(self, line: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def lines(self, on_line: Callable[[bytes], None], *, errors: bool = False) -> None:
        """Read its output, or what it says on standard error, until it ends."""
        stream = self._process.stderr if errors else self._process.stdout
        assert stream is not None
        while line := await stream.readline():
            if errors:
                self._words.append(line.decode(errors="replace").rstrip())
            on_line(line)

    def check(self) -> None:
        """Raise when it has ended.

        Raises:
            Failed: it has.
        """
        if self._process.returncode is not None:
            words = "\n  ".join(self._words) or "(it said nothing)"
            raise Failed(f"{self.name} ended with {self._process.returncode}:\n  {words}")

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, seconds."""
        self.check()
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * _TICK_S

    def memory_mb(self) -> tuple[float, float]:
        """Return its resident memory now and at its highest, MB (2**20 bytes)."""
        self.check()
        found = {}
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            found[name] = value
        return tuple(int(found[n].split()[0]) / 1024 for n in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    async def end(self) -> None:
        """End it, kindly at first."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def started(name: str, module: str, **environ: str) -> AsyncIterator[Process]:
    """Start a module of ours as a process; it is ended when the block is left."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FSM_", "KUBE"))}
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env=clean | environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    process = Process(name, made)
    try:
        yield process
    finally:
        await process.end()
