"""The one thing of the box that stays outside: a process that makes sockets in the host's network.

    host's namespaces │ box
    keeper ──► maker ═╪═ socket pair, held by PID 1 ═══ gateway: "a TCP socket, please"
                      │◄─────────── the socket itself, unconnected (SCM_RIGHTS)

A socket belongs to the network namespace in which it was made, wherever it is used. So Pods reach
the outside without a link, a route or a firewall rule on the host, with or without root, and there
is nothing on the host that could be left behind.

The two watch each other: a killed maker is made anew, and a maker whose keeper was killed becomes
the keeper. Both are lost only when they are killed in the same moment; PID 1 keeps their end of the
pair for that case, `fsm status` tells it (``lost``), and `fsm up` starts them again (``main``).

What comes in: 9-byte requests (8 bytes that the answer repeats, then ``t`` for TCP, ``u`` for UDP,
and the same in capitals over IPv6). What goes out: sockets. Invariants: both processes end when the
last holder of the other end does, that is, with the box, however it ends; they hold a lock on
``STATE/outside.lock`` as long as one of them lives; they open no connection themselves.
Not done here: which addresses may be dialled, and dialling (``node.gateway``).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fsm.standalone.box import syscalls

REQUEST_BYTES = 9
LOCK = "outside.lock"
_KINDS = {
    b"t": (socket.AF_INET, socket.SOCK_STREAM),
    b"u": (socket.AF_INET, socket.SOCK_DGRAM),
    b"T": (socket.AF_INET6, socket.SOCK_STREAM),
    b"U": (socket.AF_INET6, socket.SOCK_DGRAM),
}


@dataclass(frozen=True, slots=True)
class WayOut:
    """The pair as PID 1 holds it: ``box`` is the gateway's end, ``helper`` that of the two."""

    box: socket.socket
    helper: socket.socket


def start(state_dir: Path) -> WayOut:
    """Fork the two processes; must be called before the box's namespaces are made."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _fork(theirs, _lock(state_dir))
    return WayOut(ours, theirs)


def lost(state_dir: Path) -> bool:
    """Tell whether a box that had a way out has it no more."""
    try:
        os.close(_lock(state_dir, make=False))
    except OSError:
        # Held, so all is well; or there is none, since this box has no way out.
        return False
    return True


def _lock(state_dir: Path, *, make: bool = True) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    fd = os.open(state_dir / LOCK, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _fork(pair: socket.socket, lock: int) -> None:
    if os.fork():
        # The lock belongs to the open file, which the child has too.
        os.close(lock)
        return
    try:
        _detach({pair.fileno(), lock})
        _keep(pair)
    finally:
        os._exit(0)


def _detach(kept: set[int]) -> None:
    os.setsid()
    os.chdir("/")
    syscalls.set_process_name("fsm-outside")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # Whoever opens the box waits for these to close; the API's listening socket is among them.
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, min(os.sysconf("SC_OPEN_MAX"), 65536))


def _keep(pair: socket.socket) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    while True:
        lifeline, held = os.pipe()
        maker = os.fork()
        if maker == 0:
            os.close(held)
            if not _make_until_alone(pair, lifeline):
                return
            # The keeper is gone: this process is the keeper from here on.
            os.close(lifeline)
            continue
        os.close(lifeline)
        _, status = os.waitpid(maker, 0)
        os.close(held)
        if os.waitstatus_to_exitcode(status) == 0:
            return


def _make_until_alone(pair: socket.socket, lifeline: int) -> bool:
    """Serve; returns whether the keeper ended, and not the box."""
    with selectors.DefaultSelector() as selector:
        selector.register(pair, selectors.EVENT_READ)
        selector.register(lifeline, selectors.EVENT_READ)

        def alone() -> bool:
            return any(key.fd == lifeline for key, _ in selector.select())

        return serve(pair, alone)


def serve(pair: socket.socket, stop: Callable[[], bool] = lambda: False) -> bool:
    """Make sockets until the other end is closed, or ``stop()``, asked before each, says so.

    Returns:
        Whether it was ``stop``.
    """
    while not stop():
        try:
            request = pair.recv(64)
        except OSError:
            return False
        if not request:
            return False
        kind = _KINDS.get(request[8:9])
        if len(request) != REQUEST_BYTES or kind is None:
            continue
        try:
            made = socket.socket(*kind)
        except OSError:
            # Out of descriptors, or no IPv6: an answer without a socket says so.
            with contextlib.suppress(OSError):
                pair.send(request)
            continue
        with made, contextlib.suppress(OSError):
            socket.send_fds(pair, [request], [made.fileno()])
    return True


def main() -> None:
    """Start the two processes again for a box that has lost them."""
    parser = argparse.ArgumentParser(prog="python -m fsm.standalone.box.outside")
    parser.add_argument("--state-dir", type=Path, required=True, help="of the box")
    parser.add_argument("--pid", type=int, required=True, help="of the box's PID 1")
    parser.add_argument("--fd", type=int, required=True, help="the helper's end, in that process")
    given = parser.parse_args()
    try:
        lock = _lock(given.state_dir)
    except BlockingIOError:
        return
    with socket.socket(fileno=syscalls.fd_of(given.pid, given.fd)) as pair:
        _fork(pair, lock)


if __name__ == "__main__":
    main()
