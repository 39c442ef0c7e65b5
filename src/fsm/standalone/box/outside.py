"""The one thing of the box that stays outside: a process that makes sockets in the host's network.

    host's namespaces │ box
    keeper ──► maker ═╪═ socket pair, held by PID 1 ═══ gateway: "a TCP socket, please"
                      │◄─────────── the socket itself, unconnected (SCM_RIGHTS)

A socket belongs to the network namespace in which it was made, wherever it is used. So Pods reach
the outside without a link, a route or a firewall rule on the host, with or without root, and there
is nothing on the host that could be left behind.

What comes in: 9-byte requests (8 bytes that the answer repeats, ``t`` or ``u``). What goes out:
sockets. Invariants: both processes end when the last holder of the other end does, that is, with
the box, however it ends; the maker is made anew when it is killed; it opens no connection itself.
Not done here: which addresses may be dialled, and dialling (``node.gateway``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from fsm.standalone.box import syscalls

REQUEST_BYTES = 9
_KINDS = {b"t": socket.SOCK_STREAM, b"u": socket.SOCK_DGRAM}


def start() -> socket.socket:
    """Fork the two processes; returns the end of the pair that the box is to hold.

    Must be called before the box's namespaces are made.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return ours
    try:
        _detach(theirs.fileno())
        _keep(theirs)
    finally:
        os._exit(0)


def _detach(kept: int) -> None:
    os.setsid()
    os.chdir("/")
    syscalls.set_process_name("fsm-outside")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # Whoever opens the box waits for these to close; the API's listening socket is among them.
    top = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept)
    os.closerange(kept + 1, min(top, 65536))


def _keep(pair: socket.socket) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    while True:
        maker = os.fork()
        if maker == 0:
            serve(pair)
            os._exit(0)
        _, status = os.waitpid(maker, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return


def serve(pair: socket.socket) -> None:
    """Make sockets until the other end is closed."""
    while True:
        try:
            request = pair.recv(64)
        except OSError:
            return
        if not request:
            return
        kind = _KINDS.get(request[8:9])
        if len(request) != REQUEST_BYTES or kind is None:
            continue
        try:
            made = socket.socket(socket.AF_INET, kind)
        except OSError:
            # Out of descriptors: an answer without a socket says so.
            with contextlib.suppress(OSError):
                pair.send(request)
            continue
        with made, contextlib.suppress(OSError):
            socket.send_fds(pair, [request], [made.fileno()])
