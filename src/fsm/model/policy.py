"""The policies of the mesh, in one shape whatever version they were written in.

In: what each policy's ``schema.py`` parsed. Out: facts for the compiler. Invariants: frozen; names
of other objects are complete (namespace filled in); whether those objects exist is asked later.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key, PolicyObject, ServiceAccount


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A rule of a TrafficTarget: a route object and the named parts of it."""

    kind: str
    name: str
    matches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficTarget(PolicyObject):
    """Lets some identities use some routes of one identity's workloads."""

    destination: ServiceAccount
    sources: tuple[ServiceAccount, ...]
    rules: tuple[RuleRef, ...]
    port: int | None = None
    """Only this port of the destination's Pods; None means every port."""


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What a request must look like: one match of an HTTPRouteGroup."""

    name: str
    path_regex: str = ".*"
    methods: tuple[str, ...] = ()
    """Empty, or with ``*`` in it: the default methods."""
    headers: tuple[tuple[str, str], ...] = ()
    """Lower-case name and regular expression, sorted by name; all must fit."""


@dataclass(frozen=True, slots=True)
class HTTPRouteGroup(PolicyObject):
    """Named descriptions of requests."""

    matches: tuple[RouteMatch, ...]


@dataclass(frozen=True, slots=True)
class TCPRoute(PolicyObject):
    """Ports on which TCP connections are meant."""

    ports: tuple[int, ...] = ()
    """Ports of the destination's Pods; empty means every port."""


@dataclass(frozen=True, slots=True)
class UDPRoute(PolicyObject):
    """Ports on which UDP datagrams are meant."""

    ports: tuple[int, ...] = ()
    """Ports of the destination's Pods; empty means every port."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service that gets a share of a split's traffic."""

    service: Key
    weight: int


@dataclass(frozen=True, slots=True)
class TrafficSplit(PolicyObject):
    """Shares the traffic of one Service, the apex, among others."""

    apex: Key
    backends: tuple[Backend, ...]
    matches: tuple[str, ...] = ()
    """Names of HTTPRouteGroups in its namespace; empty means all requests."""


@dataclass(frozen=True, slots=True)
class RouteShape:
    """A request description on its way into a route, with the object that wrote it."""

    path_regex: str
    methods: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    origin: str
