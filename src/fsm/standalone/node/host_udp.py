"""One UDP port of the host that leads to a Service: datagrams in, and the answers back.

    host: 127.0.0.1:53 ──► gateway ── per client a socket of the box's ──► ClusterIP:53 ──nft──► Pod
          (a socket of the host's network)

What comes in: a bound socket, and where its datagrams go. What goes out: the same bytes, from the
node's address; answers, from the port that was asked.

Invariants: all that one client sends meets the same endpoint while it goes on; a session ends
``IDLE_S`` after its last datagram, or when the Service's address changes; there are at most
``SESSIONS_MAX`` per port, and one more takes the place of the one that was silent longest. What
cannot be passed on is dropped, as networks do.
Not done here: which port leads where (``host_claims``), the client's own address: Pods see the
node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

#: As of Linux' own translation of what was answered.
IDLE_S = 120.0
#: LIMIT sessions of one port.
SESSIONS_MAX = 1000
_LOOK_S = 5.0
#: LIMIT datagrams that are read in one turn.
_AT_ONCE = 64
_BYTES_MAX = 65535

Address = tuple[str, int]


@dataclass(slots=True)
class _Session:
    near: socket.socket
    seen_at: float


class UdpPort:
    """Serves from its creation until ``close``.

    Args:
        sock: bound, of the host's network; this owns it from here on.
        to: address and port of the Service.

    """

    def __init__(self, sock: socket.socket, to: Address) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._to = to
        #: By client, in the order of their last datagrams.
        self._sessions: OrderedDict[Any, _Session] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._from_host)
        self._timer = self._loop.call_later(_LOOK_S, self._look)

    def lead(self, to: Address) -> None:
        """Send from now on to another place."""
        if to != self._to:
            self._to = to
            self._end_all()

    def close(self) -> None:
        """Close the port and end its sessions."""
        self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._end_all()

    def expire(self, now: float) -> None:
        """End the sessions that were silent for too long."""
        for client, session in list(self._sessions.items()):
            if now - session.seen_at > IDLE_S:
                self._end(client)

    def _look(self) -> None:
        self.expire(time.monotonic())
        self._timer = self._loop.call_later(_LOOK_S, self._look)

    def _from_host(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, client = self._sock.recvfrom(_BYTES_MAX)
            except OSError:
                return
            # A network that cannot take it drops it; so do we.
            with contextlib.suppress(OSError):
                self._session(client).near.send(data)

    def _session(self, client: Any) -> _Session:
        session = self._sessions.get(client)
        if session is None:
            while len(self._sessions) >= SESSIONS_MAX:
                self._end(next(iter(self._sessions)))
            session = self._sessions[client] = _Session(_connected(self._to), 0.0)
            self._loop.add_reader(session.near, self._from_service, client, session)
        session.seen_at = time.monotonic()
        self._sessions.move_to_end(client)
        return session

    def _from_service(self, client: Any, session: _Session) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = session.near.recv(_BYTES_MAX)
            except OSError:
                # Nothing more; or nobody is behind the Service now, who may be there later.
                return
            session.seen_at = time.monotonic()
            with contextlib.suppress(OSError):
                self._sock.sendto(data, client)

    def _end(self, client: Any) -> None:
        session = self._sessions.pop(client)
        self._loop.remove_reader(session.near)
        session.near.close()

    def _end_all(self) -> None:
        for client in list(self._sessions):
            self._end(client)


def _connected(to: Address) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.connect(to)
    except OSError:
        made.close()
        raise
    return made
