"""Containers as processes: start one, find one that runs, wait for its end, run a command in it.

What comes in: a directory per container and a ``ContainerSpec``. What goes out: ``Process`` and
``Exit``. Everything durable is in the directory, written by ``shim``; so a new agent finds what an
old one started, and an end that nobody watched is not lost.

Invariants: a process is known by pid and start time, held by a pidfd, and only signalled through
it; closing a ``Process`` never ends the container.
Not done here: restarts, probes, order (``runner``, ``pod_worker``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsm
from fsm.standalone.box import syscalls
from fsm.standalone.node.shim import ContainerSpec

#: Exit code of something that SIGKILL ended, as shells and Kubernetes write it.
KILLED = 137
_LAUNCH_S = 20.0
_SOURCE = str(Path(fsm.__file__).resolve().parent.parent)
#: LIMIT 1 MiB per stream of an exec: it is kept in memory and sent as one JSON answer.
_OUTPUT_BYTES_MAX = 1 << 20


class StartError(Exception):
    """The container cannot be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended.

    Attributes:
        code: exit code; 128 + n when signal n ended it.
        signal: that signal, or ``None``.
        finished_at: seconds since the epoch.

    """

    code: int
    signal: int | None
    finished_at: float


@dataclass(slots=True)
class Process:
    """The first process of a running container; ``close`` it when done with it.

    Attributes:
        pid: in the box's PID namespace.
        started_at: seconds since the epoch.
        pidfd: readable when the process has ended; -1 once closed.

    """

    pid: int
    started_at: float
    pidfd: int

    def send(self, number: signal.Signals) -> None:
        """Signal the container; its init passes everything but SIGKILL on to the application."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of the process without touching it."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command run inside a container did; ``code`` is ``None`` when it took too long."""

    code: int | None
    stdout: bytes
    stderr: bytes


class Runtime:
    """One container's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def start(self, spec: ContainerSpec) -> Process:
        """Start the container and return once its application runs.

        Raises:
            StartError: it cannot be started; nothing of it runs.

        """
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "spec.json").write_text(spec.to_json())
        # -S: without site-packages Python starts in a third of the time, and the shim needs none.
        launcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-m", "fsm.standalone.node.shim", str(self.directory)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": _SOURCE, "PATH": os.defpath},
        )
        assert launcher.stderr
        try:
            async with asyncio.timeout(_LAUNCH_S):
                said = await launcher.stderr.read()
                code = await launcher.wait()
        except TimeoutError:
            raise StartError(f"did not start within {_LAUNCH_S:g} s") from None
        finally:
            if launcher.returncode is None:
                launcher.kill()
                await launcher.wait()
        if code:
            text = said.decode(errors="replace").strip()
            raise StartError(text.splitlines()[-1] if text else f"launcher ended with {code}")
        found = self.find()
        if isinstance(found, Process):
            return found
        # It was quick: it has ended between its start and our look.
        return Process(0, self._process().get("started_at", time.time()), -1)

    def find(self) -> Process | Exit | None:
        """Find the container that was started here: running, ended, or never started."""
        known = self._process()
        if not known:
            return None
        pid, ticks = int(known["pid"]), known["start_ticks"]
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, OSError):
            return self._exit()
        # First the descriptor, then the look: in this order the pair cannot be a reused pid.
        if syscalls.start_ticks(pid) != ticks:
            os.close(pidfd)
            return self._exit()
        return Process(pid, float(known["started_at"]), pidfd)

    async def wait(self, process: Process) -> Exit:
        """Wait until the container has ended."""
        if process.pidfd >= 0:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(process.pidfd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(process.pidfd)
        return self._exit()

    async def run_inside(
        self, process: Process, argv: list[str], limit_s: float, feed: bytes = b""
    ) -> Outcome:
        """Run a command in the container's namespaces, with its environment and directory."""
        try:
            child = await asyncio.create_subprocess_exec(
                *self.command_inside(process, argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # A group of its own: the command is a grandchild, and must end with its parent.
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(126, b"", f"cannot run nsenter: {error}".encode())
        try:
            async with asyncio.timeout(limit_s):
                out, err = await child.communicate(feed)
            code = child.returncode
        except TimeoutError:
            return Outcome(None, b"", f"took more than {limit_s:g} s".encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if child.returncode is None:
                await child.wait()
        return Outcome(code, out[:_OUTPUT_BYTES_MAX], err[:_OUTPUT_BYTES_MAX])

    def command_inside(self, process: Process, argv: list[str]) -> list[str]:
        """Build the command line that runs ``argv`` as the container would run it."""
        spec = ContainerSpec.from_json((self.directory / "spec.json").read_text())
        enter = ["nsenter", "--target", str(process.pid), "--mount", "--pid", "--net", "--uts"]
        enter.append("--ipc")
        if spec.uid is not None:
            enter += ["--setuid", str(spec.uid), "--setgid", str(spec.gid or 0)]
        values = [f"{name}={value}" for name, value in spec.env.items()]
        return [*enter, "--", "env", "-i", "-C", spec.cwd, *values, *argv]

    def _process(self) -> dict[str, Any]:
        return _read(self.directory / "process.json")

    def _exit(self) -> Exit:
        known = _read(self.directory / "exit.json")
        if not known:
            # Its init was killed before it could write: nobody knows more. Written down, so that
            # this end has one time, whoever asks again.
            known = {"exit_code": KILLED, "signal": 9, "finished_at": time.time()}
            with contextlib.suppress(OSError):
                (self.directory / "exit.json").write_text(json.dumps(known))
        return Exit(int(known["exit_code"]), known["signal"], float(known["finished_at"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
