"""TrafficTarget: what it grants.

In: the snapshot and TrafficTargets. Out: request descriptions with who may use them, and who may
connect to a TCP port. Invariants: grants add up, so the same description granted by two
TrafficTargets is one route with both grants, in order of identity; without a TrafficTarget there
is nothing.

Not here: hosts, clusters, the direction of traffic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fsm.model.names import Key, ServiceAccount
from fsm.model.policy import RouteShape, TrafficTarget
from fsm.model.snapshot import Snapshot
from fsm.policies.http_route_group.compile import ordered, shapes
from fsm.policies.tcp_route.compile import admits


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """An identity and the object that lets it in."""

    account: ServiceAccount
    origin: str


@dataclass(frozen=True, slots=True)
class GrantedRoute:
    """A request description and who may use it."""

    shape: RouteShape
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class GrantedPort:
    """Who may reach a TCP or UDP port, and the route that says which port is meant."""

    origin: str
    grants: tuple[Grant, ...]


def target_shapes(snapshot: Snapshot, target: TrafficTarget) -> tuple[RouteShape, ...]:
    """Return the request descriptions that a TrafficTarget names and that exist.

    A rule that names no match means none. Source: fsm-interfaces section 2.2.
    """
    found: list[RouteShape] = []
    for rule in target.rules:
        if rule.kind == "HTTPRouteGroup":
            group = snapshot.route_groups.get(Key(target.namespace, rule.name))
            if group is not None:
                found += shapes(group, frozenset(rule.matches))
    return tuple(found)


def granted_routes(
    snapshot: Snapshot, targets: Iterable[TrafficTarget], port: int | None
) -> list[GrantedRoute]:
    """Return the routes that TrafficTargets grant, in the order in which they are tried.

    Args:
        snapshot: the world.
        targets: the TrafficTargets.
        port: the destination's port; TrafficTargets for another port are passed over. None: any.

    """
    grants: dict[RouteShape, list[Grant]] = {}
    for target in targets:
        if target.port is not None and port is not None and target.port != port:
            continue
        for shape in target_shapes(snapshot, target):
            grants.setdefault(shape, []).extend(
                Grant(source, target.origin) for source in target.sources
            )
    return [GrantedRoute(shape, _unique(grants[shape])) for shape in ordered(grants)]


def granted_port(
    snapshot: Snapshot, targets: Iterable[TrafficTarget], port: int, *, udp: bool = False
) -> GrantedPort | None:
    """Return who may reach a TCP or UDP port of the destination, or None when no one may."""
    grants: list[Grant] = []
    origin = ""
    for target in targets:
        if target.port is not None and target.port != port:
            continue
        for rule in target.rules:
            if rule.kind != ("UDPRoute" if udp else "TCPRoute"):
                continue
            key = Key(target.namespace, rule.name)
            route = (
                snapshot.policies.get(("UDPRoute", key)) if udp else snapshot.tcp_routes.get(key)
            )
            if route is not None and admits(route, port):
                origin = origin or route.origin
                grants += [Grant(source, target.origin) for source in target.sources]
    return GrantedPort(origin, _unique(grants)) if grants else None


def _unique(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    # One entry for each identity: the first TrafficTarget by name speaks for it.
    first: dict[ServiceAccount, Grant] = {}
    for grant in sorted(grants):
        first.setdefault(grant.account, grant)
    return tuple(first.values())
