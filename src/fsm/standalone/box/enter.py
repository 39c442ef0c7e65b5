"""Make the namespaces of the box and become, or start, its PID 1.

    up ──starts──► enter ──unshare──fork──► supervise (PID 1 of the box, its own session)
     ◄──one JSON line: host pid, or what the kernel refused──┘ (enter ends)

What comes in: settings as JSON on standard input and inherited listening sockets. What goes out:
one JSON line on standard output, ``{"pid": …}`` or ``{"error": …}``.

Invariants: as root there is no user namespace; as a user there is one with exactly one uid and one
gid mapped (the kernel allows no more without a helper). PID 1 never shares the caller's terminal.
Source: user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from pathlib import Path

from fsm.standalone.box import outside, syscalls
from fsm.standalone.box.settings import StandaloneSettings

_KINDS = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
)


def main() -> None:
    """Open the box; see the arguments' help for what is inherited."""
    parser = argparse.ArgumentParser(prog="python -m fsm.standalone.box.enter")
    parser.add_argument("--listen-fd", type=int, action="append", default=[], help="of the API")
    parser.add_argument("--lifeline-fd", type=int, help="the box closes when it reads as ended")
    given = parser.parse_args()
    settings = StandaloneSettings.from_json(sys.stdin.read())
    # First: what it makes belongs to the namespaces in which it was begun.
    way_out = outside.start(settings.state_dir) if settings.outside else None
    try:
        _unshare()
    except OSError as error:
        _answer({"error": explain_refusal(error)})
        raise SystemExit(1) from None
    pid = os.fork()
    if pid:
        _answer({"pid": pid})
        return
    _become_pid_1(settings, given.listen_fd, given.lifeline_fd, way_out)


def explain_refusal(error: OSError, sysctls: Path = Path("/proc/sys")) -> str:
    """Say in words why namespaces were refused, and what to change.

    Args:
        error: what ``unshare`` or the first mount raised.
        sysctls: where to read kernel settings from.

    """
    text = f"the kernel refuses to open the box: {error.strerror or error}"
    if os.geteuid() == 0:
        return (
            f"{text}\nhint: this root lacks CAP_SYS_ADMIN (a container?); give the container"
            " that capability or run on the machine itself"
        )
    wrong = {
        "kernel/unprivileged_userns_clone": ("0", "1"),
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
        "user/max_user_namespaces": ("0", "15000"),
    }
    for name, (bad, good) in wrong.items():
        try:
            value = (sysctls / name).read_text().strip()
        except OSError:
            continue
        if value == bad:
            setting = name.replace("/", ".")
            return (
                f"{text}: user namespaces are off here ({setting} is {value})"
                f"\nhint: sudo sysctl -w {setting}={good}, or run as root"
            )
    if error.errno == errno.ENOSPC:
        return f"{text}\nhint: raise user.max_user_namespaces or close other namespaces"
    return f"{text}\nhint: user namespaces seem to be forbidden here (seccomp?); run as root"


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        syscalls.unshare(_KINDS)
    else:
        syscalls.unshare(_KINDS | syscalls.CLONE_NEWUSER)
        # Without this the kernel lets nobody map a gid (user_namespaces(7), "setgroups").
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    # Where AppArmor restricts user namespaces, unshare works and this first use does not.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def _become_pid_1(
    settings: StandaloneSettings,
    listeners: list[int],
    lifeline: int | None,
    way_out: outside.WayOut | None,
) -> None:
    from fsm.standalone.box import supervise

    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    log = settings.state_dir / "log" / "supervisor.log"
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os._exit(supervise.run(settings, listeners, lifeline, way_out))


def _answer(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
