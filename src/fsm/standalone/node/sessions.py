"""A command in a running container with live streams: what `kubectl exec` and `attach` are made of.

What comes in: a websocket of the API server, and a container. What goes out: binary messages, each
led by the number of its channel, as in Kubernetes' ``v5.channel.k8s.io``:

    0 input · 1 output · 2 errors · 3 the end, a Status · 4 terminal size {"Width", "Height"}
    255 followed by a channel number: that channel ends

Invariants: whatever ends first (command, client, container) ends the rest, and no process is left;
the Status comes after the last byte of output; nothing is buffered beyond one pipe and one message.
Not done here: other protocols than this (the API server translates), deciding who may.
Source: https://kubernetes.io/docs/reference/using-api/websockets/
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import struct
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK = 32 << 10
#: How long output of orphans is awaited after the command itself has ended, seconds.
_LINGER_S = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the client wants to be connected."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def outcome(code: int) -> dict[str, Any]:
    """Write the Status that tells an exit code (128 + n for signal n)."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> dict[str, Any]:
    """Write the Status of a command that could not be run."""
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": message,
        "code": 500,
    }


async def serve(
    socket: web.WebSocketResponse, argv: list[str], wanted: Wanted, root: str = ""
) -> None:
    """Run ``argv`` (already led into the container) until it or the client ends.

    Args:
        socket: the client.
        argv: the command line.
        wanted: which streams.
        root: where the container's root directory can be reached, for a terminal of its own.

    """
    try:
        if wanted.tty:
            session = await _Terminal.start(socket, argv, wanted, root)
        else:
            session = await _Pipes.start(socket, argv, wanted)
    except OSError as error:
        await _end(socket, failure(f"cannot run the command: {error}"))
        return
    ended = asyncio.ensure_future(session.ended())
    heard = asyncio.ensure_future(_hear(socket, session))
    try:
        await asyncio.wait({ended, heard}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await _end(socket, outcome(ended.result()))
    finally:
        session.kill()
        for task in (ended, heard):
            task.cancel()
        await asyncio.gather(ended, heard, return_exceptions=True)
        await session.close()


async def _hear(socket: web.WebSocketResponse, session: _Session) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN and data:
            await session.feed(data)
        elif channel == RESIZE:
            session.resize(data)
        elif channel == CLOSE and data == bytes([STDIN]):
            session.feed_end()


async def _end(socket: web.WebSocketResponse, status: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
        await socket.close()


class _Session:
    """One running command; ``_readers`` are its outputs by channel."""

    def __init__(self, socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
        self._socket = socket
        self._process = process
        self._readers: list[tuple[int, asyncio.StreamReader]] = []
        self._writer: asyncio.StreamWriter | asyncio.WriteTransport | None = None

    async def ended(self) -> int:
        """Carry all output; returns the exit code."""
        pumps = [asyncio.ensure_future(self._pump(c, r)) for c, r in self._readers]
        try:
            code = await self._process.wait()
            if pumps:
                # Whoever inherited the pipes may hold them open for ever.
                _, late = await asyncio.wait(pumps, timeout=_LINGER_S)
                while late and any(
                    pump in late and reader_has(r)
                    for pump, (_, r) in zip(pumps, self._readers, strict=True)
                ):
                    _, late = await asyncio.wait(late, timeout=_LINGER_S)
            return code if code >= 0 else 128 - code
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, channel: int, reader: asyncio.StreamReader) -> None:
        lead = bytes([channel])
        # EIO is how a terminal says that its last user has closed it.
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._socket.send_bytes(lead + chunk)

    async def feed(self, data: bytes) -> None:
        """Pass input on; dropped when the command reads no more."""
        if isinstance(self._writer, asyncio.StreamWriter):
            with contextlib.suppress(OSError):
                self._writer.write(data)
                await self._writer.drain()

    def feed_end(self) -> None:
        """Pass on that the input has ended."""
        if isinstance(self._writer, asyncio.StreamWriter):
            self._writer.close()

    def resize(self, data: bytes) -> None:
        """Note the size of the client's terminal."""

    def kill(self) -> None:
        """End the command and what it started in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Reap the command."""
        await self._process.wait()


def reader_has(reader: asyncio.StreamReader) -> bool:
    """Tell whether bytes wait in a reader (the client is slow to take them)."""
    return bool(getattr(reader, "_buffer", b""))


class _Pipes(_Session):
    @classmethod
    async def start(
        cls, socket: web.WebSocketResponse, argv: list[str], wanted: Wanted
    ) -> _Session:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=pipe if wanted.stdin else null,
            stdout=pipe if wanted.stdout else null,
            stderr=pipe if wanted.stderr else null,
            start_new_session=True,
        )
        made = cls(socket, process)
        made._writer = process.stdin
        for channel, reader in ((STDOUT, process.stdout), (STDERR, process.stderr)):
            if reader is not None:
                made._readers.append((channel, reader))
        return made


class _Terminal(_Session):
    _master = -1

    @classmethod
    async def start(
        cls, socket: web.WebSocketResponse, argv: list[str], wanted: Wanted, root: str
    ) -> _Session:
        master, slave = _open_terminal(root)
        try:
            # `setsid --ctty` makes the terminal the controlling one, so that Ctrl-C arrives; in
            # there, as shells look for the group that has it among the processes that they see.
            place = argv.index("--") + 1 if "--" in argv else 0
            argv = [*argv[:place], "setsid", "--ctty", *argv[place:]]
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        made = cls(socket, process)
        made._master = master
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(master), "rb", 0))
        if wanted.stdin:
            transport, flow = await loop.connect_write_pipe(
                asyncio.streams.FlowControlMixin, os.fdopen(os.dup(master), "wb", 0)
            )
            made._writer = asyncio.StreamWriter(transport, flow, None, loop)
        if wanted.stdout:
            made._readers.append((STDOUT, reader))
        return made

    def kill(self) -> None:
        # The command leads a session of its own, and whatever has the terminal now a group.
        groups = _children(self._process.pid)
        with contextlib.suppress(OSError):
            groups.append(os.tcgetpgrp(self._master))
        super().kill()
        for group in filter(None, groups):
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)

    def feed_end(self) -> None:
        """Type Ctrl-D: a terminal has no other end."""
        with contextlib.suppress(OSError):
            os.write(self._master, b"\x04")

    def resize(self, data: bytes) -> None:
        """Set the size of the terminal; the command gets SIGWINCH."""
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError, struct.error):
            size = json.loads(data)
            packed = struct.pack("HHHH", int(size["Height"]), int(size["Width"]), 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    async def close(self) -> None:
        if isinstance(self._writer, asyncio.StreamWriter):
            self._writer.close()
        os.close(self._master)
        await super().close()


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _open_terminal(root: str) -> tuple[int, int]:
    """Open a terminal of the container's, which has a name there; else one of the box's."""
    with contextlib.suppress(OSError):
        master = os.open(f"{root}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
            return master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            os.close(master)
            raise
    return os.openpty()


#: asm-generic/ioctls.h: unlock the other end; open the other end, whatever its path (Linux 4.13).
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
