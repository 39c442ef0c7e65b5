"""HTTPRouteGroup: from matches to request descriptions on their way into routes.

In: the group and the names of the matches that are wanted. Out: ``RouteShape`` with complete
methods. Invariants: the order is the group's; names that the group does not have are left out
(``assess`` tells). Not here: who may use a route (TrafficTarget), where it leads (TrafficSplit).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fsm.model.names import origin
from fsm.model.policy import HTTPRouteGroup, RouteMatch, RouteShape
from fsm.policies.http_route_group.schema import METHODS

DEFAULT_METHODS = METHODS[:7]
"""Where no method is given, or ``*``: all but CONNECT and TRACE, which change what a connection is
or show what a proxy added. Source: fsm-interfaces section 2.2."""

MATCH_ALL = ".*"


def shapes(group: HTTPRouteGroup, names: Collection[str] | None = None) -> tuple[RouteShape, ...]:
    """Return the descriptions of some matches of a group.

    Args:
        group: the group.
        names: names of the matches; None means all of them.

    """
    return tuple(
        RouteShape(
            path_regex=match.path_regex,
            methods=_methods(match),
            headers=match.headers,
            origin=origin("HTTPRouteGroup", group.namespace, group.name, match.name),
        )
        for match in group.matches
        if names is None or match.name in names
    )


def _methods(match: RouteMatch) -> tuple[str, ...]:
    if not match.methods or "*" in match.methods:
        return DEFAULT_METHODS
    return tuple(method for method in METHODS if method in match.methods)


def ordered(found: Iterable[RouteShape]) -> list[RouteShape]:
    """Sort descriptions into the order in which they are tried.

    By path as text, the path that fits everything last; for one path those that ask for more come
    first: more headers, then fewer methods. Source: fsm-interfaces section 2.2.
    """
    return sorted(
        found,
        key=lambda shape: (
            shape.path_regex == MATCH_ALL,
            shape.path_regex,
            -len(shape.headers),
            len(shape.methods),
            shape.headers,
            shape.methods,
            shape.origin,
        ),
    )
