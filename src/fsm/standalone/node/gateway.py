"""The way out of the box: from Pods to addresses outside, and DNS for names outside.

    Pod ── 192.0.2.7:443 ──nft──► gateway on the node's address ──relay──► a socket of the host's
    Pod ── datagrams ──► ``outside_udp``
    cluster DNS ──► 127.0.0.53:53 ──► the resolvers of the host
    the host's 127.0.0.1:80 ──► ``host_ports`` ──► a Service of the box

What comes in: the settings and the pair that ``box.outside`` answers on. What goes out: relayed
bytes. The outside sees connections of the host, as behind a router that translates addresses.

Invariants: cluster addresses, loopback and link-local ones, and those of a cloud's metadata, are
never dialled outside; where the host has no way to IPv6 addresses, Pods are told at once, by the
kernel, and go on with IPv4; what one side has not taken is not read from the other; a connection
that cannot be made is reset, so that the Pod learns it at once (though after its own ``connect``
has succeeded).
Not done here: ICMP, Pods with ``hostNetwork``: they have no way out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import itertools
import logging
import os
import resource
import signal
import socket
import struct

from fsm.kube import KubeClient
from fsm.standalone.box.logformat import set_up
from fsm.standalone.box.outside import REQUEST_BYTES
from fsm.standalone.box.settings import OUTSIDE_DNS, StandaloneSettings
from fsm.standalone.box.waiting import wait_for_api
from fsm.standalone.node import commands, outside_udp
from fsm.standalone.node.host_ports import HostPorts
from fsm.standalone.node.streams import join, reset

logger = logging.getLogger(__name__)

TABLE = "fsm-outside"
_PORT = 15999
#: The same number in both families (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
_SO_ORIGINAL_DST = 80
#: An address of the documentation (RFC 3849), to ask the host whether it has a route at all.
_SOMEWHERE6 = ("2001:db8::1", 9)
_LOOK_AGAIN_S = 30.0
#: Metadata services of clouds that are no link-local addresses.
_METADATA6 = frozenset(map(ipaddress.IPv6Address, ("fd00:ec2::254", "fd20:ce::254")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DIAL_S = 10.0
_DNS_S = 4.0
#: LIMIT connections, and DNS questions, at a time; more are reset, or not answered.
_AT_ONCE = 2000
_FILES = 16384


class Refused(OSError):
    """There is no socket to be had outside, or the address is not to be dialled."""


def ruleset(settings: StandaloneSettings, *, ipv6: bool = False) -> str:
    """Write the rules that lead TCP from Pods to outside addresses here.

    Args:
        settings: of the box.
        ipv6: whether IPv6 addresses outside can be reached. Where not, there is no route to them.

    """
    inner = (settings.pod_cidr, settings.service_cidr)
    never = (*inner, "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4")
    text = _table("ip", never, f"{settings.node_ip}:{_PORT}")
    if not settings.pod_cidr6:
        return text
    if not ipv6:
        return text + _replace("ip6")
    never6 = (settings.pod_cidr6, settings.service_cidr6, "fe80::/10", "ff00::/8")
    return text + _table("ip6", never6, f"[{settings.node_ip6}]:{_PORT}")


def _replace(family: str) -> str:
    return f"table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n"


def _table(family: str, never: tuple[str, ...], to: str) -> str:
    return (
        f"{_replace(family)}table {family} {TABLE} {{\n"
        # After the Services' own rules, which rewrite what is theirs.
        "  chain prerouting {\n    type nat hook prerouting priority dstnat + 5; policy accept;\n"
        f'    iifname "fsm*" {family} daddr != {{ {", ".join(never)} }}'
        f" fib daddr type != local meta l4proto tcp dnat to {to}\n"
        "  }\n}\n"
    )


class Outside:
    """Sockets of the host's network, one request at a time."""

    def __init__(self, pair: socket.socket) -> None:
        pair.setblocking(False)
        self._pair = pair
        self._turn = asyncio.Lock()
        # Distinct from those of a gateway before us, whose answers may still be in the pair.
        self._ids = itertools.count(int.from_bytes(os.urandom(4)) << 32)

    async def socket(self, kind: bytes) -> socket.socket:
        """Get an unconnected, non-blocking socket; ``kind`` is one of ``box.outside``.

        Raises:
            Refused: there is none.

        """
        loop = asyncio.get_running_loop()
        request = next(self._ids).to_bytes(8) + kind
        async with self._turn:
            try:
                async with asyncio.timeout(_DNS_S):
                    await loop.sock_sendall(self._pair, request)
                    while True:
                        answer, fds = await self._receive()
                        if answer == request:
                            break
                        for fd in fds:
                            os.close(fd)
            except (OSError, TimeoutError) as error:
                raise Refused(f"the process outside does not answer: {error!r}") from error
        if not fds:
            raise Refused("the process outside has no such socket to give")
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made

    async def _receive(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        while True:
            readable = asyncio.Event()
            try:
                data, fds, _, _ = socket.recv_fds(self._pair, REQUEST_BYTES, 1)
            except BlockingIOError:
                loop.add_reader(self._pair.fileno(), readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._pair.fileno())
                continue
            if not data:
                raise ConnectionResetError("it has ended")
            return data, fds


async def run(settings: StandaloneSettings, pair: socket.socket) -> None:
    """Serve until cancelled."""
    outside = Outside(pair)
    room = asyncio.Semaphore(_AT_ONCE)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if room.locked():
            reset(writer)
            return
        async with room:
            await _relay(outside, reader, writer)

    server = await asyncio.start_server(relay, settings.node_ips, _PORT, backlog=512)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind((OUTSIDE_DNS, 53))
    await commands.run("nft", "-f", "-", feed=ruleset(settings))
    datagrams = await _lead_datagrams(settings, ipv6=False)
    async with server, asyncio.TaskGroup() as group:
        if settings.pod_cidr6:
            group.create_task(_follow_ipv6(settings, outside))
        group.create_task(_let_in(settings, outside))
        if datagrams:
            group.create_task(_datagrams(settings, outside))
        loop = asyncio.get_running_loop()
        while True:
            question, client = await loop.sock_recvfrom(udp, 65535)
            group.create_task(_resolve(outside, settings.upstream_dns, udp, question, client))


async def _follow_ipv6(settings: StandaloneSettings, outside: Outside) -> None:
    """Lead IPv6 out of the box as long as the host has a way to it."""
    led = False
    while True:
        if (possible := await _has_ipv6(outside)) != led:
            try:
                await commands.run("nft", "-f", "-", feed=ruleset(settings, ipv6=possible))
                await _lead_datagrams(settings, ipv6=possible)
                led = possible
                logger.info("IPv6 to the outside", extra={"possible": possible})
            except commands.CommandError as error:
                logger.warning("cannot lead IPv6 out", extra={"why": str(error)})
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _lead_datagrams(settings: StandaloneSettings, *, ipv6: bool) -> bool:
    try:
        await commands.run("nft", "-f", "-", feed=outside_udp.ruleset(settings, ipv6=ipv6))
    except commands.CommandError as error:
        logger.warning("UDP has no way out", extra={"why": str(error)})
        return False
    return True


async def _datagrams(settings: StandaloneSettings, outside: Outside) -> None:
    """Carry datagrams where the kernel can; all else goes on where it cannot."""
    try:
        await outside_udp.Datagrams(settings, outside.socket, may_dial).run()
    except OSError as error:
        logger.warning("UDP has no way out", extra={"why": str(error)})


async def _has_ipv6(outside: Outside) -> bool:
    try:
        with await outside.socket(b"U") as sock:
            # A datagram socket: the kernel looks for a route, and nothing is sent.
            sock.connect(_SOMEWHERE6)
    except OSError:
        return False
    return True


async def _let_in(settings: StandaloneSettings, outside: Outside) -> None:
    async with KubeClient.from_unix_socket(settings.state_dir / "api.sock") as client:
        await wait_for_api(client)
        await HostPorts(client, outside.socket, settings.expose, settings.node_name).run()


async def _relay(
    outside: Outside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    where = "?"
    try:
        host, port = original_destination(writer.get_extra_info("socket"))
        where = f"[{host}]:{port}"
        if not may_dial(host):
            raise Refused("the address is not outside")
        sock = await outside.socket(b"T" if ":" in host else b"t")
        try:
            async with asyncio.timeout(_DIAL_S):
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        far = await asyncio.open_connection(sock=sock)
    except (OSError, TimeoutError) as error:
        logger.info("no way out", extra={"to": where, "why": str(error) or "no answer"})
        reset(writer)
        return
    await join((reader, writer), far)


async def _resolve(
    outside: Outside,
    resolvers: tuple[str, ...],
    udp: socket.socket,
    question: bytes,
    client: tuple[str, int],
) -> None:
    """Ask the host's resolvers one by one; the cluster DNS answers SERVFAIL when none does."""
    loop = asyncio.get_running_loop()
    for resolver in resolvers:
        with contextlib.suppress(OSError, TimeoutError):
            with await outside.socket(b"U" if ":" in resolver else b"u") as sock:
                async with asyncio.timeout(_DNS_S / len(resolvers)):
                    await loop.sock_connect(sock, (resolver, 53))
                    await loop.sock_sendall(sock, question)
                    while (answer := await loop.sock_recv(sock, 65535))[:2] != question[:2]:
                        continue
            await loop.sock_sendto(udp, answer, client)
            return


def original_destination(sock: socket.socket) -> tuple[str, int]:
    """Ask the kernel where a connection was going before it was led here."""
    if sock.family == socket.AF_INET6:
        raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        port, address = struct.unpack("!2xH4x16s4x", raw)
        return socket.inet_ntop(socket.AF_INET6, address), int(port)
    raw = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    port, address = struct.unpack("!2xH4s8x", raw)
    return socket.inet_ntoa(address), int(port)


def may_dial(host: str) -> bool:
    """Tell whether an address may be dialled in the host's network."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None or address in _METADATA6:
            return False
        if address in _NAT64:
            # What is behind the host's translator is an IPv4 address (RFC 6052).
            return may_dial(str(ipaddress.IPv4Address(address.packed[12:])))
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )


def main() -> None:
    """Run the gateway."""
    parser = argparse.ArgumentParser(prog="fsm standalone gateway", description=__doc__)
    parser.add_argument("--settings", required=True, help="StandaloneSettings as JSON")
    parser.add_argument("--outside-fd", type=int, required=True, help="of the pair to the outside")
    given = parser.parse_args()
    set_up(logging.INFO)

    # Each connection has two descriptors, and the usual soft limit is 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        settings = StandaloneSettings.from_json(given.settings)
        await run(settings, socket.socket(fileno=given.outside_fd))

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
