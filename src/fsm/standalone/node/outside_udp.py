"""The way out of the box for datagrams: from Pods to addresses outside, and the answers back.

    Pod 10.244.0.5:4000 ──► 192.0.2.7:53 ──TPROXY──► one socket of ours, which reads where it went
                                                       │  per client and destination: a session
    Pod ◄── "from 192.0.2.7:53" ◄── a transparent socket ◄── a socket of the host's, connected

What comes in: datagrams that the rules hand over (``ruleset``), each with its destination. What
goes out: the same bytes from an address of the host, and the answers to who asked.

Invariants: an answer comes from the address and port that was asked, and only from there (the
host's socket is connected); a session ends ``_ANSWERED_S`` after its last datagram, or
``_ASKED_S`` if nothing was ever answered; there are at most ``SESSIONS_MAX``, and one more takes
the place of the one that was silent longest, as in a router. Datagrams that cannot be passed on
are dropped, as networks do: nobody tells the Pod that a port outside is closed.
Not done here: which addresses may be asked (``gateway.may_dial``), the rule and route that lead
marked packets to our socket (``box.world``).
Source: https://docs.kernel.org/networking/tproxy.html; times as of Linux' own translation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.box.world import UDP_MARK

logger = logging.getLogger(__name__)

TABLE = "fsm-outside-udp"
PORT = 15998
#: LIMIT sessions at a time; each has two descriptors.
SESSIONS_MAX = 2000
_ANSWERED_S, _ASKED_S = 120.0, 30.0
_LOOK_S = 5.0
#: LIMIT datagrams that wait for a session's socket, and those that are read in one turn.
_WAITING_MAX, _AT_ONCE = 16, 64
_BYTES_MAX = 65535
#: linux/in.h, linux/in6.h: Python 3.11 does not name them.
_IP_TRANSPARENT, _IP_RECVORIGDSTADDR = 19, 20
_IPV6_RECVORIGDSTADDR, _IPV6_TRANSPARENT = 74, 75

Address = tuple[str, int]
#: Gets an unconnected socket of the host's: ``u`` for UDP over IPv4, ``U`` over IPv6.
MakeSocket = Callable[[bytes], Awaitable[socket.socket]]


def ruleset(settings: StandaloneSettings, *, ipv6: bool = False) -> str:
    """Write the rules that hand datagrams from Pods to outside addresses to us.

    Args:
        settings: of the box.
        ipv6: whether IPv6 addresses outside can be reached. Where not, nothing is taken over.

    """
    text = _table("ip", (settings.pod_cidr, settings.service_cidr), settings.node_ip)
    if not settings.pod_cidr6:
        return text
    if not ipv6:
        return text + _replace("ip6")
    inner = (settings.pod_cidr6, settings.service_cidr6)
    return text + _table("ip6", inner, f"[{settings.node_ip6}]")


def _replace(family: str) -> str:
    return f"table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n"


def _table(family: str, inner: tuple[str, ...], node: str) -> str:
    never = {
        "ip": ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255"),
        "ip6": ("fe80::/10", "ff00::/8"),
    }[family]
    return (
        f"{_replace(family)}table {family} {TABLE} {{\n"
        "  chain prerouting {\n"
        "    type filter hook prerouting priority mangle; policy accept;\n"
        f'    iifname "fsm*" {family} daddr != {{ {", ".join((*inner, *never))} }}'
        f" fib daddr type != local meta l4proto udp tproxy to {node}:{PORT}"
        f" meta mark set meta mark | {UDP_MARK:#x} accept\n"
        "  }\n}\n"
    )


@dataclass(slots=True)
class _Session:
    """One client and one destination.

    Attributes:
        far: the host's socket; ``None`` until it is there.
        waiting: what came before it was.
        seen_at: of the last datagram, monotonic seconds.
        answered: whether anything came back.
        task: makes the socket.

    """

    client: Address
    to: Address
    far: socket.socket | None = None
    waiting: deque[bytes] = field(default_factory=lambda: deque(maxlen=_WAITING_MAX))
    seen_at: float = 0.0
    answered: bool = False
    task: asyncio.Task[None] | None = None


class Datagrams:
    """Carries datagrams between Pods and the outside.

    Args:
        settings: of the box.
        make: gets sockets of the host's.
        may: tells whether an address may be asked at all.

    """

    def __init__(
        self, settings: StandaloneSettings, make: MakeSocket, may: Callable[[str], bool]
    ) -> None:
        self._settings = settings
        self._make = make
        self._may = may
        #: In the order of their last datagrams.
        self._sessions: OrderedDict[tuple[Address, Address], _Session] = OrderedDict()
        #: Sockets of the box's that answer in the name of a destination, and how many use each.
        self._names: dict[Address, tuple[socket.socket, set[Address]]] = {}

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: this kernel lets nobody answer in another's name.

        """
        loop = asyncio.get_running_loop()
        listeners = [_listener(ip) for ip in self._settings.node_ips]
        try:
            for listener in listeners:
                loop.add_reader(listener, self._from_pods, listener)
            while True:
                await asyncio.sleep(_LOOK_S)
                self.expire(time.monotonic())
        finally:
            for listener in listeners:
                loop.remove_reader(listener)
                listener.close()
            for session in list(self._sessions.values()):
                self._end(session)

    def expire(self, now: float) -> None:
        """End the sessions that were silent for too long."""
        for session in list(self._sessions.values()):
            limit_s = _ANSWERED_S if session.answered else _ASKED_S
            if now - session.seen_at > limit_s:
                self._end(session)

    def _from_pods(self, listener: socket.socket) -> None:
        for data, client, to in _received(listener):
            self.take(data, client, to)

    def take(self, data: bytes, client: Address, to: Address) -> None:
        """Pass one datagram on, or drop it."""
        session = self._sessions.get((client, to))
        if session is None:
            if not self._may(to[0]) or to[0] in self._settings.node_ips:
                return
            if len(self._sessions) >= SESSIONS_MAX:
                self._end(next(iter(self._sessions.values())))
            session = self._sessions[client, to] = _Session(client, to)
            session.task = asyncio.ensure_future(self._begin(session))
        self._sessions.move_to_end((client, to))
        session.seen_at = time.monotonic()
        if session.far is None:
            session.waiting.append(data)
            return
        # A network that cannot take it now drops it; so do we.
        with contextlib.suppress(OSError):
            session.far.send(data)

    async def _begin(self, session: _Session) -> None:
        where = f"[{session.to[0]}]:{session.to[1]}"
        try:
            far = await self._make(b"U" if ":" in session.to[0] else b"u")
            session.far = far
            far.connect(session.to)
            self._name(session)
        except OSError as error:
            logger.info("no way out for datagrams", extra={"to": where, "why": str(error)})
            self._end(session)
            return
        asyncio.get_running_loop().add_reader(far, self._from_outside, session)
        for data in session.waiting:
            with contextlib.suppress(OSError):
                far.send(data)
        session.waiting.clear()

    def _from_outside(self, session: _Session) -> None:
        assert session.far is not None
        name, _ = self._names[session.to]
        for _ in range(_AT_ONCE):
            try:
                data = session.far.recv(_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                # The other end is closed (ICMP); the session may still be answered later.
                return
            session.answered = True
            session.seen_at = time.monotonic()
            with contextlib.suppress(OSError):
                name.sendto(data, session.client)

    def _name(self, session: _Session) -> None:
        known = self._names.get(session.to)
        if known is None:
            known = self._names[session.to] = (_transparent(session.to), set())
        known[1].add(session.client)

    def _end(self, session: _Session) -> None:
        self._sessions.pop((session.client, session.to), None)
        if session.task is not None and session.task is not _current():
            session.task.cancel()
        if session.far is not None:
            asyncio.get_running_loop().remove_reader(session.far)
            session.far.close()
        known = self._names.get(session.to)
        if known is not None:
            known[1].discard(session.client)
            if not known[1]:
                known[0].close()
                del self._names[session.to]


def _current() -> asyncio.Task[None] | None:
    return asyncio.current_task()


def _listener(ip: str) -> socket.socket:
    made = _transparent((ip, PORT))
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
    else:
        made.setsockopt(socket.SOL_IP, _IP_RECVORIGDSTADDR, 1)
    return made


def _transparent(address: Address) -> socket.socket:
    """Make a socket that may have an address of anybody's."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        else:
            made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _received(listener: socket.socket) -> Iterator[tuple[bytes, Address, Address]]:
    """Read datagrams, each with who sent it and where it was going."""
    for _ in range(_AT_ONCE):
        try:
            data, told, flags, client = listener.recvmsg(_BYTES_MAX, 128)
        except OSError:
            return
        if flags & socket.MSG_TRUNC:
            continue
        for level, kind, raw in told:
            if (level, kind) == (socket.SOL_IP, _IP_RECVORIGDSTADDR):
                port, address = struct.unpack_from("!2xH4s", raw)
                yield data, client[:2], (socket.inet_ntoa(address), port)
            elif (level, kind) == (socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR):
                port, address = struct.unpack_from("!2xH4x16s", raw)
                yield data, client[:2], (socket.inet_ntop(socket.AF_INET6, address), port)
