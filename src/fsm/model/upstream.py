"""Policies about how Services are called: retries, limits, circuit breakers.

In: what each policy's ``schema.py`` parsed. Out: facts for the compiler. Invariants: frozen; names
of other objects are complete; durations are milliseconds; 0 means "not set" or "no limit".
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key, PolicyObject, ServiceAccount


@dataclass(frozen=True, slots=True)
class Retry(PolicyObject):
    """Lets one identity's requests to some Services be tried again."""

    source: ServiceAccount
    destinations: tuple[Key, ...]
    statuses: tuple[tuple[int, int], ...]
    """First and last of each range."""
    connect_failure: bool = False
    reset: bool = False
    retries_max: int = 0
    per_try_timeout_ms: int = 0
    backoff_ms: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """So many per window."""

    amount: int
    window_ms: int
    burst: int = 0
    status: int = 429
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Breaker:
    """When nothing is asked of a Service for a while."""

    window_ms: int
    requests_min: int
    open_ms: int
    slow_ms: int = 5_000
    slow_amount: int = 0
    slow_permille: int = 0
    error_amount: int = 0
    error_permille: int = 0
    status: int = 409
    body: str = "Coming soon ..."


@dataclass(frozen=True, slots=True)
class UpstreamTrafficSetting(PolicyObject):
    """How one Service may be called."""

    service: Key
    connections_max: int = 0
    connect_timeout_ms: int = 0
    requests_max: int = 0
    pending_max: int = 0
    requests_per_connection_max: int = 0
    connection_age_ms: int = 0
    streams_max: int = 0
    retries_max: int = 0
    breaker: Breaker | None = None
    connections: Limit | None = None
    requests: Limit | None = None
    routes: tuple[tuple[str, Limit], ...] = ()
    """Path as it is written, and its limit."""
    created: str = ""
    """When the object was created, as the API writes it."""
