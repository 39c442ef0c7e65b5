"""Open, close and look at the box from the host: what ``fsm up``, ``down`` and ``status`` do.

What comes in: settings. What goes out: ``BoxInfo``, or a ``BoxError`` whose text says what to do.

    none ──up──► opening ──node Ready──► open ──down──► none
      ▲             └─ PID 1 ends: tail of its log ─► BoxError
      └──────── PID 1 killed: the next call finds a stale record and removes it

Invariants: at most one box per state directory (a lock file decides between two callers); a
process is only ever signalled when its pid *and* start time are those on record; ``down`` returns
when PID 1 is gone, and with it, by the kernel's promise, everything in the box.
Not done here: anything inside the box (``supervise``), or what is printed (the command line).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from fsm.kube import ApiError, ConfigError, KubeClient
from fsm.kube.resources import NODES
from fsm.standalone.box import outside, syscalls
from fsm.standalone.box.children import environment
from fsm.standalone.box.settings import StandaloneSettings

Progress = Callable[[str], None]

_UNUSABLE = 78  # The API server's exit code for a store that it will never be able to use.


class BoxError(Exception):
    """The box cannot be opened or closed; the text is for people and ends with a hint."""


class UnusableError(BoxError):
    """What is stored cannot be used, and trying again will not help."""


@dataclass(frozen=True, slots=True)
class BoxInfo:
    """A box that is open.

    Attributes:
        pid: of its PID 1, as the host sees it.
        start_ticks: when that process started; with ``pid`` it names it for ever.
        api_port: port of the API on 127.0.0.1.
        kubeconfig: path of a kubeconfig with full rights.
        state_dir: its state directory.
        opened_at: seconds since the epoch.

    """

    pid: int
    start_ticks: int
    api_port: int
    kubeconfig: Path
    state_dir: Path
    opened_at: float


async def up(
    settings: StandaloneSettings,
    progress: Progress = lambda step: None,
    *,
    lifeline: int | None = None,
) -> BoxInfo:
    """Open the box and wait until its node is ready; an open box is left as it is.

    Args:
        settings: of the box; they matter only when it is not open yet.
        progress: called with the name of each step as it begins.
        lifeline: the reading end of a pipe; a box opened by this call closes itself, gracefully,
            when the last writing end is gone. So a demo or a test that is killed leaves nothing.

    Raises:
        BoxError: it cannot be opened, or is not ready within ``up_timeout_s``.

    """
    settings.check()
    _make_directories(settings.state_dir)
    # Inside, paths are mounted across roots: no part of one may be a link.
    settings = replace(settings, state_dir=settings.state_dir.resolve())
    async with _lock(settings.state_dir):
        info = _open_box(settings.state_dir)
        ours = info is None
        if info is None:
            progress("opening the box")
            info = await _start(settings, lifeline)
        elif outside.lost(settings.state_dir):
            progress("mending the way out")
            await _mend_way_out(info)
    progress("starting the API server")
    try:
        await _until_ready(settings, info, progress)
    except UnusableError:
        if ours:
            await down(settings)
        raise
    return info


async def down(
    settings: StandaloneSettings, *, purge: bool = False, progress: Progress = lambda step: None
) -> bool:
    """Close the box; returns whether there was one.

    Args:
        settings: of the box.
        purge: also remove the stored objects, keys, logs: the whole content of the directory.
        progress: called with the name of each step as it begins.

    Raises:
        BoxError: a process of the box cannot be ended.

    """
    if not settings.state_dir.is_dir():
        return False
    async with _lock(settings.state_dir):
        info = _open_box(settings.state_dir)
        if info is not None:
            progress("stopping the Pods")
            # PID 1 needs its own time on top of what it grants the Pods and the children.
            await _end(info, settings.down_timeout_s + 20.0)
        _remove_runtime_state(settings.state_dir)
        if purge:
            progress("removing the stored objects")
            _purge(settings.state_dir)
    return info is not None


def status(settings: StandaloneSettings) -> BoxInfo | None:
    """Tell whether the box is open; a record of a box that is gone is not believed."""
    return _open_box(settings.state_dir)


def children_status(settings: StandaloneSettings) -> dict[str, Any]:
    """Read what the supervisor last wrote about its children, by name; empty when closed."""
    try:
        state = json.loads((settings.state_dir / "supervisor.json").read_text())
        children: dict[str, Any] = state["children"]
    except (OSError, ValueError, KeyError):
        return {}
    return children if status(settings) else {}


def notes(info: BoxInfo) -> list[str]:
    """Say what this machine keeps the box from having, such as IPv6."""
    try:
        state = json.loads((info.state_dir / "supervisor.json").read_text())
        return [str(note) for note in state.get("notes") or []]
    except (OSError, ValueError, AttributeError):
        return []


def troubles(info: BoxInfo) -> list[str]:
    """Say what is wrong with an open box and does not mend itself; each ends with what to do."""
    if outside.lost(info.state_dir):
        return ["the way out of the box, and into it, is gone: `fsm up` mends it"]
    return []


async def _mend_way_out(info: BoxInfo) -> None:
    state = info.state_dir
    try:
        fd = int(json.loads((state / "supervisor.json").read_text())["helper_fd"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BoxError(
            "the way out of the box is gone, and this box cannot get another"
            "\nhint: `fsm down`, then `fsm up`; what is stored stays"
        ) from None
    words = ("--state-dir", str(state), "--pid", str(info.pid), "--fd", str(fd))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fsm.standalone.box.outside", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(""),
    )
    if await process.wait():
        text = (await _stderr(process)).rpartition("\n")[2]
        raise BoxError(
            f"the way out of the box is gone, and cannot be mended: {text}"
            "\nhint: `fsm down`, then `fsm up`; what is stored stays"
        )


async def _start(settings: StandaloneSettings, lifeline: int | None) -> BoxInfo:
    state = settings.state_dir
    _remove_runtime_state(state)
    with _listener(settings.api_port) as listener:
        port = listener.getsockname()[1]
        inherited = [listener.fileno()]
        words = ["--listen-fd", str(listener.fileno())]
        if lifeline is not None:
            inherited.append(lifeline)
            words += ["--lifeline-fd", str(lifeline)]
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fsm.standalone.box.enter", *words),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=inherited,
                env=environment("") | {"FSM_HOME": str(state)},
            )
        except OSError as error:
            raise BoxError(f"cannot start {sys.executable}: {error}") from error
        assert process.stdin
        assert process.stdout
        process.stdin.write(settings.to_json().encode())
        process.stdin.close()
        # PID 1 inherits standard error until it has its log: read one line, not to the end.
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 10)
        except TimeoutError:
            process.kill()
            raise BoxError("opening the box took more than 10 seconds") from None
        finally:
            code = await process.wait()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        error_text = await _stderr(process) if code else "no answer"
        raise BoxError(f"cannot open the box: {error_text}") from None
    if "error" in answer:
        raise BoxError(str(answer["error"]))
    ticks = syscalls.start_ticks(answer["pid"])
    if ticks is None:
        raise BoxError(f"the box ended at once\n{_log_tail(state, 'supervisor')}")
    kubeconfig = state / "kubeconfig"
    info = BoxInfo(int(answer["pid"]), ticks, port, kubeconfig, state, time.time())
    _write_record(info)
    return info


async def _stderr(process: asyncio.subprocess.Process) -> str:
    assert process.stderr
    try:
        return (await asyncio.wait_for(process.stderr.read(), 2)).decode(errors="replace").strip()
    except TimeoutError:
        return "no message"


async def _until_ready(settings: StandaloneSettings, info: BoxInfo, progress: Progress) -> None:
    deadline_s = time.monotonic() + settings.up_timeout_s
    told = False
    why = "the API server has not answered yet"
    while time.monotonic() < deadline_s:
        if syscalls.start_ticks(info.pid) != info.start_ticks:
            raise BoxError(f"the box ended while it started\n{_log_tail(info.state_dir)}")
        if (unusable := _unusable(info.state_dir)) is not None:
            raise UnusableError(unusable)
        try:
            # The socket file first: until the server is there, connecting to it fails at once,
            # while a TCP connection would wait in the queue of the socket that PID 1 holds.
            async with KubeClient.from_unix_socket(info.state_dir / "api.sock") as client:
                await client.raw_get("/readyz")
            if not told:
                progress("starting the node")
                told = True
            if await _node_ready(settings, info):
                return
            why = "the node is not ready yet"
        except (ApiError, ConfigError) as error:
            why = str(error)
        await asyncio.sleep(0.05)
    raise BoxError(
        f"the box is not ready after {settings.up_timeout_s:g} seconds: {why}"
        f"\n{_log_tail(info.state_dir)}\nhint: its logs are in {info.state_dir / 'log'}"
    )


async def _node_ready(settings: StandaloneSettings, info: BoxInfo) -> bool:
    """Ask for the Node the way that users will: over TLS, with the kubeconfig."""
    async with KubeClient.from_kubeconfig(info.kubeconfig) as client:
        status = (await client.get(NODES, settings.node_name)).get("status") or {}
    # A Ready that a box of the past left in the store does not count.
    if (status.get("nodeInfo") or {}).get("bootID") != _box_id(settings):
        return False
    conditions = status.get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _unusable(state_dir: Path) -> str | None:
    """Return what the API server said, when it ended and trying again will not help."""
    try:
        state = json.loads((state_dir / "supervisor.json").read_text())
        if state["children"]["apiserver"]["last_end"] != f"ended with exit code {_UNUSABLE}":
            return None
        _, _, said = (state_dir / "log" / "apiserver.log").read_text().rpartition("error: ")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said.strip()


def _box_id(settings: StandaloneSettings) -> str | None:
    try:
        state = json.loads((settings.state_dir / "supervisor.json").read_text())
        return str(state["box_id"])
    except (OSError, ValueError, KeyError):
        return None


async def _end(info: BoxInfo, limit_s: float) -> None:
    try:
        pidfd = os.pidfd_open(info.pid)
    except ProcessLookupError:
        return
    try:
        if syscalls.start_ticks(info.pid) != info.start_ticks:
            return
        for number, wait_s in ((signal.SIGTERM, limit_s), (signal.SIGKILL, 10.0)):
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise BoxError(
                    f"cannot stop the box (pid {info.pid}): it belongs to another user"
                    "\nhint: close it as the user who opened it"
                ) from error
            if await _gone(pidfd, wait_s):
                return
    finally:
        os.close(pidfd)
    raise BoxError(f"process {info.pid} of the box does not end, even after SIGKILL")


async def _gone(pidfd: int, limit_s: float) -> bool:
    """Wait for the process behind a pidfd; PID 1 goes last, after everything in its box."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), limit_s)
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)


def _open_box(state_dir: Path) -> BoxInfo | None:
    record = state_dir / "box.json"
    try:
        values = json.loads(record.read_text())
        paths = {key: Path(values[key]) for key in ("kubeconfig", "state_dir")}
        info = BoxInfo(**(values | paths))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        # Torn by a crash in the middle of a write: there is nothing in it to believe.
        return None
    return info if syscalls.start_ticks(info.pid) == info.start_ticks else None


def _write_record(info: BoxInfo) -> None:
    record = info.state_dir / "box.json"
    part = record.with_suffix(".part")
    part.write_text(json.dumps(asdict(info), default=str))
    part.replace(record)


def _make_directories(state_dir: Path) -> None:
    try:
        for path in (state_dir, state_dir / "log", state_dir / "pods"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(state_dir, os.W_OK | os.X_OK):
            raise PermissionError(f"{state_dir} belongs to another user")
    except OSError as error:
        raise BoxError(
            f"cannot use the state directory {state_dir}: {error.strerror or error}"
            "\nhint: name another with FSM_HOME"
        ) from error


def _remove_runtime_state(state_dir: Path) -> None:
    for name in ("box.json", "supervisor.json", "node.sock", "api.sock", outside.LOCK):
        with contextlib.suppress(FileNotFoundError):
            (state_dir / name).unlink()
    shutil.rmtree(state_dir / "pods", ignore_errors=True)
    (state_dir / "pods").mkdir(mode=0o700, exist_ok=True)


def _purge(state_dir: Path) -> None:
    for path in state_dir.iterdir():
        if path.name == "lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise BoxError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}"
            "\nhint: choose another port for the API, or 0 for any free one"
        ) from error
    return listener


def _lock_file(state_dir: Path) -> TextIO:
    return open(state_dir / "lock", "w")


@contextlib.asynccontextmanager
async def _lock(state_dir: Path) -> AsyncIterator[None]:
    """Hold the state directory for oneself, waiting for whoever has it."""
    with _lock_file(state_dir) as file:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise BoxError(
                        f"another fsm command holds {state_dir} for more than a minute"
                    ) from None
                await asyncio.sleep(0.05)
        yield


def _troubled(state_dir: Path) -> list[str]:
    try:
        children = json.loads((state_dir / "supervisor.json").read_text())["children"]
        return [name for name, child in children.items() if child["restarts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ["apiserver", "node"]


def _log_tail(state_dir: Path, *names: str) -> str:
    """Quote the logs of PID 1 and of those children that ended: that is where the reason is."""
    parts = []
    for name in names or ("supervisor", *_troubled(state_dir)):
        try:
            lines = (state_dir / "log" / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            parts.append(f"--- last lines of {name}.log\n" + "\n".join(lines[-8:]))
    return "\n".join(parts)
