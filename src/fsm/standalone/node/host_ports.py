"""The way into the box: LoadBalancer and NodePort Services answer on an address of the host.

    host: 127.0.0.1:80 ──accept──► gateway ──connect──► ClusterIP:80 ──nft──► an endpoint
          (a socket of the host's network)              (a socket of the box's)

What comes in: Services, and sockets made outside. What goes out: listening sockets on the host,
relayed bytes, ``status.loadBalancer`` and events of the Services.

Invariants: a port that cannot be had is told (event, status) and tried again; it keeps no other
port from opening. A status names an address only when at least one port answers there. All ports
close with this process, and the one that takes its place opens them again.
Not done here: which Service has which port (``host_claims``); datagrams (``host_udp``); the
client's own address: Pods see the node's, as behind any relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from fsm.kube import ApiError, Informer, KubeClient
from fsm.kube.resources import SERVICES
from fsm.standalone.node import streams
from fsm.standalone.node.events import Events, Happening
from fsm.standalone.node.host_claims import (
    PROTOCOLS,
    Claim,
    HostPort,
    Name,
    Plan,
    Refusal,
    balanced,
    name_of,
    plan,
)
from fsm.standalone.node.host_udp import UdpPort

KubeObject = dict[str, Any]
logger = logging.getLogger(__name__)

_GATHER_S = 0.05
#: How often a port that could not be had is tried again.
_AGAIN_S = 5.0
_CONNECT_S = 5.0
_BACKLOG = 256
#: LIMIT relayed connections at a time; more are reset.
_AT_ONCE = 2000
#: Where packets would go to leave the machine (TEST-NET-1, RFC 5737); none is sent there.
_ANYWHERE = ("192.0.2.1", 9)

MakeSocket = Callable[[bytes], Awaitable[socket.socket]]


class HostPorts:
    """Opens, serves and closes the ports; ``run()`` beside the gateway."""

    def __init__(self, client: KubeClient, make_socket: MakeSocket, host: str, node: str) -> None:
        self._client = client
        self._make = make_socket
        self._host = host
        self._services = Informer(client, SERVICES)
        self._events = Events(client, node, source="service-load-balancer")
        self._open: dict[HostPort, tuple[asyncio.Server | UdpPort, Claim]] = {}
        self._told: set[Refusal] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Follow the Services until cancelled."""
        self._services.subscribe(lambda *_: self._look.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._services.run())
            group.create_task(self._events.run())
            await self._services.synced.wait()
            self._look.set()
            while True:
                await self._look.wait()
                await asyncio.sleep(_GATHER_S)
                self._look.clear()
                if not await self._reconcile():
                    asyncio.get_running_loop().call_later(_AGAIN_S, self._look.set)

    async def _reconcile(self) -> bool:
        """Make the ports and statuses what the Services say; returns whether all succeeded."""
        services = list(self._services.store.values())
        wanted = plan(services)
        for key in [key for key in self._open if key not in wanted.claims]:
            self._open.pop(key)[0].close()
        failed: list[Refusal] = []
        for claim in wanted.claims.values():
            if (refusal := await self._ensure(claim)) is not None:
                failed.append(refusal)
        refusals = [*wanted.refusals, *failed]
        self._tell(refusals)
        by_service: dict[Name, list[Refusal]] = {}
        for refusal in refusals:
            by_service.setdefault(refusal.service, []).append(refusal)
        address = await self._advertised() if any(map(balanced, services)) else ""
        good = not failed
        for service in services:
            status = status_of(service, wanted, by_service.get(name_of(service), []), address)
            good = await self._report(service, status) and good
        return good

    async def _ensure(self, claim: Claim) -> Refusal | None:
        key, to = (claim.protocol, claim.host_port), (claim.address, claim.port)
        if key in self._open:
            # The listener stays; only where it leads may have changed.
            server = self._open[key][0]
            if isinstance(server, UdpPort):
                server.lead(to)
            self._open[key] = (server, claim)
            return None
        try:
            sock = await self._make(b"t" if claim.protocol == "TCP" else b"u")
        except OSError as error:
            text = str(error)
            return Refusal(claim.service, claim.host_port, "NoWayIn", text, claim.protocol)
        try:
            if claim.protocol == "TCP":
                # Not for UDP, where it would take the port from another program.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, claim.host_port))
            made: asyncio.Server | UdpPort
            if claim.protocol == "TCP":
                made = await asyncio.start_server(
                    lambda reader, writer: self._serve(key, (reader, writer)),
                    sock=sock,
                    backlog=_BACKLOG,
                )
            else:
                made = UdpPort(sock, to)
        except OSError as error:
            sock.close()
            return _refused(claim, self._host, error)
        self._open[key] = (made, claim)
        told = {"port": f"{claim.host_port}/{claim.protocol}", "for": "/".join(claim.service)}
        logger.info("opened a port of the host", extra=told)
        return None

    async def _serve(self, key: HostPort, near: streams.Streams) -> None:
        if key not in self._open or self._room.locked():
            streams.reset(near[1])
            return
        claim = self._open[key][1]
        async with self._room:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    far = await asyncio.open_connection(claim.address, claim.port)
            except (OSError, TimeoutError) as error:
                logger.info(
                    "no endpoint answers",
                    extra={"service": "/".join(claim.service), "why": str(error) or "no answer"},
                )
                streams.reset(near[1])
                return
            await streams.join(near, far)

    def _tell(self, refusals: list[Refusal]) -> None:
        """Write an event for what was not refused before; the same is told once."""
        for refusal in refusals:
            service = self._services.get(*refusal.service)
            if refusal in self._told or service is None:
                continue
            about = {"kind": "Service", "metadata": service["metadata"]}
            self._events.tell(about, [Happening("Warning", refusal.reason, refusal.message)])
        self._told = set(refusals)

    async def _report(self, service: KubeObject, ingress: list[KubeObject] | None) -> bool:
        present = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
        if ingress == present or (ingress is None and not present):
            return True
        namespace, name = name_of(service)
        body = {"loadBalancer": {"ingress": ingress}}
        try:
            await self._client.patch_status(SERVICES, name, body, namespace)
        except ApiError as error:
            logger.info("cannot report", extra={"service": name, "why": str(error)})
            return False
        return True

    async def _advertised(self) -> str:
        """Say by which address the ports are reached from the host."""
        if self._host != "0.0.0.0":
            return self._host
        with contextlib.suppress(OSError):
            with await self._make(b"u") as sock:
                # Connecting a UDP socket asks for a route, and sends nothing.
                sock.connect(_ANYWHERE)
                return str(sock.getsockname()[0])
        return "127.0.0.1"


def status_of(
    service: KubeObject, wanted: Plan, refusals: list[Refusal], address: str
) -> list[KubeObject] | None:
    """Write ``status.loadBalancer.ingress``; ``None`` where there is to be none. Pure."""
    if not balanced(service) or service["metadata"].get("deletionTimestamp"):
        return None
    errors = {(refusal.protocol, refusal.host_port): refusal.reason for refusal in refusals}
    ports: list[KubeObject] = []
    for entry in service["spec"].get("ports") or []:
        number, protocol = entry["port"], str(entry.get("protocol") or "TCP")
        key = (protocol, number)
        claim = wanted.claims.get(key)
        mine = protocol in PROTOCOLS and claim is not None and claim.service == name_of(service)
        error = errors.get(key, "Pending")
        ports.append(
            {"port": number, "protocol": protocol}
            | ({} if mine and key not in errors else {"error": error})
        )
    if all("error" in port for port in ports):
        return None
    return [{"ip": address, "ipMode": "Proxy", "ports": ports}]


def _refused(claim: Claim, host: str, error: OSError) -> Refusal:
    reason, hint = "CannotListen", ""
    if error.errno == errno.EADDRINUSE:
        reason, hint = "PortTaken", "; another program of the host, or another box, has it"
    elif error.errno == errno.EACCES:
        reason = "PortForbidden"
        hint = (
            "; ports below 1024 need root: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80,"
            " or use the node port"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        hint = "; it is no address of this machine (`fsm up --expose`)"
    where = f"{host}:{claim.host_port}" + ("" if claim.protocol == "TCP" else f"/{claim.protocol}")
    text = f"cannot listen on {where} of the host: {error.strerror}{hint}"
    return Refusal(claim.service, claim.host_port, reason, text, claim.protocol)
