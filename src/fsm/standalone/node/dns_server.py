"""Answer DNS queries over UDP and TCP: the cluster's names from ``dns.Zone``, others forwarded.

What comes in: two bound sockets (held by PID 1, so that queries wait while this restarts), the
informers, the addresses of resolvers. What goes out: answers.

Invariants: a query that makes no sense is dropped or answered FORMERR and disturbs nothing; an
upstream that cannot be reached costs at most ``_UPSTREAM_S`` and answers SERVFAIL; answers too
large for UDP are cut and say so, and the client asks again over TCP (RFC 1035 section 4.2.1).
Not done here: caching (names of the cluster come from memory; others are rare here), DNSSEC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from typing import Any

from dnslib import AAAA, CNAME, PTR, QTYPE, RCODE, RR, SRV, A, DNSError, DNSRecord

from fsm.kube import Informer
from fsm.standalone.node.dns import Answer, Zone

logger = logging.getLogger(__name__)

_TTL_S = 5
_UPSTREAM_S = 1.5
_TCP_IDLE_S = 10.0
#: LIMIT 512 bytes without EDNS (RFC 1035), 1232 with: no fragments on any path.
_UDP_BYTES, _EDNS_BYTES = 512, 1232
#: LIMIT: queries that wait for an upstream at once; further ones are refused.
_FORWARDED_MAX = 200


class DnsServer:
    """Serves until cancelled."""

    def __init__(
        self, domain: str, services: Informer, slices: Informer, upstream: tuple[str, ...]
    ) -> None:
        self._domain = domain
        self._services = services
        self._slices = slices
        self._upstream = upstream
        self._zone: Zone | None = None
        self._forwarding = 0
        for informer in (services, slices):
            informer.subscribe(self._forget)

    async def run(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Answer on both sockets."""
        await self._services.synced.wait()
        await self._slices.synced.wait()
        udp.setblocking(False)
        tcp.setblocking(False)
        server = await asyncio.start_server(self._serve_tcp, sock=tcp)
        async with server, asyncio.TaskGroup() as group:
            group.create_task(self._serve_udp(udp, group))

    async def resolve(self, raw: bytes, limit: int | None) -> bytes | None:
        """Answer one query.

        Args:
            raw: the message.
            limit: bytes that fit when the query has no EDNS; ``None`` over TCP.

        """
        try:
            query = DNSRecord.parse(raw)
        except (DNSError, ValueError, IndexError, UnicodeDecodeError):
            return _format_error(raw)
        if query.header.qr or len(query.questions) != 1:
            return _format_error(raw)
        zone = self._current_zone()
        name = str(query.q.qname)
        answer = zone.answer(name)
        if answer.verdict == "elsewhere":
            return await self._forward(query, raw)
        reply = query.reply()
        reply.header.ra = 1
        if answer.verdict == "no-name":
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            _fill(reply, name, query.q.qtype, answer, zone)
        packed: bytes = reply.pack()
        if limit is not None:
            edns = any(rr.rtype == QTYPE.OPT for rr in query.ar)
            if len(packed) > (_EDNS_BYTES if edns else limit):
                reply.header.tc = 1
                reply.rr = []
                packed = reply.pack()
        return packed

    def _current_zone(self) -> Zone:
        if self._zone is None:
            self._zone = Zone(
                self._domain, self._services.store.values(), self._slices.store.values()
            )
        return self._zone

    def _forget(self, *_: object) -> None:
        self._zone = None

    async def _serve_udp(self, udp: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                raw, client = await loop.sock_recvfrom(udp, 4096)
            except OSError as error:
                # An ICMP error of an earlier answer shows up here; the socket is fine.
                logger.debug("socket error on DNS", extra={"why": str(error)})
                continue
            group.create_task(self._answer_udp(udp, raw, client))

    async def _answer_udp(self, udp: socket.socket, raw: bytes, client: Any) -> None:
        reply = await self._safely(raw, _UDP_BYTES)
        if reply is not None:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendto(udp, reply, client)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    raw = await reader.readexactly(size)
                reply = await self._safely(raw, None)
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _safely(self, raw: bytes, limit: int | None) -> bytes | None:
        try:
            return await self.resolve(raw, limit)
        except Exception:
            # One query that trips us must not end the name service of everyone.
            logger.exception("a DNS query failed")
            return _format_error(raw, RCODE.SERVFAIL)

    async def _forward(self, query: DNSRecord, raw: bytes) -> bytes:
        failed = query.reply()
        failed.header.rcode = RCODE.SERVFAIL
        if self._forwarding >= _FORWARDED_MAX:
            return bytes(failed.pack())
        self._forwarding += 1
        try:
            for address in self._upstream:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_UPSTREAM_S / len(self._upstream)):
                        return await _ask(address, raw)
        finally:
            self._forwarding -= 1
        return bytes(failed.pack())


async def _ask(address: str, raw: bytes) -> bytes:
    """Ask one upstream over UDP, under an id that its answer must carry (RFC 5452)."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    number = secrets.token_bytes(2)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (address, 53))
        await loop.sock_sendall(sock, number + raw[2:])
        while True:
            answer = await loop.sock_recv(sock, 65535)
            if answer[:2] == number:
                return raw[:2] + answer[2:]


def _fill(reply: DNSRecord, name: str, kind: int, answer: Answer, zone: Zone) -> None:
    any_kind = kind == QTYPE.ANY
    if answer.cname:
        reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(answer.cname), ttl=_TTL_S))
        target = zone.answer(answer.cname)
        if target.verdict == "found":
            for record in _addresses(answer.cname, target, (kind,)):
                reply.add_answer(record)
        return
    for record in _addresses(name, answer, (QTYPE.A, QTYPE.AAAA) if any_kind else (kind,)):
        reply.add_answer(record)
    if kind == QTYPE.SRV or any_kind:
        for srv in answer.srv:
            weight = max(1, 100 // len(answer.srv))
            data = SRV(0, weight, srv.port, srv.target)
            reply.add_answer(RR(name, QTYPE.SRV, rdata=data, ttl=_TTL_S))
            target = zone.answer(srv.target)
            for record in _addresses(srv.target, target, (QTYPE.A, QTYPE.AAAA)):
                reply.add_ar(record)
    if kind == QTYPE.PTR or any_kind:
        for host in answer.ptr:
            reply.add_answer(RR(name, QTYPE.PTR, rdata=PTR(host), ttl=_TTL_S))


def _addresses(name: str, answer: Answer, kinds: tuple[int, ...]) -> list[RR]:
    """Write the records of the kinds that are asked for: A for IPv4, AAAA for IPv6 (RFC 3596)."""
    made = []
    for ip in answer.addresses:
        kind, data = (QTYPE.AAAA, AAAA(ip)) if ":" in ip else (QTYPE.A, A(ip))
        if kind in kinds:
            made.append(RR(name, kind, rdata=data, ttl=_TTL_S))
    return made


def _format_error(raw: bytes, code: int = RCODE.FORMERR) -> bytes | None:
    """Answer what could not be read; ``None`` when it is no query at all."""
    if len(raw) < 12 or raw[2] & 0x80:
        return None
    return raw[:2] + bytes([0x80 | (raw[2] & 0x79), code & 0x0F]) + bytes(8)
