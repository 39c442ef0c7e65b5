"""The policies of the mesh, in one shape whatever version they were written in.

In: what each policy's ``schema.py`` parsed. Out: facts for the compiler. Invariants: frozen; names
of other objects are complete (namespace filled in); whether those objects exist is asked later.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key, ServiceAccount, origin


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A rule of a TrafficTarget: a route object and the named parts of it."""

    kind: str
    name: str
    matches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficTarget:
    """Lets some identities use some routes of one identity's workloads."""

    namespace: str
    name: str
    destination: ServiceAccount
    sources: tuple[ServiceAccount, ...]
    rules: tuple[RuleRef, ...]
    port: int | None = None
    """Only this port of the destination's Pods; None means every port."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin("TrafficTarget", self.namespace, self.name)


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
class HTTPRouteGroup:
    """Named descriptions of requests."""

    namespace: str
    name: str
    matches: tuple[RouteMatch, ...]
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class TCPRoute:
    """Ports on which TCP connections are meant."""

    namespace: str
    name: str
    ports: tuple[int, ...] = ()
    """Ports of the destination's Pods; empty means every port."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin("TCPRoute", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class UDPRoute:
    """Ports on which UDP datagrams are meant."""

    namespace: str
    name: str
    ports: tuple[int, ...] = ()
    """Ports of the destination's Pods; empty means every port."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service that gets a share of a split's traffic."""

    service: Key
    weight: int


@dataclass(frozen=True, slots=True)
class TrafficSplit:
    """Shares the traffic of one Service, the apex, among others."""

    namespace: str
    name: str
    apex: Key
    backends: tuple[Backend, ...]
    matches: tuple[str, ...] = ()
    """Names of HTTPRouteGroups in its namespace; empty means all requests."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin("TrafficSplit", self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class RouteShape:
    """A request description on its way into a route, with the object that wrote it."""

    path_regex: str
    methods: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    origin: str
