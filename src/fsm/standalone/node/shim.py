"""The process that stands between the node agent and one container: it starts it, waits, records.

    agent ──starts──► launcher ──fork──► init (PID 1 of the container) ──fork──► the application
                         │ writes process.json, waits for "started"│                 │
     ◄──exit 0, or 1 and why on standard error──┘                  └──waits, forwards SIGTERM,
                                                                      writes exit.json, ends

What comes in: the path of a container directory with ``spec.json`` (see ``ContainerSpec``). What
goes out: ``process.json`` (pid and start time, as the box sees them) before the application runs,
``exit.json`` after it ended.

Invariants: init needs nobody: the agent may die and come back, and still finds the exit code; when
init ends, however, the kernel ends all of the container; if init is killed there is no
``exit.json``, and the agent reads that as 137. Standard library only, because this must start fast
and stay small. Not done here: deciding to run, restart or stop anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsm.standalone.box import syscalls
from fsm.standalone.node import rootfs

if TYPE_CHECKING:
    import socket

    from fsm.standalone.node.console import Console

#: What a container may do unless its securityContext says otherwise: the usual list of runtimes.
DEFAULT_CAPABILITIES = frozenset(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP"
    " NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
)
_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that the shim needs to know of one container.

    Attributes:
        argv: the command line; its first word is looked up in ``PATH`` of ``env``.
        env: the whole environment.
        cwd: working directory inside the container; made if it does not exist.
        hostname: of the container.
        log: file that standard output and error are appended to.
        netns: path of the network namespace to join; ``None``: the box's own.
        mounts: ``(source, target, read_only)`` in the order they are mounted.
        files: path to content of files that the container gets of its own.
        scripts: the same, and they can be run.
        uid: user to run as; ``None`` as is.
        gid: group to run as; ``None`` as is.
        capabilities: the bounding set, names without ``CAP_``.
        hidden: directories of the host that appear empty: the box's own state, with its keys.
        stdin: whether what people type can reach the application (see ``console``).
        stdin_once: whether its input ends when the first who brought some goes.
        tty: whether its streams are a terminal.

    """

    argv: tuple[str, ...]
    env: dict[str, str]
    log: str
    cwd: str = "/"
    hostname: str = "localhost"
    netns: str | None = None
    mounts: tuple[tuple[str, str, bool], ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None
    capabilities: tuple[str, ...] = tuple(sorted(DEFAULT_CAPABILITIES))
    hidden: tuple[str, ...] = ()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False

    def to_json(self) -> str:
        """Write the spec as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ContainerSpec:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["argv"] = tuple(values["argv"])
        values["mounts"] = tuple((m[0], m[1], m[2]) for m in values["mounts"])
        values["capabilities"] = tuple(values["capabilities"])
        values["hidden"] = tuple(values["hidden"])
        return cls(**values)


def main() -> None:
    """Start one container; ``sys.argv[1]`` is its directory."""
    directory = sys.argv[1]
    spec = ContainerSpec.from_json(Path(directory, "spec.json").read_text())
    try:
        reason = launch(spec, directory)
    except OSError as error:
        reason = str(error)
    if reason:
        print(reason, file=sys.stderr)
        raise SystemExit(1)


def launch(spec: ContainerSpec, directory: str) -> str:
    """Start the container and wait until its application runs; returns what went wrong, or ""."""
    state = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for stale in ("process.json", "exit.json", "console.sock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stale, dir_fd=state)
    listener = None
    if spec.stdin or spec.tty:
        # Imported by the few containers that have one. Here, where /proc knows our descriptors.
        from fsm.standalone.node import console

        listener = console.listen(state)
    if spec.netns:
        netns = os.open(spec.netns, os.O_RDONLY)
        syscalls.setns(netns, syscalls.CLONE_NEWNET, spec.netns)
        os.close(netns)
    syscalls.unshare(
        syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC
    )
    go_read, go_write = os.pipe()
    failed_read, failed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(failed_read)
        _init(spec, state, go_read, failed_write, listener)
    os.close(go_read)
    os.close(failed_write)
    ticks = syscalls.start_ticks(pid)
    _write(state, "process.json", {"pid": pid, "start_ticks": ticks, "started_at": time.time()})
    # Only now: a launcher that dies before leaves an init that reads "end of file" and ends.
    os.write(go_write, b"g")
    os.close(go_write)
    with open(failed_read, "rb") as pipe:
        return pipe.read().decode(errors="replace")


def _init(
    spec: ContainerSpec, state: int, go: int, failed: int, listener: socket.socket | None
) -> None:
    """Be PID 1 of the container; never returns."""
    code = 128
    try:
        if os.read(go, 1) == b"g":
            os.setsid()
            log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            _enter(spec)
            code = _run(spec, log, state, failed, _console(spec, listener))
    except Exception as error:
        with contextlib.suppress(OSError):
            os.write(failed, str(error).encode())
    os._exit(code)


def _enter(spec: ContainerSpec) -> None:
    syscalls.set_process_name("fsm-shim")
    syscalls.set_hostname(spec.hostname)
    rootfs.build_and_enter()
    for path in spec.hidden:
        rootfs.hide(path)
    for path, content in spec.files.items():
        rootfs.write_file(path, content)
    for path, content in spec.scripts.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rootfs.write_file(path, content, 0o755)
    for source, target, read_only in spec.mounts:
        rootfs.mount_volume(source, target, read_only=read_only)
    rootfs.leave_old_root()


def _console(spec: ContainerSpec, listener: socket.socket | None) -> Console | None:
    if listener is None:
        return None
    from fsm.standalone.node.console import Console

    return Console(listener, stdin=spec.stdin, once=spec.stdin_once, tty=spec.tty)


def _run(spec: ContainerSpec, log: int, state: int, failed: int, console: Console | None) -> int:
    # Blocked until the application exists, so that an early SIGTERM is forwarded, not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child == 0:
        _application(spec, log, failed, console)
    os.close(failed)
    if console is None:
        os.close(log)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for number in _FORWARDED:
        signal.signal(number, lambda received, _: _forward(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    status = _wait(child) if console is None else console.serve(child, log)
    code = os.waitstatus_to_exitcode(status)
    end = {
        "exit_code": code if code >= 0 else 128 - code,
        "signal": -code if code < 0 else None,
        "finished_at": time.time(),
    }
    with contextlib.suppress(OSError):
        _write(state, "exit.json", end)
    return int(end["exit_code"] or 0)


def _wait(child: int) -> int:
    """Reap everything in the container until the application itself has ended."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def _forward(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _application(spec: ContainerSpec, log: int, failed: int, console: Console | None) -> None:
    """Become the application; never returns."""
    try:
        os.setsid()
        for number in (*_FORWARDED, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        os.umask(0o022)
        if console is not None:
            console.give(spec.uid, spec.gid)
        else:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
        os.makedirs(spec.cwd, exist_ok=True)
        os.chdir(spec.cwd)
        syscalls.limit_capabilities(set(spec.capabilities))
        if spec.gid is not None:
            os.setgroups([])
            os.setgid(spec.gid)
        if spec.uid is not None:
            os.setuid(spec.uid)
        # `failed` closes by itself when this succeeds: descriptors do not survive execve.
        os.execvpe(spec.argv[0], spec.argv, spec.env)
    except FileNotFoundError:
        text = f"exec: {spec.argv[0]!r}: not found in PATH or in the container's files"
    except PermissionError as error:
        text = f"exec: {spec.argv[0]!r}: {error.strerror}"
        if spec.uid:
            text += f" (as user {spec.uid}; are all directories on its path open to that user?)"
    except Exception as error:
        text = f"exec: {spec.argv[0]!r}: {error}"
    os.write(failed, text.encode())
    os._exit(127)


def _write(state: int, name: str, value: dict[str, Any]) -> None:
    """Replace a file of the container directory at once, through its descriptor."""
    part = f"{name}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=state)
    with open(fd, "w") as file:
        file.write(json.dumps(value))
    os.rename(part, name, src_dir_fd=state, dst_dir_fd=state)


if __name__ == "__main__":
    main()
