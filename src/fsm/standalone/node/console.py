"""The standard streams of a container that people may attach to: its input, or a terminal.

    kubectl attach ─► agent ──socket in the container's directory──► init ──pipe or terminal──► app
                                                                       └──► the log

What comes in: connections of the agent, and what the application writes. What goes out: its log,
and frames to whoever is attached: a channel, a length of four bytes, and as many bytes.

    to us     0 input · 4 size of the terminal {"Width", "Height"} · 5 "I bring the input" · 255 end
    from us   1 output · 2 errors

Invariants: it lives in the container's init, so that it needs no agent; nothing that was written is
lost for the log; output before the first client is kept for it (the last ``_BEFORE_BYTES_MAX``);
who does not take what it is sent holds the application up, as a terminal does, but for no longer
than ``_STUCK_S``. With ``once`` the input ends when the first client that brought it goes.
Standard library only, as ``shim``. Not done here: containers without ``stdin`` and ``tty``, which
write to their logs themselves.
Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#debugging
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import termios
import time

STDIN, STDOUT, STDERR, RESIZE, INPUT, CLOSE = 0, 1, 2, 4, 5, 255
HEADER = struct.Struct("!BI")
#: LIMIT bytes of one frame to us; more is no client of ours.
FRAME_BYTES_MAX = 1 << 20
SOCKET = "console.sock"
_CHUNK = 32 << 10
_BEFORE_BYTES_MAX = 64 << 10
#: LIMIT bytes that wait for a client, or for the application; then the other side waits.
_WAITING_BYTES_MAX = 256 << 10
_STUCK_S = 30.0
#: How long clients may take to read what was written last, seconds.
_FLUSH_S = 2.0
#: LIMIT bytes that are still read once the application has ended: others may write for ever.
_LAST_BYTES_MAX = 4 << 20
_CLIENTS_MAX = 16
_CTRL_D = b"\x04"


def listen(directory: int) -> socket.socket:
    """Make the socket in a directory, whose path may be longer than those of sockets may be."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=directory)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(f"/proc/self/fd/{directory}/{SOCKET}")
    made.listen(_CLIENTS_MAX)
    made.setblocking(False)
    return made


class _Client:
    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.brings_input = False
        self.moved_at = time.monotonic()


class Console:
    """One container's streams; made in its init, before the application is forked."""

    def __init__(self, listener: socket.socket, *, stdin: bool, once: bool, tty: bool) -> None:
        """Open the streams.

        Raises:
            OSError: there is no terminal to be had.

        """
        self._listener = listener
        self._once = once
        self._tty = tty
        self._clients: list[_Client] = []
        self._before: bytearray | None = bytearray()
        self._pending = bytearray()
        self._ending = False
        self._input = -1
        if tty:
            try:
                master, slave = os.openpty()
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"tty: this machine gives the container no terminal: {error.strerror}",
                ) from error
            os.set_blocking(master, False)
            # Our end of the slave stays open: without one the master would only say EIO.
            self._theirs = (slave, slave, slave)
            self._outputs = {master: STDOUT}
            self._master = master
            self._input = master if stdin else -1
        else:
            feed, self._input = os.pipe()
            out, out_theirs = os.pipe()
            err, err_theirs = os.pipe()
            for fd in (self._input, out, err):
                os.set_blocking(fd, False)
            self._theirs = (feed, out_theirs, err_theirs)
            self._outputs = {out: STDOUT, err: STDERR}

    def give(self, uid: int | None, gid: int | None) -> None:
        """Make the streams this process's own; the application calls it before it begins."""
        if self._tty:
            if uid is not None:
                with contextlib.suppress(OSError):
                    os.fchown(self._theirs[0], uid, -1 if gid is None else gid)
            fcntl.ioctl(self._theirs[0], termios.TIOCSCTTY, 0)
        for number, fd in enumerate(self._theirs):
            os.dup2(fd, number)

    def serve(self, child: int, log: int) -> int:
        """Carry the streams and reap processes until ``child`` ends; returns its wait status."""
        if not self._tty:
            for fd in self._theirs:
                os.close(fd)
        wake, writer = os.pipe()
        for fd in (wake, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while (status := _reaped(child)) is None:
            self._turn(log, wake)
        self._finish(log)
        return status

    def _turn(self, log: int, wake: int) -> None:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        if len(self._clients) < _CLIENTS_MAX:
            poll.register(self._listener, select.POLLIN)
        held_up = any(len(c.outbox) > _WAITING_BYTES_MAX for c in self._clients)
        writing = bool(self._pending) and self._input >= 0
        for fd in {*self._outputs, *((self._input,) if writing else ())}:
            events = select.POLLIN if fd in self._outputs and not held_up else 0
            poll.register(fd, events | (select.POLLOUT if writing and fd == self._input else 0))
        for client in self._clients:
            room = not client.brings_input or len(self._pending) <= _WAITING_BYTES_MAX
            events = select.POLLIN if room else 0
            poll.register(client.sock, events | (select.POLLOUT if client.outbox else 0))
        happened = dict(poll.poll(1000 if held_up else None))
        if wake in happened:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        for fd in [fd for fd in self._outputs if happened.get(fd, 0) & ~select.POLLOUT]:
            self._hear(fd, log)
        if self._input in happened and writing:
            self._feed()
        for client in list(self._clients):
            self._attend(client, happened.get(client.sock.fileno(), 0))
        if self._listener.fileno() in happened:
            self._admit()

    def _admit(self) -> bool:
        """Take on who waits to be; returns whether there was somebody."""
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return False
        client = _Client(sock)
        if self._before is not None:
            client.outbox += self._before
            self._before = None
        self._clients.append(client)
        return True

    def _hear(self, fd: int, log: int) -> int:
        """Take what the application wrote; returns how many bytes."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            del self._outputs[fd]
            if fd != self._input:
                os.close(fd)
            return 0
        with contextlib.suppress(OSError):
            _write_all(log, data)
        frame = HEADER.pack(self._outputs[fd], len(data)) + data
        if self._before is not None:
            self._before += frame
            while len(self._before) > _BEFORE_BYTES_MAX:
                # Whole frames only: a piece of one could not be read.
                _, length = HEADER.unpack_from(self._before)
                del self._before[: HEADER.size + length]
        for client in self._clients:
            client.outbox += frame
        return len(data)

    def _attend(self, client: _Client, events: int) -> None:
        now = time.monotonic()
        if not client.outbox:
            client.moved_at = now
        if client.outbox and not self._flush(client):
            self._leave(client)
            return
        if client.outbox and now - client.moved_at > _STUCK_S:
            self._leave(client)
            return
        if not events & ~select.POLLOUT:
            return
        try:
            data = client.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.inbox += data
        if not data or not self._obey(client):
            self._leave(client)

    def _flush(self, client: _Client) -> bool:
        """Send what waits for a client; returns whether it is still there."""
        try:
            sent = client.sock.send(client.outbox)
        except BlockingIOError:
            return True
        except OSError:
            return False
        del client.outbox[:sent]
        client.moved_at = time.monotonic()
        return True

    def _obey(self, client: _Client) -> bool:
        """Act on the frames that are whole; returns whether they make sense."""
        while len(client.inbox) >= HEADER.size:
            kind, length = HEADER.unpack_from(client.inbox)
            if length > FRAME_BYTES_MAX:
                return False
            end = HEADER.size + length
            if len(client.inbox) < end:
                break
            body = bytes(client.inbox[HEADER.size : end])
            del client.inbox[:end]
            if kind == STDIN:
                self._take(body)
            elif kind == INPUT:
                client.brings_input = True
            elif kind == CLOSE and self._once:
                self._end_input()
            elif kind == RESIZE and self._tty:
                self._resize(body)
        return True

    def _take(self, data: bytes) -> None:
        if self._input >= 0 and not self._ending:
            self._pending += data
            self._feed()

    def _feed(self) -> None:
        """Pass on what waits for the application, as far as it takes it."""
        while self._pending and self._input >= 0:
            try:
                done = os.write(self._input, self._pending)
            except BlockingIOError:
                return
            except OSError:
                # It reads no more.
                self._pending.clear()
                break
            del self._pending[:done]
        if self._ending and not self._tty and self._input >= 0:
            os.close(self._input)
            self._input = -1

    def _end_input(self) -> None:
        if self._input < 0 or self._ending:
            return
        if self._tty:
            # A terminal has no other end; it is typed once, and whoever comes later may type on.
            self._pending += _CTRL_D
            self._once = False
        else:
            self._ending = True
        self._feed()

    def _resize(self, body: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError, struct.error):
            size = json.loads(body)
            packed = struct.pack("HHHH", int(size["Height"]), int(size["Width"]), 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    def _leave(self, client: _Client) -> None:
        self._clients.remove(client)
        client.sock.close()
        if client.brings_input and self._once:
            self._end_input()

    def _finish(self, log: int) -> None:
        """Pass on what was written last, and tell the end."""
        left = _LAST_BYTES_MAX
        for fd in list(self._outputs):
            while left > 0 and (taken := self._hear(fd, log)):
                left -= taken
        # Who came in the very last moment hears it too.
        while len(self._clients) < _CLIENTS_MAX and self._admit():
            continue
        deadline = time.monotonic() + _FLUSH_S
        for client in self._clients:
            while client.outbox and (wait_s := deadline - time.monotonic()) > 0:
                poll = select.poll()
                poll.register(client.sock, select.POLLOUT)
                if not poll.poll(wait_s * 1000) or not self._flush(client):
                    break
            # What it has said and nobody has read would reset it before it reads the end.
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RD)
                while client.sock.recv(_CHUNK):
                    continue
            client.sock.close()


def _reaped(child: int) -> int | None:
    """Reap everything that has ended; returns the status of ``child`` if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            if pid == child:
                return status
    return None


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
