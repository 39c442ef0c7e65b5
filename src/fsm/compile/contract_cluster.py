"""Clusters of the contract: where traffic goes, how endpoints are picked, and what they are spared.

The types mirror ``proxy/pipy-config/src/cluster.rs``; see ``contract`` for what holds of all types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class ClusterKind(StrEnum):
    """How the endpoints of a cluster are found."""

    STATIC = "static"
    ORIGINAL_DESTINATION = "original-destination"


class ProxyProtocol(StrEnum):
    """How a PROXY header is written."""

    V1 = "v1"
    V2 = "v2"


class BalancingPolicy(StrEnum):
    """By what an endpoint is picked."""

    ROUND_ROBIN = "round-robin"
    LEAST_WORK = "least-work"
    HASH = "hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address of a cluster."""

    address: str
    identity: str | None = None
    priority: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits per worker; 0 means none."""

    connection_age_ms: int = 0
    connections_max: int = 0
    origin: str | None = None
    pending_max: int = 0
    requests_max: int = 0
    requests_per_connection_max: int = 0
    retries_max: int = 0
    streams_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """How an endpoint is picked."""

    cookie: str | None = None
    header: str | None = None
    origin: str | None = None
    policy: BalancingPolicy = BalancingPolicy.ROUND_ROBIN


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRange:
    """Statuses from one to another, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which failed requests are tried again."""

    backoff_ms: int = 25
    connect_failure: bool = False
    origin: str
    per_try_timeout_ms: int = 0
    reset: bool = False
    retries_max: int
    statuses: tuple[StatusRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """When nothing is asked of a cluster for a while."""

    body: str = "Coming soon ..."
    error_amount: int = 0
    error_permille: int = 0
    open_ms: int
    origin: str
    requests_min: int = 0
    slow_amount: int = 0
    slow_ms: int = 5_000
    slow_permille: int = 0
    status: int = 409
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PassiveHealth:
    """When an endpoint gets no requests for a while; 0 means that something is not watched."""

    connect_failures: int = 3
    consecutive_failures: int = 0
    ejected_percent_max: int = 50
    ejection_max_ms: int = 30_000
    ejection_ms: int = 1_000
    failure_percent: int = 0
    origin: str | None = None
    requests_min: int = 20
    window_ms: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A set of endpoints that can stand in for each other."""

    balancing: Balancing = field(default_factory=Balancing)
    circuit_breaker: CircuitBreaker | None = None
    connect_timeout_ms: int = 5_000
    counted_as: str | None = None
    """Name that its metrics carry; its own where there is none."""
    endpoints: tuple[Endpoint, ...] = ()
    health: PassiveHealth = field(default_factory=PassiveHealth)
    idle_timeout_ms: int = 60_000
    kind: ClusterKind = ClusterKind.STATIC
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    origin: str
    proxy_protocol: ProxyProtocol | None = None
    """Connections begin with a PROXY header that names the client."""
    retry: Retry | None = None
