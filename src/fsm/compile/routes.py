"""Routes of the contract, as both directions make them.

In: request descriptions, grants, clusters. Out: ``Route``. Invariant: nothing about direction here.
"""

from __future__ import annotations

from collections.abc import Iterable

from fsm.compile.contract import Allow, Header, Path, Route, WeightedCluster
from fsm.model.mesh_config import MeshConfig
from fsm.model.policy import RouteShape
from fsm.policies.http_route_group.compile import ordered
from fsm.policies.ingress_backend.compile import Admission
from fsm.policies.traffic_target.compile import Grant

# WHY: every path has this prefix, so no pattern is searched. Methods are left open as well, since
# in permissive mode nobody asked for a restriction (WebDAV and the like have methods of their own).
_EVERY_PATH = Path("prefix", "/")


def everything(mesh: MeshConfig, clusters: tuple[WeightedCluster, ...]) -> Route:
    """Return the one route of permissive mode."""
    return everyone(mesh.origin, clusters)


def everyone(origin: str, clusters: tuple[WeightedCluster, ...]) -> Route:
    """Return the route of every request that got as far as the host."""
    return Route(origin=origin, path=_EVERY_PATH, clusters=clusters)


def admitted(origin: str, clusters: tuple[WeightedCluster, ...]) -> Route:
    """Return the route of clients outside of the mesh: every request, of no member."""
    return Route(origin=origin, path=_EVERY_PATH, allowed=(), clusters=clusters)


def bounded(found: Iterable[Admission], clusters: tuple[WeightedCluster, ...]) -> tuple[Route, ...]:
    """Return the routes of clients outside of the mesh that policies let in on these alone."""
    shapes = {shape: None for admission in found for shape in admission.routes or ()}
    return tuple(route_of(shape, clusters, ()) for shape in ordered(shapes))


def route_of(
    shape: RouteShape,
    clusters: tuple[WeightedCluster, ...],
    allowed: tuple[Allow, ...] | None = None,
) -> Route:
    """Return the route that a request description makes."""
    return Route(
        origin=shape.origin,
        path=Path("regex", shape.path_regex),
        methods=shape.methods,
        headers=tuple(Header(name=name, regex=regex) for name, regex in shape.headers),
        allowed=allowed,
        clusters=clusters,
    )


def allowed_by(grants: Iterable[Grant], trust_domain: str) -> tuple[Allow, ...]:
    """Return grants as the contract writes them."""
    return tuple(
        Allow(identity=grant.account.spiffe(trust_domain), origin=grant.origin) for grant in grants
    )
