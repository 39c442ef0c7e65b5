"""TLS over the event loop, for thousands of connections that mostly wait.

In: bytes of sockets. Out: what peers said, and what is written to them, encrypted. A subclass says
what the bytes mean: ``opened``, ``received``, ``resumed``, ``lost``.

    accepted ──handshake──► open ──close──► closing (close_notify, what waits is sent) ──► lost
        └───────────── a fault of the peer, or ``due`` is past ──► aborted ──────────────► lost

WHY not asyncio's own TLS: it holds a read buffer for each connection, its memory BIOs grow to the
largest write and never shrink, and each message takes several times as many steps. Here everyone
reads into one buffer, and OpenSSL is given a record at a time.

Invariants: nothing is received before the handshake has succeeded; ``lost`` is called exactly once;
whoever does not get on is cut off once ``due`` is past (``Channels`` looks). Server side, and the
TLS of ``ssl.SSLObject`` unchanged: what is verified is decided by the context (``tls``).
Not here: HTTP (``http``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
from collections.abc import Iterator
from typing import cast

log = logging.getLogger("fsm.delivery")

# LIMIT: the plain text of one TLS record (RFC 8446 section 5.1); BIOs grow no further.
RECORD_BYTES = 16 * 1024
# LIMIT: of one read of a socket, into the buffer that all connections share.
READ_BYTES = 32 * 1024
# LIMIT: encrypted bytes that are handed to the socket in one call.
WRITE_BYTES = 64 * 1024
# LIMIT: until the handshake is through, seconds.
HANDSHAKE_S = 30.0
# LIMIT: until what has been written is gone once the connection is to be closed, seconds.
CLOSING_S = 10.0
# How often those that are past their time are looked for, seconds.
SWEEP_S = 5.0

Bytes = bytes | memoryview


class Channel(asyncio.BufferedProtocol):
    """One TLS connection; ``due`` is when it is cut off, by the loop's clock."""

    def __init__(self, context: ssl.SSLContext, buffer: memoryview, all_of_them: Channels):
        """Wait for ``connection_made``.

        Args:
            context: decides whom to believe.
            buffer: what is read is there until it has been looked at; all connections may share it.
            all_of_them: is told of this one while it lives.
        """
        self._buffer = buffer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._all = all_of_them
        self._transport: asyncio.Transport | None = None
        self._open = self._closing = False
        self._full = False
        self.due = math.inf

    # What a subclass is told.

    def opened(self) -> None:
        """Begin: the handshake is through."""

    def received(self, data: bytes) -> None:
        """Take what the peer said."""
        raise NotImplementedError

    def resumed(self) -> None:
        """Go on writing: what has been written is mostly gone."""

    def lost(self) -> None:
        """Clean up: nothing will be received, and what is written goes nowhere."""

    # What a subclass may do.

    @property
    def full(self) -> bool:
        """Whether enough waits to be sent, and ``resumed`` will be called."""
        return self._full

    @property
    def closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def write(self, data: Bytes) -> None:
        """Encrypt and send; what the socket does not take waits in memory."""
        if self._transport is None or self._closing:
            return
        if len(data) <= RECORD_BYTES:
            self.tls.write(data)
            self._transport.write(self._outgoing.read())
            return
        for encrypted in self._records(memoryview(data)):
            self._transport.write(encrypted)

    def _records(self, view: memoryview) -> Iterator[bytes]:
        for begin in range(0, len(view), WRITE_BYTES):
            part = view[begin : begin + WRITE_BYTES]
            records = []
            for at in range(0, len(part), RECORD_BYTES):
                self.tls.write(part[at : at + RECORD_BYTES])
                records.append(self._outgoing.read())
            yield b"".join(records)

    def close(self) -> None:
        """Say good-bye, send what waits, and close."""
        if self._closing or self._transport is None:
            return
        # It wants to read the other's good-bye, for which nobody waits.
        with contextlib.suppress(ssl.SSLError, OSError):
            if self._open:
                self.tls.unwrap()
        self._end()

    def abort(self) -> None:
        """Close at once, whatever waits."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_BYTES)
        self._all.add(self)
        self.due = asyncio.get_running_loop().time() + HANDSHAKE_S

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._closing = True
        self._transport = None
        self._all.discard(self)
        self.lost()

    def pause_writing(self) -> None:
        """Note that enough waits."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that little waits."""
        self._full = False
        if not self._closing:
            self.resumed()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._incoming.write(self._buffer[:nbytes])
        try:
            if not self._open:
                self.tls.do_handshake()
                self._open = True
                self._flush()
                self.opened()
            self._receive()
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLError, ssl.CertificateError) as error:
            log.debug("a TLS connection failed: %s", error)
            # The alert says why.
            self._end()

    def _receive(self) -> None:
        while not self._closing:
            data = self.tls.read(RECORD_BYTES)
            if not data:
                # The peer has said good-bye.
                self.close()
                return
            self.received(data)
            if not self._incoming.pending and not self.tls.pending():
                break
        self._flush()

    def _end(self) -> None:
        self._flush()
        self._closing = True
        self.due = asyncio.get_running_loop().time() + CLOSING_S
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())


class Channels:
    """The connections of one server; cuts off those whose time has come, in one look for all."""

    def __init__(self) -> None:
        self._members: set[Channel] = set()
        self._none = asyncio.Event()
        self._next: asyncio.TimerHandle | None = None

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._members))

    def add(self, channel: Channel) -> None:
        """Note one that begins."""
        self._members.add(channel)
        self._none.clear()

    def discard(self, channel: Channel) -> None:
        """Note one that has ended."""
        self._members.discard(channel)
        if not self._members:
            self._none.set()

    async def ended(self) -> None:
        """Wait until there is none."""
        if self._members:
            await self._none.wait()

    def sweep(self) -> None:
        """Look now, and from now on every ``SWEEP_S``."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for channel in self:
            if channel.due <= now:
                channel.abort()
        self._next = loop.call_later(SWEEP_S, self.sweep)

    def stop(self) -> None:
        """Look no more, and cut off the rest."""
        if self._next is not None:
            self._next.cancel()
        for channel in self:
            channel.abort()
