"""The contract as Python sees it: the configuration of one proxy, as frozen dataclasses.

In: values that the compiler made, or JSON. Out: canonical JSON (sorted keys, no white space), or
the dataclasses. The types mirror ``proxy/pipy-config``, which is the authority; its JSON Schema is
under ``contract/`` and the tests hold both against each other, field by field.

Invariants: ``to_json`` writes every field, so that equal configurations are equal bytes;
``version`` is the hash of everything else. Not here: whether a configuration makes sense
(``check``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import orjson

from fsm.model.service import Protocol

VERSION_LENGTH = 16


class Mtls(StrEnum):
    """Whether mesh members must prove who they are."""

    STRICT = "strict"
    DISABLED = "disabled"


class Unmatched(StrEnum):
    """What happens to a destination that no match names."""

    REFUSE = "refuse"
    PASSTHROUGH = "passthrough"


class AccessLog(StrEnum):
    """Which requests and connections are logged."""

    OFF = "off"
    DENIED = "denied"
    ALL = "all"


class ClusterKind(StrEnum):
    """How the endpoints of a cluster are found."""

    STATIC = "static"
    ORIGINAL_DESTINATION = "original-destination"


@dataclass(frozen=True, slots=True)
class Path:
    """The path that a route fits."""

    kind: Literal["exact", "prefix", "regex"]
    value: str


@dataclass(frozen=True, slots=True)
class Header:
    """A header that must fit."""

    name: str
    regex: str


@dataclass(frozen=True, slots=True)
class Allow:
    """An identity that may, and the object that says so."""

    identity: str
    origin: str


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """A share of traffic."""

    cluster: str
    weight: int
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What a request must look like, who may send it, and where it goes."""

    origin: str
    path: Path
    clusters: tuple[WeightedCluster, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    allowed: tuple[Allow, ...] | None = None
    """None: everyone who reached it. Empty: no one."""


@dataclass(frozen=True, slots=True)
class HostRule:
    """A virtual host."""

    names: tuple[str, ...]
    service: str
    origin: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class TcpRule:
    """What happens to a TCP connection."""

    origin: str
    service: str
    clusters: tuple[WeightedCluster, ...]
    allowed: tuple[Allow, ...] | None = None


@dataclass(frozen=True, slots=True)
class SourceRule:
    """Clients outside the mesh that are let in."""

    cidrs: tuple[str, ...]
    origin: str
    mtls: bool = False
    principals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundMatch:
    """What happens on one port of the application."""

    port: int
    protocol: Protocol
    origin: str
    mtls: Mtls = Mtls.STRICT
    sources: tuple[SourceRule, ...] = ()
    hosts: tuple[HostRule, ...] = ()
    tcp: TcpRule | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """Traffic to the application."""

    matches: tuple[InboundMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class OutboundMatch:
    """What happens to connections towards one port of some addresses."""

    port: int
    protocol: Protocol
    origin: str
    destinations: tuple[str, ...] = ()
    hosts: tuple[HostRule, ...] = ()
    tcp: TcpRule | None = None


@dataclass(frozen=True, slots=True)
class Outbound:
    """Traffic from the application."""

    matches: tuple[OutboundMatch, ...] = ()
    unmatched: Unmatched = Unmatched.REFUSE


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a cluster."""

    address: str
    weight: int = 1
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits per worker; 0 means none."""

    connections_max: int = 0
    pending_max: int = 0
    requests_max: int = 0
    requests_per_connection_max: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A set of endpoints that can stand in for each other."""

    origin: str
    endpoints: tuple[Endpoint, ...] = ()
    kind: ClusterKind = ClusterKind.STATIC
    connect_timeout_ms: int = 5_000
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the proxy's workload is called."""

    namespace: str = ""
    kind: str = ""
    name: str = ""
    pod: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates are those of mesh members."""

    domain: str = ""
    roots: tuple[str, ...] = ()


def _stages(*names: str) -> tuple[str, ...]:
    return tuple(f"modules/{name}.js" for name in names)


BUILT_IN_CHAINS: Mapping[str, tuple[str, ...]] = {
    "inbound-http": _stages(
        "inbound-tls-termination",
        "inbound-http-routing",
        "inbound-metrics-http",
        "inbound-logging-http",
        "inbound-http-load-balancing",
        "inbound-http-default",
    ),
    "inbound-tcp": _stages(
        "inbound-tls-termination",
        "inbound-tcp-routing",
        "inbound-tcp-load-balancing",
        "inbound-tcp-default",
    ),
    "outbound-http": _stages(
        "outbound-http-routing",
        "outbound-metrics-http",
        "outbound-logging-http",
        "outbound-http-load-balancing",
        "outbound-http-default",
    ),
    "outbound-tcp": _stages(
        "outbound-tcp-routing", "outbound-tcp-load-balancing", "outbound-tcp-default"
    ),
}


@dataclass(frozen=True, slots=True)
class Chains:
    """The stages of the four chains."""

    inbound_http: tuple[str, ...] = BUILT_IN_CHAINS["inbound-http"]
    inbound_tcp: tuple[str, ...] = BUILT_IN_CHAINS["inbound-tcp"]
    outbound_http: tuple[str, ...] = BUILT_IN_CHAINS["outbound-http"]
    outbound_tcp: tuple[str, ...] = BUILT_IN_CHAINS["outbound-tcp"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the proxy tells about its traffic."""

    access_log: AccessLog = AccessLog.DENIED


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits, milliseconds; 0 means none."""

    handshake_ms: int = 10_000
    request_head_ms: int = 30_000
    idle_ms: int = 3_600_000
    drain_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The whole configuration of one proxy."""

    version: str = ""
    identity: str | None = None
    workload: Workload = field(default_factory=Workload)
    trust: Trust = field(default_factory=Trust)
    inbound: Inbound | None = None
    outbound: Outbound | None = None
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    chains: Chains = field(default_factory=Chains)
    telemetry: Telemetry = field(default_factory=Telemetry)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def to_json(self) -> bytes:
        """Return the canonical JSON: the same configuration is the same bytes."""
        return orjson.dumps(plain(self), option=orjson.OPT_SORT_KEYS)

    def with_version(self) -> ProxyConfig:
        """Return the same configuration with the version that its contents have."""
        without = orjson.dumps(plain(replace(self, version="")), option=orjson.OPT_SORT_KEYS)
        return replace(self, version=hashlib.sha256(without).hexdigest()[:VERSION_LENGTH])


RENAMED = {
    "inbound_http": "inbound-http",
    "inbound_tcp": "inbound-tcp",
    "outbound_http": "outbound-http",
    "outbound_tcp": "outbound-tcp",
}


def plain(value: Any) -> Any:
    """Return what JSON can say of a value of the contract."""
    if isinstance(value, Path):
        return {value.kind: value.value}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    slots = getattr(type(value), "__slots__", None)
    if slots is not None and not isinstance(value, StrEnum):
        return {RENAMED.get(name, name): plain(getattr(value, name)) for name in slots}
    return value
