"""Traffic to the application: what is let in on each of its ports.

In: the snapshot and the Pod. Out: the inbound half of a configuration and its local clusters.

A port of the Pod is open when a Service that selects the Pod leads to it. Its hosts are the names
of these Services and of the apexes whose TrafficSplit sends traffic to them. Who may use it
follows from the Pod's ServiceAccount, never from the host: every route of a TrafficTarget holds
under every name.

Invariants: in SMI mode without a TrafficTarget the port exists and has no route, so a request is
refused and the log says why. Where several Services lead to one port, one that states its protocol
is believed before one that says nothing; backends of a split come before others and take the names
of their apex, so that statistics name the version that served.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fsm.compile.aliases import aliases
from fsm.compile.chains import inbound_settings
from fsm.compile.clusters import backend_port, cluster_name, socket_address
from fsm.compile.contract import (
    Allow,
    Cluster,
    Endpoint,
    HostRule,
    Inbound,
    InboundMatch,
    Mtls,
    PluginSettings,
    Route,
    SourceRule,
    TcpRule,
    WeightedCluster,
)
from fsm.compile.hosts import address_names, network, service_names
from fsm.compile.routes import admitted, allowed_by, bounded, everything, route_of
from fsm.compile.upstream import connection_limit, limited_routes, request_limit
from fsm.model.names import ServiceAccount, origin
from fsm.model.policy import TrafficTarget
from fsm.model.service import Protocol, Service, ServicePort
from fsm.model.snapshot import Snapshot, address_order
from fsm.model.workload import Pod
from fsm.policies.ingress_backend.compile import Admission, admissions
from fsm.policies.traffic_split.compile import FULL_WEIGHT
from fsm.policies.traffic_target.compile import granted_port, granted_routes
from fsm.settings import Settings


@dataclass(frozen=True, slots=True)
class InboundHalf:
    """The inbound part of a configuration."""

    inbound: Inbound | None
    clusters: Mapping[str, Cluster]


@dataclass(frozen=True, slots=True)
class _Door:
    """A port of a Service that leads to a port of the Pod."""

    service: Service
    port: ServicePort
    number: int

    @property
    def origin(self) -> str:
        return origin("Service", self.service.namespace, self.service.name)


def inbound_half(
    snapshot: Snapshot, pod: Pod, settings: Settings, excluded: Iterable[int] = ()
) -> InboundHalf:
    """Compile the inbound half for one proxy.

    Args:
        snapshot: the world.
        pod: the Pod.
        settings: those of the mesh.
        excluded: ports that anyone may connect to, as if there were no sidecar.

    """
    return _Builder(snapshot, pod, settings, frozenset(excluded)).build()


class _Builder:
    def __init__(
        self, snapshot: Snapshot, pod: Pod, settings: Settings, excluded: frozenset[int]
    ) -> None:
        self.snapshot = snapshot
        self.pod = pod
        self.settings = settings
        self.mesh = snapshot.mesh
        self.targets: tuple[TrafficTarget, ...] = snapshot.targets_by_destination.get(
            pod.service_account, ()
        )
        self.excluded = excluded
        self.clusters: dict[str, Cluster] = {}

    def build(self) -> InboundHalf:
        carried = (False, True) if self.settings.proxy.carries_udp else (False,)
        doors: dict[tuple[int, bool], list[_Door]] = defaultdict(list)
        for key in self.snapshot.services_by_pod.get(self.pod.key, ()):
            service = self.snapshot.services[key]
            for port in (*service.ports, *service.udp_ports):
                number = self._number(service, port)
                if number is not None and port.is_udp in carried:
                    doors[number, port.is_udp].append(_Door(service, port, number))
        past = {(number, udp) for number in self.excluded for udp in carried}
        matches = tuple(
            self._past(number, udp=udp) if (number, udp) in past else match(number, doors[door])
            for door in sorted({*doors, *past})
            for number, udp in (door,)
            for match in (self._udp_match if udp else self._match,)
        )
        # Without a port there is nothing to accept: the listener is closed.
        return InboundHalf(Inbound(matches=matches) if matches else None, self.clusters)

    def _number(self, service: Service, port: ServicePort) -> int | None:
        if isinstance(port.target_port, int):
            return port.target_port or port.port
        if (declared := self.pod.port_number(port.target_port)) is not None:
            return declared
        for endpoint in self.snapshot.endpoints.get(service.key, ()):
            if endpoint.pod is not None and endpoint.pod.key == self.pod.key:
                return endpoint.ports.get(port.key)
        return None

    def _past(self, number: int, *, udp: bool) -> InboundMatch:
        """Return the match of an excluded port: bytes, of anyone, in plain text."""
        name = f"{self.pod.key}|{number}{'/udp' if udp else ''}|local"
        self._add_local(name, number, self.mesh.origin)
        rule = TcpRule(
            origin=self.mesh.origin,
            service=str(self.pod.key),
            clusters=(WeightedCluster(cluster=name, weight=FULL_WEIGHT),),
        )
        return InboundMatch(
            port=number,
            protocol=Protocol.UDP if udp else Protocol.TCP,
            origin=self.mesh.origin,
            mtls=Mtls.DISABLED,
            tcp=rule,
        )

    def _udp_match(self, number: int, doors: list[_Door]) -> InboundMatch:
        """Return the match of a UDP port: a client is known by its address alone."""
        first = min(doors, key=lambda door: (door.service.key, door.port.port))
        granted = None
        if not self.mesh.traffic.permissive:
            granted = granted_port(self.snapshot, self.targets, number, udp=True)
        rule = TcpRule(
            origin=granted.origin if granted else first.origin,
            service=str(first.service.key),
            allowed=None if self.mesh.traffic.permissive else (),
            clusters=self._local(first),
        )
        members = [
            SourceRule(cidrs=cidrs, origin=grant.origin)
            for grant in (granted.grants if granted else ())
            if (cidrs := self._pods_of(grant.account))
        ]
        others = [
            SourceRule(cidrs=found.networks, origin=found.origin)
            for door in doors
            for found in admissions(self.snapshot, door.service.key, number, udp=True)
        ]
        return InboundMatch(
            port=number,
            protocol=Protocol.UDP,
            origin=first.origin,
            mtls=Mtls.DISABLED,
            sources=tuple(dict.fromkeys([*members, *others])),
            tcp=rule,
        )

    def _pods_of(self, account: ServiceAccount) -> tuple[str, ...]:
        addresses = {
            ip
            for pod in self.snapshot.pods_by_account.get(account, ())
            # An address that others have too says nothing.
            if not pod.host_network and self.snapshot.pod_in_mesh(pod)
            for ip in pod.ips
        }
        return tuple(network(ip) for ip in sorted(addresses, key=address_order))

    def _match(self, number: int, doors: list[_Door]) -> InboundMatch:
        in_order = sorted(
            doors,
            key=lambda door: (
                door.port.stated_protocol is None,
                not self.snapshot.splits_by_backend.get(door.service.key),
                door.service.key,
                door.port.port,
            ),
        )
        first = in_order[0]
        protocol = first.port.mesh_protocol
        hosts: list[HostRule] = []
        tcp: TcpRule | None = None
        if protocol.is_http:
            hosts = self._hosts([door for door in in_order if door.port.mesh_protocol.is_http])
            hosts += self._any_host(in_order)
        else:
            tcp = self._tcp_rule(first)
        return InboundMatch(
            port=number,
            protocol=protocol,
            origin=first.origin,
            mtls=Mtls.DISABLED if self.mesh.sidecar.disabled_mtls else Mtls.STRICT,
            hosts=tuple(hosts),
            rate_limit=connection_limit(self.snapshot, first.service.key),
            sources=self._sources(in_order, requests=protocol.is_http),
            tcp=tcp,
        )

    def _hosts(self, doors: list[_Door]) -> list[HostRule]:
        hosts: list[HostRule] = []
        taken: set[str] = set()
        for door in doors:
            wanted = [*self._apex_names(door), *self._own_names(door)]
            names = tuple(name for name in dict.fromkeys(wanted) if name not in taken)
            taken.update(names)
            if names:
                hosts.append(
                    HostRule(
                        names=names,
                        service=str(door.service.key),
                        origin=door.origin,
                        plugins=self._settings(door),
                        rate_limit=request_limit(self.snapshot, door.service.key),
                        routes=limited_routes(self.snapshot, door.service.key, self._routes(door)),
                    )
                )
        return hosts

    def _sources(self, doors: list[_Door], *, requests: bool) -> tuple[SourceRule, ...]:
        rules = [
            SourceRule(
                cidrs=found.networks,
                mtls=found.tls and found.certificate,
                origin=found.origin,
                principals=found.principals,
                routes=None if found.routes is None else tuple(s.origin for s in found.routes),
                server_names=found.server_names,
                tls=found.tls and not found.certificate,
            )
            for door in doors
            for found in self._admissions(door)
            # Where there are no requests, those that may be let in cannot be told from others.
            if requests or found.routes is None
        ]
        return tuple(dict.fromkeys(rules))

    def _any_host(self, doors: list[_Door]) -> list[HostRule]:
        """Return the host of clients outside of the mesh, who send whatever Host they like."""
        for door in doors:
            if door.port.mesh_protocol.is_http and (found := self._admissions(door)):
                local = self._local(door)
                return [
                    HostRule(
                        names=("*",),
                        service=str(door.service.key),
                        origin=found[0].origin,
                        plugins=self._settings(door),
                        rate_limit=request_limit(self.snapshot, door.service.key),
                        routes=limited_routes(
                            self.snapshot,
                            door.service.key,
                            (*bounded(found, local), *_unbounded(found, local)),
                        ),
                    )
                ]
        return []

    def _admissions(self, door: _Door) -> tuple[Admission, ...]:
        return admissions(self.snapshot, door.service.key, door.number)

    def _own_names(self, door: _Door) -> Iterable[str]:
        ports = (door.port.port, door.number)
        yield from self._names(door.service, ports)
        if door.service.headless and (hostname := self._hostname(door.service)):
            yield from self._names(door.service, ports, pod=hostname)
        yield from address_names(door.service.cluster_ips, (door.port.port,), self.mesh)
        yield from address_names(self.pod.ips, ports, self.mesh)

    def _hostname(self, service: Service) -> str:
        for endpoint in self.snapshot.endpoints.get(service.key, ()):
            if endpoint.pod is not None and endpoint.pod.key == self.pod.key:
                return endpoint.hostname
        return ""

    def _apex_names(self, door: _Door) -> list[str]:
        names: list[str] = []
        for split in self.snapshot.splits_by_backend.get(door.service.key, ()):
            apex = self.snapshot.service_in_mesh(split.apex)
            if apex is None or apex.key == door.service.key:
                continue
            for port in apex.ports:
                if backend_port(port, door.service) == door.port:
                    names += self._names(apex, (port.port, door.number))
                    names += address_names(apex.cluster_ips, (port.port,), self.mesh)
                    # Whoever dials a Pod of the apex is sent to a backend with that Pod's
                    # address as the host.
                    addresses = [e.address for e in self.snapshot.endpoints[apex.key]]
                    names += address_names(addresses, (port.port, door.number), self.mesh)
        return names

    def _names(self, service: Service, ports: Iterable[int], pod: str = "") -> list[str]:
        known = [service, *aliases(self.snapshot, service.key, self.settings)]
        return [
            name
            for named in known
            for name in service_names(
                named,
                ports,
                same_namespace=True,
                mesh=self.mesh,
                settings=self.settings,
                pod=pod,
            )
        ]

    def _routes(self, door: _Door) -> tuple[Route, ...]:
        local = self._local(door)
        found = self._admissions(door)
        if self.mesh.traffic.permissive:
            return (*bounded(found, local), everything(self.mesh, local))
        routes = [
            route_of(granted.shape, local, allowed_by(granted.grants, self.settings.trust_domain))
            for granted in granted_routes(self.snapshot, self.targets, door.number)
        ]
        # Last, so that a request that a TrafficTarget describes is bounded as that route is.
        known = {route.origin for route in routes}
        more = (route for route in bounded(found, local) if route.origin not in known)
        return (*routes, *more, *_unbounded(found, local))

    def _tcp_rule(self, door: _Door) -> TcpRule:
        rule_origin = self.mesh.origin
        allowed: tuple[Allow, ...] | None = None
        if not self.mesh.traffic.permissive:
            granted = granted_port(self.snapshot, self.targets, door.number)
            rule_origin = granted.origin if granted else door.origin
            allowed = allowed_by(granted.grants if granted else (), self.settings.trust_domain)
        return TcpRule(
            origin=rule_origin,
            service=str(door.service.key),
            allowed=allowed,
            clusters=self._local(door),
            plugins=self._settings(door),
        )

    def _settings(self, door: _Door) -> PluginSettings:
        return inbound_settings(self.snapshot, self.pod, door.service.key)

    def _local(self, door: _Door) -> tuple[WeightedCluster, ...]:
        name = f"{cluster_name(door.service.key, door.number, door.port)}|local"
        self._add_local(name, door.number, door.origin)
        return (WeightedCluster(cluster=name, weight=FULL_WEIGHT),)

    def _add_local(self, name: str, number: int, origin: str) -> None:
        if self.mesh.sidecar.local_proxy_mode == "PodIP" and self.pod.ips:
            addresses = self.pod.ips
        else:
            # Of the family in which a client comes, as it would reach the application without us.
            six = any(":" in ip for ip in self.pod.ips)
            addresses = ("127.0.0.1", "::1") if six else ("127.0.0.1",)
        self.clusters[name] = Cluster(
            origin=origin,
            endpoints=tuple(
                Endpoint(address=socket_address(address, number)) for address in addresses
            ),
            connect_timeout_ms=self.settings.proxy.connect_timeout_ms,
        )


def _unbounded(found: Iterable[Admission], local: tuple[WeightedCluster, ...]) -> Iterable[Route]:
    """Yield the route of clients outside of the mesh that may send whatever they like."""
    first = next((admission for admission in found if admission.routes is None), None)
    if first is not None:
        yield admitted(first.origin, local)
