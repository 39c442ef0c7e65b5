"""Traffic from the application: which Services it may reach, and how.

In: the snapshot and the ServiceAccount of the client. Out: the outbound half of a configuration
and its clusters. It depends on nothing else of the Pod, so replicas share the result.

- In permissive mode: every Service of the mesh, one route for everything.
- In SMI mode: the Services that run as the destination of a TrafficTarget that names the client,
  and the apexes that lead to one; the routes are those of these TrafficTargets; endpoints that run
  as someone else are left out. The work is in proportion to what the client may reach.

A connection is known by the address it was opened to: the cluster addresses of a Service, or an
address of one of its Pods (headless Services, and ``serviceAccessMode`` ip or mixed). Whoever
dials a Pod gets that Pod, unless a TrafficSplit divides the traffic of the Service that the Pod
belongs to.

Not here: who is let in; that is the destination's inbound half, which believes nothing said here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fsm.compile.aliases import aliases
from fsm.compile.chains import outbound_settings
from fsm.compile.clusters import ClusterSet, Target, backend_port, target_number
from fsm.compile.contract import (
    NO_SETTINGS,
    Cluster,
    HostRule,
    Outbound,
    OutboundMatch,
    PluginSettings,
    Route,
    TcpRule,
    Unmatched,
    WeightedCluster,
)
from fsm.compile.egress import EgressBuilder
from fsm.compile.hosts import address_names, by_address, network, service_names
from fsm.compile.routes import everything, route_of
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import Key, ServiceAccount, origin
from fsm.model.plugin import Destination
from fsm.model.policy import TrafficTarget
from fsm.model.service import Protocol, Service, ServicePort
from fsm.model.snapshot import Snapshot, address_order
from fsm.policies.egress.compile import egress_of
from fsm.policies.retry.compile import retries_of
from fsm.policies.traffic_split.compile import FULL_WEIGHT, Division, division
from fsm.policies.traffic_target.compile import GrantedPort, granted_port, granted_routes
from fsm.settings import Settings


@dataclass(frozen=True, slots=True)
class OutboundHalf:
    """The outbound part of a configuration."""

    outbound: Outbound | None
    clusters: Mapping[str, Cluster]


@dataclass(frozen=True, slots=True)
class Reach:
    """A port of a Service that the client may reach, with the rules that follow from it."""

    service: Service
    port: ServicePort
    number: int
    division: Division | None
    routes: tuple[Route, ...] = ()
    tcp: TcpRule | None = None
    plugins: PluginSettings = NO_SETTINGS

    @property
    def protocol(self) -> Protocol:
        """What is spoken on it."""
        return self.port.mesh_protocol

    @property
    def origin(self) -> str:
        """How rules made from the Service are named."""
        return origin("Service", self.service.namespace, self.service.name)

    @property
    def label(self) -> str:
        """How rules name the Service that they stand for."""
        return str(self.service.key)


def outbound_half(snapshot: Snapshot, account: ServiceAccount, settings: Settings) -> OutboundHalf:
    """Compile the outbound half for every proxy that runs as a ServiceAccount."""
    asker = asker_of(snapshot, account)
    return snapshot.once(
        ("outbound", asker), lambda snapshot: build_outbound(snapshot, asker, settings)
    )


def asker_of(snapshot: Snapshot, account: ServiceAccount) -> ServiceAccount:
    """Return for whom an outbound half is made: those with the same one are the same.

    In permissive mode who asks makes no difference, except for which names may go without a
    namespace, for whom there are retries, and who may leave the mesh; others are nobody of their
    namespace.
    """
    if not snapshot.mesh.traffic.permissive or retries_of(snapshot, account):
        return account
    if egress_of(snapshot, account):
        return account
    return ServiceAccount(account.namespace, "")


def build_outbound(snapshot: Snapshot, account: ServiceAccount, settings: Settings) -> OutboundHalf:
    """Compile the outbound half, also if it is known; see ``outbound_half``."""
    return OutboundBuilder(snapshot, account, settings).build()


class OutboundBuilder:
    """Makes the outbound half for one ServiceAccount, or parts of it."""

    def __init__(self, snapshot: Snapshot, account: ServiceAccount, settings: Settings) -> None:
        self.snapshot = snapshot
        self.account = account
        self.settings = settings
        self.mesh = snapshot.mesh
        self.permissive = snapshot.mesh.traffic.permissive
        self.targets = () if self.permissive else snapshot.targets_by_source.get(account, ())
        self.by_destination: dict[ServiceAccount, list[TrafficTarget]] = defaultdict(list)
        for target in self.targets:
            self.by_destination[target.destination].append(target)
        permitted = {a: _ports(targets) for a, targets in self.by_destination.items()}
        self.clusters = ClusterSet(
            snapshot, settings, None if self.permissive else permitted, account
        )

    def build(self) -> OutboundHalf:
        """Return the whole."""
        outbound = outbound_of(self.mesh, self.matches())
        return OutboundHalf(outbound=outbound, clusters=self.clusters.clusters)

    def matches(self) -> list[OutboundMatch]:
        """Return all matches, in order; their clusters are in ``clusters`` then."""
        reaches = self.reaches(self._services())
        inside = self.in_order([*self.by_cluster_ip(reaches), *self.by_pod(reaches)])
        outside = EgressBuilder(self.snapshot, self.account, self.settings)
        found = [*inside, *outside.matches()]
        for name, cluster in outside.clusters.items():
            self.clusters.clusters.setdefault(name, cluster)
        return found

    def reaches(self, services: Iterable[Key]) -> list[Reach]:
        """Return the ports of some Services, as far as the client may reach them."""
        return [
            reach
            for key in services
            if (service := self.snapshot.service_in_mesh(key)) is not None
            for port in self._ports(service)
            if (reach := self._reach(service, port)) is not None
        ]

    def _ports(self, service: Service) -> tuple[ServicePort, ...]:
        if not self.settings.proxy.carries_udp:
            return service.ports
        return (*service.ports, *service.udp_ports)

    def by_cluster_ip(self, reaches: Iterable[Reach]) -> list[OutboundMatch]:
        """Return the matches for the Services' own addresses."""
        return [match for reach in reaches if (match := self._by_cluster_ip(reach))]

    @staticmethod
    def in_order(matches: Iterable[OutboundMatch]) -> list[OutboundMatch]:
        """Sort matches as a configuration has them."""
        return sorted(matches, key=match_order)

    def _services(self) -> Iterable[Key]:
        if self.permissive:
            return self.snapshot.mesh_services
        direct = {
            key
            for account in self.by_destination
            for key in self.snapshot.services_by_account.get(account, ())
        }
        apexes = {
            split.apex for key in direct for split in self.snapshot.splits_by_backend.get(key, ())
        }
        return sorted(direct | apexes)

    def _reach(self, service: Service, port: ServicePort) -> Reach | None:
        reach = Reach(
            service=service,
            port=port,
            number=target_number(self.snapshot, self.settings, service, port),
            division=division(self.snapshot, service.key),
            plugins=outbound_settings(self.snapshot, Destination("Service", *service.key)),
        )
        if not self.permissive and not self._granted(reach):
            return None
        if port.mesh_protocol.is_http:
            return replace(reach, routes=self._routes(reach))
        rule = self._tcp_rule(reach)
        return replace(reach, tcp=rule) if rule else None

    def _granted(self, reach: Reach) -> list[tuple[TrafficTarget, int]]:
        """Return the TrafficTargets that lead the client to a port, each with the Pods' port."""
        ends = [(reach.service, reach.number)]
        if reach.division is not None:
            ends = []
            for key in reach.division.services:
                backend = self.snapshot.service_in_mesh(key)
                own = backend_port(reach.port, backend) if backend else None
                if backend and own:
                    number = target_number(self.snapshot, self.settings, backend, own)
                    ends.append((backend, number))
        return [
            (target, number)
            for service, number in ends
            for account in sorted(self.snapshot.accounts_by_service.get(service.key, ()))
            for target in self.by_destination.get(account, ())
            if target.port in (None, number)
        ]

    def _routes(self, reach: Reach) -> tuple[Route, ...]:
        clusters = self.clusters.weighted(reach.service, reach.port, reach.division)
        routes = []
        if reach.division is not None:
            # Requests that a split names come first: they are the exception to the rest.
            routes = [
                route_of(shape, self.clusters.shared(reach.service, reach.port, shares))
                for shape, shares in reach.division.matched
            ]
        if self.permissive:
            return (*routes, everything(self.mesh, clusters))
        targets = dict.fromkeys(target for target, _ in self._granted(reach))
        granted = granted_routes(self.snapshot, targets, None)
        return (*routes, *(route_of(route.shape, clusters) for route in granted))

    def _tcp_rule(self, reach: Reach) -> TcpRule | None:
        rule_origin = self.mesh.origin
        if not self.permissive:
            grants = [
                granted
                for target, number in self._granted(reach)
                if (granted := self._granted_port(reach, target, number))
            ]
            if not grants:
                return None
            rule_origin = grants[0].origin
        clusters = self.clusters.weighted(reach.service, reach.port, reach.division)
        return TcpRule(
            origin=rule_origin,
            service=reach.label,
            clusters=clusters,
            plugins=reach.plugins,
        )

    def _granted_port(self, reach: Reach, target: TrafficTarget, number: int) -> GrantedPort | None:
        return granted_port(self.snapshot, [target], number, udp=reach.port.is_udp)

    def _names(self, reach: Reach, ports: Iterable[int], pod: str = "") -> list[str]:
        known = [reach.service, *aliases(self.snapshot, reach.service.key, self.settings)]
        return [
            name
            for service in known
            for name in service_names(
                service,
                ports,
                same_namespace=service.namespace == self.account.namespace,
                mesh=self.mesh,
                settings=self.settings,
                pod=pod,
            )
        ]

    def _by_cluster_ip(self, reach: Reach) -> OutboundMatch | None:
        addresses = reach.service.cluster_ips
        if not addresses:
            return None
        ports = (reach.port.port,)
        names = [*self._names(reach, ports), *address_names(addresses, ports, self.mesh)]
        hosts = [_host(reach, names, reach.routes)] if reach.protocol.is_http else []
        return OutboundMatch(
            port=reach.port.port,
            protocol=reach.protocol,
            origin=reach.origin,
            destinations=tuple(network(address) for address in addresses),
            hosts=tuple(host for host in hosts if host.names),
            tcp=reach.tcp,
        )

    def by_pod(self, reaches: Iterable[Reach]) -> list[OutboundMatch]:
        """Return a match for each address and port of a Pod that may be dialled."""
        dialled: dict[tuple[str, int, bool], list[tuple[Reach, Target]]] = defaultdict(list)
        for reach in reaches:
            if not dials_pods(self.mesh, reach.service):
                continue
            for target in self.clusters.reachable(reach.service, reach.port):
                ports = {target.number}
                if reach.service.headless:
                    # The name leads to the Pods themselves, and people add the Service's port.
                    ports.add(reach.port.port)
                for port in ports:
                    dialled[target.address, port, reach.port.is_udp].append((reach, target))
        return [
            self._pod_match(port, dialled[address, port, udp])
            for address, port, udp in sorted(
                dialled, key=lambda dial: (address_order(dial[0]), *dial[1:])
            )
        ]

    def _pod_match(self, port: int, found: list[tuple[Reach, Target]]) -> OutboundMatch:
        # Several Services may have the Pod. One that states its protocol is believed before one
        # that says nothing; a divided one comes first, because its split is about this traffic.
        in_order = sorted(
            found,
            key=lambda item: (
                item[0].port.stated_protocol is None,
                item[0].division is None,
                item[0].service.key,
                item[0].port.port,
            ),
        )
        first, target = in_order[0]
        if not first.protocol.is_http:
            assert first.tcp is not None, "a TCP port is reached by a TCP rule"
            return self._match(port, first, target, tcp=self._tcp_to(first, target))
        hosts: list[HostRule] = []
        taken: set[str] = set()
        for reach, endpoint in in_order:
            if not reach.protocol.is_http:
                continue
            for host in self._pod_hosts(reach, endpoint, port, first=reach is first):
                names = tuple(name for name in host.names if name not in taken)
                taken.update(names)
                if names:
                    hosts.append(replace(host, names=names))
        return self._match(port, first, target, hosts=tuple(hosts))

    def _match(
        self,
        port: int,
        reach: Reach,
        target: Target,
        *,
        hosts: tuple[HostRule, ...] = (),
        tcp: TcpRule | None = None,
    ) -> OutboundMatch:
        return OutboundMatch(
            port=port,
            protocol=reach.protocol,
            origin=reach.origin,
            destinations=(network(target.address),),
            hosts=hosts,
            tcp=tcp,
        )

    def _pod_hosts(
        self, reach: Reach, target: Target, port: int, *, first: bool
    ) -> Iterable[HostRule]:
        ports = (port, reach.port.port)
        if first:
            names = address_names([target.address], (port,), self.mesh)
            yield _host(reach, names, self._routes_to(reach, target))
        if reach.service.headless:
            if target.hostname:
                names = self._names(reach, ports, pod=target.hostname)
                yield _host(reach, names, self._pinned(reach, target))
            yield _host(reach, self._names(reach, ports), reach.routes)

    def _routes_to(self, reach: Reach, target: Target) -> tuple[Route, ...]:
        return reach.routes if reach.division is not None else self._pinned(reach, target)

    def _pinned(self, reach: Reach, target: Target) -> tuple[Route, ...]:
        clusters = self._only(reach, target)
        return tuple(replace(route, clusters=clusters) for route in reach.routes)

    def _tcp_to(self, reach: Reach, target: Target) -> TcpRule | None:
        if reach.division is not None or reach.tcp is None:
            return reach.tcp
        return replace(reach.tcp, clusters=self._only(reach, target))

    def _only(self, reach: Reach, target: Target) -> tuple[WeightedCluster, ...]:
        return (
            WeightedCluster(
                cluster=self.clusters.single(reach.service, reach.port, target), weight=FULL_WEIGHT
            ),
        )


def outbound_of(mesh: MeshConfig, matches: Sequence[OutboundMatch]) -> Outbound | None:
    """Return the half with these matches."""
    egress = mesh.traffic.enable_egress
    if not matches and not egress:
        # Nothing to carry: the listener is closed, and the application is told at once.
        return None
    return Outbound(
        matches=tuple(matches), unmatched=Unmatched.PASSTHROUGH if egress else Unmatched.REFUSE
    )


def match_order(match: OutboundMatch) -> tuple[int, tuple[str, ...]]:
    """Sort key of matches within the mesh; those out of it follow, in the order that they have.

    Equal ones stay as they are, those of Services before those of Pods.
    """
    return match.port, match.destinations


def dials_pods(mesh: MeshConfig, service: Service) -> bool:
    """Tell whether clients may connect to the addresses of a Service's Pods."""
    return service.headless or by_address(mesh)


def _ports(targets: Iterable[TrafficTarget]) -> frozenset[int] | None:
    ports = {target.port for target in targets}
    return None if None in ports else frozenset(port for port in ports if port is not None)


def _host(reach: Reach, names: Iterable[str], routes: tuple[Route, ...]) -> HostRule:
    return HostRule(
        names=tuple(dict.fromkeys(names)),
        service=reach.label,
        origin=reach.origin,
        plugins=reach.plugins,
        routes=routes,
    )
