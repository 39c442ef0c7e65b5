"""Traffic out of the mesh that policies allow, as matches and clusters of the contract.

In: the snapshot and the ServiceAccount of the client. Out: outbound matches, which come after those
of the mesh's own Services, and their clusters. Connections go on to the address that the client
dialled: the name is what is looked at (the Host header, the server name in TLS), not what is
connected to.

Not here: which policy opens what (``fsm.policies.egress``); passing everything (``enableEgress``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fsm.compile.chains import outbound_settings
from fsm.compile.contract import (
    ClientCertificate,
    Cluster,
    ClusterKind,
    HostRule,
    Originate,
    OutboundMatch,
    PluginSettings,
    Route,
    TcpRule,
    TlsRule,
    WeightedCluster,
)
from fsm.compile.hosts import bracketed
from fsm.compile.routes import everyone, route_of
from fsm.model.credentials import KIND as CREDENTIALS
from fsm.model.egress import Egress, EgressProtocol, EgressTls
from fsm.model.names import Key, ServiceAccount
from fsm.model.plugin import Destination
from fsm.model.policy import RouteShape
from fsm.model.service import Protocol
from fsm.model.snapshot import Snapshot
from fsm.policies.egress.compile import ANYWHERE, Opening, Part, egress_of, lacks, openings
from fsm.policies.http_route_group.compile import ordered, shapes
from fsm.policies.ingress_backend.schema import is_address
from fsm.policies.traffic_split.compile import FULL_WEIGHT
from fsm.settings import Settings

_PROTOCOLS = {
    EgressProtocol.HTTP: Protocol.HTTP,
    EgressProtocol.GRPC: Protocol.GRPC,
    EgressProtocol.TCP_SERVER_FIRST: Protocol.TCP_SERVER_FIRST,
}
_EVERY_HOST = "*"


def originates_of(
    snapshot: Snapshot, account: ServiceAccount, settings: Settings
) -> dict[str, Originate]:
    """Return the clusters of a ServiceAccount whose servers are spoken to in TLS."""
    if not any(policy.tls_of(account) for policy in egress_of(snapshot, account)):
        return {}
    builder = EgressBuilder(snapshot, account, settings)
    builder.matches()
    return builder.originates


class EgressBuilder:
    """Makes what lets one ServiceAccount out."""

    def __init__(self, snapshot: Snapshot, account: ServiceAccount, settings: Settings) -> None:
        self.snapshot = snapshot
        self.account = account
        self.settings = settings
        self.clusters: dict[str, Cluster] = {}
        self.originates: dict[str, Originate] = {}
        """Those of the clusters whose servers are spoken to in TLS."""

    def matches(self) -> list[OutboundMatch]:
        """Return the matches, in order; their clusters are in ``clusters`` then."""
        return [self._match(opening) for opening in openings(self.snapshot, self.account)]

    def _match(self, opening: Opening) -> OutboundMatch:
        parts = opening.parts
        first = parts[0]
        where = () if opening.network == ANYWHERE else (opening.network,)
        if first.protocol in (EgressProtocol.HTTP, EgressProtocol.GRPC):
            return OutboundMatch(
                port=opening.port,
                protocol=_PROTOCOLS[first.protocol],
                origin=first.policy.origin,
                destinations=where,
                hosts=tuple(self._hosts(opening.port, parts)),
            )
        rules = tuple(self._server_names(opening.port, parts))
        # Who names no server lets all of them be reached; who says tcp looks at nothing.
        others = next(
            (p for p in parts if p.protocol is not EgressProtocol.HTTPS or not p.policy.hosts), None
        )
        by_name = bool(rules)
        return OutboundMatch(
            port=opening.port,
            protocol=Protocol.TLS if by_name else _PROTOCOLS.get(first.protocol, Protocol.TCP),
            origin=first.policy.origin,
            destinations=where,
            tls=rules,
            tcp=self._tcp(others.policy, opening.port) if others else None,
        )

    def _hosts(self, port: int, parts: Sequence[Part]) -> Iterator[HostRule]:
        by_host: dict[str, list[Egress]] = {}
        for part in parts:
            for host in part.policy.hosts or (_EVERY_HOST,):
                by_host.setdefault(host, []).append(part.policy)
        everywhere = by_host.get(_EVERY_HOST, [])
        # The first rule that names a host is taken, so that it must have all routes of the host.
        for host, policies in sorted(by_host.items(), key=lambda item: item[0] == _EVERY_HOST):
            count = [*policies, *(p for p in everywhere if p not in policies)]
            named = host != _EVERY_HOST
            # Who lacks what it shall show has a host without a route: were the host not there, it
            # would be reached in plain text where everything may be reached.
            fit = [p for p in count if not lacks(self.snapshot, p, self.account)]
            # Of what is asked in plain text by one policy and in TLS by another, all is encrypted.
            first = next((p for p in fit if p.tls_of(self.account)), (*fit, policies[0])[0])
            yield HostRule(
                names=(bracketed(host), f"{bracketed(host)}:{port}") if named else (host,),
                service=host if named else str(policies[0].key),
                origin=policies[0].origin,
                plugins=self._told(policies[0]),
                routes=self._routes(fit, self._cluster(host, port, first)) if fit else (),
            )

    def _routes(
        self, policies: Sequence[Egress], clusters: tuple[WeightedCluster, ...]
    ) -> tuple[Route, ...]:
        found: dict[RouteShape, None] = {}
        for policy in policies:
            for name in policy.groups:
                group = self.snapshot.route_groups.get(Key(policy.namespace, name))
                if group is not None:
                    found.update(dict.fromkeys(shapes(group)))
        routes = [route_of(shape, clusters) for shape in ordered(found)]
        unbounded = next((policy for policy in policies if not policy.groups), None)
        if unbounded is not None:
            routes.append(everyone(unbounded.origin, clusters))
        return tuple(routes)

    def _server_names(self, port: int, parts: Sequence[Part]) -> Iterator[TlsRule]:
        taken: set[str] = set()
        for part in parts:
            if part.protocol is not EgressProtocol.HTTPS:
                continue
            for host in part.policy.hosts:
                if host in taken:
                    continue
                taken.add(host)
                clusters = self._cluster(host, port, part.policy)
                rule = TcpRule(
                    origin=part.policy.origin,
                    service=host,
                    clusters=clusters,
                    plugins=self._told(part.policy),
                )
                yield TlsRule(names=(host,), tcp=rule)

    def _tcp(self, policy: Egress, port: int) -> TcpRule:
        clusters = self._cluster(_EVERY_HOST, port, policy)
        return TcpRule(
            origin=policy.origin,
            service=str(policy.key),
            clusters=clusters,
            plugins=self._told(policy),
        )

    def _told(self, policy: Egress) -> PluginSettings:
        return outbound_settings(self.snapshot, Destination("Egress", *policy.key))

    def _cluster(self, host: str, port: int, policy: Egress) -> tuple[WeightedCluster, ...]:
        named = host != _EVERY_HOST
        name = f"{bracketed(host)}:{port}" if named else f"{policy.origin}|{port}"
        tls = policy.tls_of(self.account)
        if tls is not None:
            # Beside one in plain text, to which another port of a network may lead.
            name = f"{name}|tls"
            server = host if named and not is_address(host) else None
            self.originates[name] = self._originate(policy, tls, server)
        self.clusters.setdefault(
            name,
            Cluster(
                kind=ClusterKind.ORIGINAL_DESTINATION,
                origin=policy.origin,
                connect_timeout_ms=self.settings.proxy.connect_timeout_ms,
            ),
        )
        return (WeightedCluster(cluster=name, weight=FULL_WEIGHT),)

    def _originate(self, policy: Egress, tls: EgressTls, server: str | None) -> Originate:
        held = self.snapshot.policies.get((CREDENTIALS, tls.secret)) if tls.secret else None
        if held is None:
            return Originate(origin=policy.origin, server_name=server)
        return Originate(
            certificate=ClientCertificate(chain=held.chain, key=held.private_key),
            origin=policy.origin,
            roots=(held.roots,),
            server_name=server,
        )
