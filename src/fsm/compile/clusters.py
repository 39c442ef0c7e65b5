"""Where traffic goes: ports of Services as clusters with their endpoints.

In: the snapshot, Services, and the identities that may be reached. Out: clusters of the contract,
by name, and how traffic is shared among them. Invariants: a name means one thing within a
configuration; endpoints are in order of address; the identity expected of an endpoint is that of
the Pod behind it, and plain text is for Pods that have no sidecar only.

Names: ``namespace/service|target port``, of UDP ``namespace/service|target port/udp``; with
``|address`` behind it for one endpoint alone. A Pod with addresses of both families has an endpoint
for each: the proxy prefers the ones of the family that its client dialled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fsm.compile.contract import Cluster, Endpoint, WeightedCluster
from fsm.compile.hosts import bracketed
from fsm.compile.upstream import bounded
from fsm.model.names import Key, ServiceAccount, origin
from fsm.model.service import Service, ServicePort
from fsm.model.snapshot import Snapshot
from fsm.policies.traffic_split.compile import FULL_WEIGHT, Division, Share
from fsm.settings import Settings

Permitted = Mapping[ServiceAccount, frozenset[int] | None] | None
"""Identities whose endpoints may be reached, each with the ports, None for every port. None in
place of it all: every endpoint, also those without an identity."""


class Target(NamedTuple):
    """One endpoint of a port of a Service."""

    address: str
    number: int
    account: ServiceAccount | None
    hostname: str
    identity: str | None


def targets_of(
    snapshot: Snapshot, settings: Settings, service: Service, port: ServicePort
) -> tuple[Target, ...]:
    """Return the ready endpoints of a port of a Service, in order of address."""
    key, name = service.key, port.key
    # Datagrams prove nobody.
    udp = port.is_udp

    def find(snapshot: Snapshot) -> tuple[Target, ...]:
        encrypted = not snapshot.mesh.sidecar.disabled_mtls and not udp
        found = []
        for endpoint in snapshot.endpoints.get(key, ()):
            number = endpoint.ports.get(name)
            if number is None:
                continue
            pod = endpoint.pod
            proven = pod is not None and encrypted and snapshot.pod_in_mesh(pod)
            found.append(
                Target(
                    address=endpoint.address,
                    number=number,
                    account=pod.service_account if pod else None,
                    hostname=endpoint.hostname,
                    identity=pod.service_account.spiffe(settings.trust_domain)
                    if pod and proven
                    else None,
                )
            )
        return tuple(found)

    return snapshot.once(("targets", key, name), find)


def target_number(
    snapshot: Snapshot, settings: Settings, service: Service, port: ServicePort
) -> int:
    """Return the port of the Pods that names the cluster.

    Pods may give the name of a target port different numbers; the lowest then names the cluster.
    With no endpoint to ask, a name is taken for the Service's own port.
    """
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    found = targets_of(snapshot, settings, service, port)
    return min((target.number for target in found), default=port.port)


def backend_port(apex: ServicePort, backend: Service) -> ServicePort | None:
    """Return the port of a backend that stands for a port of its apex.

    The one with the same number, else the one with the same name, else the only one; of the same
    transport.
    """
    ports = backend.udp_ports if apex.is_udp else backend.ports
    for port in ports:
        if port.port == apex.port:
            return port
    for port in ports:
        if apex.name and port.name == apex.name:
            return port
    return ports[0] if len(ports) == 1 else None


def cluster_name(service: Key, number: int, port: ServicePort) -> str:
    """Name the cluster of a port of a Service."""
    return f"{service}|{number}/udp" if port.is_udp else f"{service}|{number}"


@dataclass(slots=True)
class ClusterSet:
    """The clusters of one configuration, as they are asked for."""

    snapshot: Snapshot
    settings: Settings
    permitted: Permitted
    caller: ServiceAccount
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def reachable(self, service: Service, port: ServicePort) -> list[Target]:
        """Return the endpoints that may be reached."""
        return [
            target
            for target in targets_of(self.snapshot, self.settings, service, port)
            if self._permits(target)
        ]

    def _permits(self, target: Target) -> bool:
        if self.permitted is None:
            return True
        if target.account is None or target.account not in self.permitted:
            return False
        ports = self.permitted[target.account]
        return ports is None or target.number in ports

    def whole(self, service: Service, port: ServicePort) -> str:
        """Return the name of the cluster of a port of a Service."""
        number = target_number(self.snapshot, self.settings, service, port)
        name = cluster_name(service.key, number, port)
        if name not in self.clusters:
            self._add(name, service, self.reachable(service, port))
        return name

    def single(self, service: Service, port: ServicePort, target: Target) -> str:
        """Return the name of the cluster of one endpoint alone."""
        name = f"{cluster_name(service.key, target.number, port)}|{target.address}"
        if name not in self.clusters:
            # A name for each Pod would make as many metrics as the mesh has Pods.
            self._add(name, service, [target], counted_as=f"{service.key}|{target.number}")
        return name

    def weighted(
        self, service: Service, port: ServicePort, division: Division | None
    ) -> tuple[WeightedCluster, ...]:
        """Return where the traffic of a port of a Service goes by default."""
        if division is None:
            return (WeightedCluster(cluster=self.whole(service, port), weight=FULL_WEIGHT),)
        return self.shared(service, port, division.default)

    def shared(
        self, apex: Service, port: ServicePort, shares: Sequence[Share]
    ) -> tuple[WeightedCluster, ...]:
        """Return shares as weighted clusters."""
        return tuple(
            WeightedCluster(
                cluster=self._backend(apex, port, share), weight=share.weight, origin=share.origin
            )
            for share in shares
        )

    def _backend(self, apex: Service, port: ServicePort, share: Share) -> str:
        service = self.snapshot.service_in_mesh(share.service)
        own = backend_port(port, service) if service else None
        if service is not None and own is not None:
            return self.whole(service, own)
        # A share that leads nowhere stays a share, and fails: to hand it to the others would
        # break the proportions that someone wrote down.
        number = target_number(self.snapshot, self.settings, apex, port)
        name = cluster_name(share.service, number, port)
        if name not in self.clusters:
            self.clusters[name] = Cluster(
                origin=share.origin,
                connect_timeout_ms=self.settings.proxy.connect_timeout_ms,
            )
        return name

    def _add(
        self,
        name: str,
        service: Service,
        targets: Sequence[Target],
        counted_as: str | None = None,
    ) -> None:
        cluster = Cluster(
            origin=origin("Service", service.namespace, service.name),
            endpoints=tuple(
                Endpoint(address=socket_address(t.address, t.number), identity=t.identity)
                for t in targets
            ),
            connect_timeout_ms=self.settings.proxy.connect_timeout_ms,
            counted_as=counted_as,
        )
        self.clusters[name] = bounded(self.snapshot, self.caller, service.key, cluster)


def socket_address(address: str, port: int) -> str:
    """Return ``ip:port``, IPv6 in brackets."""
    return f"{bracketed(address)}:{port}"
