"""Child processes: pinned to a core, placed in a network namespace, never outliving the bench.

In: a command. Out: a ``Child`` that can be waited for, checked and stopped.

INVARIANT: every child asks the kernel for a signal when the bench dies (``setpriv --pdeathsig``),
so that even a killed bench leaves no process and, as namespaces are held by processes, no namespace
behind.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.errors import BenchError, RowError

STOP_DEADLINE_S = 5.0
"""How long a child may take to end after SIGTERM before it is killed."""


@dataclass(slots=True)
class Child:
    """A running process of ours."""

    name: str
    popen: subprocess.Popen[bytes]
    namespace_pid: int
    """Holds the network namespace that it is in."""
    log: Path
    """Its standard error, and standard output unless that was sent elsewhere."""

    @property
    def pid(self) -> int:
        """Its process id: ``nsenter``, ``setpriv`` and ``taskset`` all replace themselves."""
        return self.popen.pid

    def ensure_running(self) -> None:
        """Raise ``RowError`` with the end of its log if it has ended."""
        status = self.popen.poll()
        if status is not None:
            raise RowError(f"{self.name} ended with status {status}: {self.log_tail()}")

    def log_tail(self, bytes_max: int = 600) -> str:
        """Return the last words of its log, on one line."""
        text = self.log.read_text(errors="replace")[-bytes_max:] if self.log.exists() else ""
        return " / ".join(line.strip() for line in text.splitlines() if line.strip()) or "no output"


@dataclass(slots=True)
class Children:
    """Every process that one site started, stopped in reverse order."""

    directory: Path
    _running: list[Child] = field(default_factory=list)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        core: int | str,
        namespace_pid: int | None = None,
        stdout: Path | None = None,
    ) -> Child:
        """Start a command.

        Args:
            name: what error messages call it; also names its log file.
            command: program and arguments.
            core: the one core that it may run on, or several, as ``taskset`` writes them.
            namespace_pid: a process whose network namespace it joins; ``None`` for the bench's own.
            stdout: file that takes its standard output; by default its log.

        """
        log = self.directory / f"{name.replace(' ', '-')}.log"
        with log.open("ab") as errors, (stdout or log).open("ab") as output:
            popen = subprocess.Popen(
                wrap(command, core=core, namespace_pid=namespace_pid),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self.directory,
                # A terminal's Ctrl-C must reach the bench alone: it then stops the children in
                # order.
                start_new_session=True,
            )
        pass_on_niceness(popen)
        child = Child(name, popen, namespace_pid or popen.pid, log)
        self._running.append(child)
        return child

    def stop(self) -> None:
        """End all of them: SIGTERM in reverse order of start, SIGKILL for those that stay."""
        for child in reversed(self._running):
            _signal(child.popen, signal.SIGTERM)
        deadline = time.monotonic() + STOP_DEADLINE_S
        for child in reversed(self._running):
            try:
                child.popen.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child.popen, signal.SIGKILL)
                child.popen.wait()
            # Whoever is left of its group has lost its parent: an nginx worker whose master was
            # killed goes on serving. The number stays the group's for as long as it has members.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        self._running.clear()


def pass_on_niceness(popen: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Give a child's session the niceness of the bench.

    The scheduler weighs sessions against each other first, and processes within each of them only
    then. Source: Linux, sched(7), "The autogroup feature".
    """
    niceness = os.nice(0)
    if niceness:
        # Not every kernel has it, and the child may have ended.
        with contextlib.suppress(OSError):
            Path(f"/proc/{popen.pid}/autogroup").write_text(str(niceness))


def wrap(
    command: Sequence[str | Path], *, core: int | str, namespace_pid: int | None = None
) -> list[str]:
    """Return the command line that runs ``command`` on a core, in a namespace, for our life."""
    enter = (
        [] if namespace_pid is None else ["nsenter", f"--net=/proc/{namespace_pid}/ns/net", "--"]
    )
    return [
        *enter,
        *("setpriv", "--pdeathsig", "TERM", "--"),
        *("taskset", "--cpu-list", str(core)),
        *map(str, command),
    ]


def run(command: Sequence[str | Path], *, timeout_s: float = 30.0, stdin: str | None = None) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        BenchError: it cannot be started, takes longer than ``timeout_s`` or fails; with its words.

    """
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise BenchError(f"{words[0]}: no such program; install the package that has it") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(words)}: still running after {timeout_s:g} s") from error
    if done.returncode != 0:
        words_of_it = (done.stderr or done.stdout).strip() or "no output"
        raise BenchError(f"{' '.join(words)}: status {done.returncode}: {words_of_it}")
    return done.stdout


def wait_for_listener(child: Child, port: int, *, deadline_s: float = 15.0) -> None:
    """Return once something listens on TCP ``port`` in the child's network namespace.

    The kernel's table is read rather than the port dialled: a dialled connection would be the
    proxy's first, and for a redirected listener it would loop.

    Raises:
        RowError: the child ended, or nothing listens after ``deadline_s``.

    """
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        child.ensure_running()
        if port in listening_ports(child.namespace_pid):
            return
        time.sleep(0.02)
    raise RowError(
        f"{child.name} does not listen on port {port} after {deadline_s:g} s: {child.log_tail()}"
    )


def listening_ports(pid: int) -> set[int]:
    """Return the TCP ports listened on in the network namespace of ``pid``.

    Source: Linux, Documentation/networking/proc_net_tcp.rst (state 0A is LISTEN).
    """
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def raise_file_limit() -> int:
    """Open as many files as the system allows, here and in children; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _signal(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # A process that is not yet waited for keeps its pid, so this can never meet a stranger.
    if popen.poll() is None:
        os.kill(popen.pid, number)
