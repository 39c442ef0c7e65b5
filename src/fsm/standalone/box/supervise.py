"""PID 1 of the box: furnishes it, keeps its children running, reaps what nobody waits for.

    furnish ──► start children ──► running ──SIGTERM──► drain Pods ──► stop children ──► end
                     ▲  └─ one ends: log why, wait 0.2 s … 10 s, start it again ─┘

What comes in: settings, inherited listening sockets, signals. What goes out: the processes, their
logs in ``STATE/log``, and ``STATE/supervisor.json`` (who runs, since when, how often restarted).

Invariants: the loss of one child touches no other; a child that runs for ``_STEADY_S`` has its
back-off forgiven; stopping takes no longer than ``down_timeout_s`` plus ``_STOP_S``; when this
process ends the kernel ends everything else, so nothing is cleaned up here.
Not done here: anything that could fail for long. PID 1 opens no connection and parses nothing
foreign.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from fsm.standalone.box import syscalls, world
from fsm.standalone.box.children import Child, HeldSockets, children, environment
from fsm.standalone.box.outside import WayOut
from fsm.standalone.box.settings import StandaloneSettings

_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_S = 20.0
_STOP_S = 5.0
_HOUSEKEEPING_S = 15.0
#: LIMIT 8 MiB per log file, with one older copy: enough for days of messages, bounded for ever.
_LOG_BYTES_MAX = 8 << 20


def run(
    settings: StandaloneSettings,
    listeners: list[int],
    lifeline: int | None = None,
    way_out: WayOut | None = None,
) -> int:
    """Be PID 1 until told to stop, or until ``lifeline`` ends; returns the exit status."""
    try:
        syscalls.set_process_name("fsm-box")
        furnished = world.furnish(settings)
        settings = furnished.settings
        for note in furnished.notes:
            say(note)
        dns = [sock for ip in settings.dns_ips for sock in world.dns_sockets(ip)]
        held = HeldSockets(
            tuple(listeners),
            tuple(sock.fileno() for sock in dns),
            way_out.box.fileno() if way_out is not None else None,
        )
        box_id = secrets.token_hex(8)
        helper_fd = way_out.helper.fileno() if way_out is not None else None
        table = children(settings, held)
        Supervisor(settings, table, environment(box_id), lifeline, helper_fd, furnished.notes).run()
    except world.WorldError as error:
        say(f"giving up: {error}")
        return 1
    except Exception:
        say(f"giving up, this is a bug:\n{traceback.format_exc()}")
        return 2
    return 0


def say(message: str) -> None:
    """Write one line to the log of the supervisor."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):
        os.write(2, f"{stamp} {message}\n".encode())


@dataclass(slots=True)
class _Running:
    """What is known of one child now."""

    child: Child
    pid: int | None = None
    started_s: float = 0.0
    restarts: int = 0
    failures: int = 0
    due_s: float = 0.0
    last_end: str = field(default="")


class Supervisor:
    """Starts, watches and stops the children; single-threaded, driven by signals and the clock."""

    def __init__(
        self,
        settings: StandaloneSettings,
        table: tuple[Child, ...],
        env: dict[str, str],
        lifeline: int | None = None,
        helper_fd: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._notes = notes
        self._lifeline = lifeline
        self._helper_fd = helper_fd
        self._settings = settings
        self._env = env
        self._children = [_Running(child) for child in table]
        self._stopping = False
        self._state = settings.state_dir / "supervisor.json"
        self._logs = settings.state_dir / "log"

    def run(self) -> None:
        """Run until SIGTERM (or SIGINT), then stop everything in order."""
        wake, writer = os.pipe()
        for fd in (wake, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(wake, selectors.EVENT_READ)
        if self._lifeline is not None:
            selector.register(self._lifeline, selectors.EVENT_READ)
        say(f"the box is open, pid {os.getpid()}, state in {self._settings.state_dir}")
        housekeeping_s = time.monotonic() + _HOUSEKEEPING_S
        while not self._stopping:
            self._reap()
            self._start_due()
            if time.monotonic() >= housekeeping_s:
                self._trim_logs()
                housekeeping_s = time.monotonic() + _HOUSEKEEPING_S
            self._wait(selector, wake, self._next_due(housekeeping_s))
        self._stop(selector, wake)
        say("the box closes")

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _next_due(self, housekeeping_s: float) -> float:
        waiting = [child.due_s for child in self._children if child.pid is None]
        return min([housekeeping_s, *waiting])

    def _wait(self, selector: selectors.BaseSelector, wake: int, until_s: float) -> None:
        for key, _ in selector.select(max(0.0, until_s - time.monotonic())):
            if key.fd == self._lifeline:
                say("whoever opened the box has ended")
                selector.unregister(key.fd)
                self._stopping = True
                continue
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    def _start_due(self) -> None:
        for running in self._children:
            if running.pid is None and time.monotonic() >= running.due_s:
                self._start(running)

    def _start(self, running: _Running) -> None:
        child = running.child
        log = str(self._logs / f"{child.name}.log")
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for fd in child.fds:
            os.set_inheritable(fd, True)
        try:
            running.pid = os.posix_spawn(
                child.argv[0],
                child.argv,
                self._env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, append, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE],
            )
        except OSError as error:
            self._failed(running, f"cannot be started: {error}")
        else:
            running.started_s = time.monotonic()
            say(f"{child.name}: started, pid {running.pid}")
        finally:
            for fd in child.fds:
                os.set_inheritable(fd, False)
        self._write_state()

    def _reap(self) -> None:
        """Collect every ended process: children, and orphans that the kernel handed to PID 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for running in self._children:
                if running.pid == pid:
                    running.pid = None
                    self._failed(running, _describe(os.waitstatus_to_exitcode(status)))

    def _failed(self, running: _Running, why: str) -> None:
        now = time.monotonic()
        if now - running.started_s >= _STEADY_S:
            running.failures = 0
        wait_s = _BACKOFF_S[min(running.failures, len(_BACKOFF_S) - 1)]
        running.failures += 1
        running.restarts += 1
        running.due_s = now + wait_s
        running.last_end = why
        if not self._stopping:
            log = self._logs / f"{running.child.name}.log"
            say(f"{running.child.name}: {why}; starting it again in {wait_s} s (see {log})")
        self._write_state()

    def _stop(self, selector: selectors.BaseSelector, wake: int) -> None:
        say("stopping")
        draining = [child for child in self._children if child.child.drain]
        self._end(selector, wake, draining, signal.SIGUSR2, self._settings.down_timeout_s)
        for running in reversed(self._children):
            self._end(selector, wake, [running], signal.SIGTERM, _STOP_S)

    def _end(
        self,
        selector: selectors.BaseSelector,
        wake: int,
        which: list[_Running],
        number: signal.Signals,
        limit_s: float,
    ) -> None:
        deadline_s = time.monotonic() + limit_s
        for running in which:
            if running.pid is not None:
                os.kill(running.pid, number)
        while any(running.pid is not None for running in which):
            if time.monotonic() >= deadline_s:
                names = ", ".join(r.child.name for r in which if r.pid is not None)
                say(f"{names}: did not end within {limit_s:g} s after {number.name}")
                return
            self._wait(selector, wake, deadline_s)
            self._reap()

    def _trim_logs(self) -> None:
        for running in self._children:
            log = self._logs / f"{running.child.name}.log"
            with contextlib.suppress(OSError):
                if log.stat().st_size > _LOG_BYTES_MAX:
                    # The writer keeps its descriptor (O_APPEND), so the file itself must stay.
                    data = log.read_bytes()[-_LOG_BYTES_MAX:]
                    log.with_suffix(".log.1").write_bytes(data)
                    os.truncate(log, 0)

    def _write_state(self) -> None:
        now = time.monotonic()
        state = {
            running.child.name: {
                "pid": running.pid,
                "running_s": round(now - running.started_s, 1) if running.pid else None,
                "restarts": running.restarts,
                "last_end": running.last_end,
            }
            for running in self._children
        }
        told = {
            "box_id": self._env["FSM_BOX_ID"],
            "children": state,
            "helper_fd": self._helper_fd,
            "notes": self._notes,
        }
        _replace(self._state, json.dumps(told))


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    # A full disk must not take PID 1 down; the file is information only.
    with contextlib.suppress(OSError):
        part.write_text(text)
        part.replace(path)
