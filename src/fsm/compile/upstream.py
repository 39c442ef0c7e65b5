"""Retries, limits and circuit breakers as the contract writes them.

In: the policies that count for a Service. Out: parts of clusters, hosts and routes of the
contract. Not here: which policy counts (``fsm.policies.retry``, ``upstream_traffic_setting``).
"""

from __future__ import annotations

from dataclasses import replace

from fsm.compile.contract import (
    CircuitBreaker,
    Cluster,
    ConnectionLimits,
    ExtraHeader,
    Path,
    RateLimit,
    Retry,
    Route,
    StatusRange,
)
from fsm.model import upstream as policy
from fsm.model.names import Key, ServiceAccount
from fsm.model.snapshot import Snapshot
from fsm.policies.retry.compile import retries_of
from fsm.policies.upstream_traffic_setting.compile import setting_of


def bounded(snapshot: Snapshot, caller: ServiceAccount, service: Key, cluster: Cluster) -> Cluster:
    """Return the cluster of a Service with what policies say of calls to it."""
    retry = retries_of(snapshot, caller).get(service)
    if retry is not None:
        cluster = replace(cluster, retry=_retry(retry))
    setting = setting_of(snapshot, service)
    if setting is None:
        return cluster
    limits = ConnectionLimits(
        connections_max=setting.connections_max,
        pending_max=setting.pending_max,
        requests_max=setting.requests_max,
        requests_per_connection_max=setting.requests_per_connection_max,
        connection_age_ms=setting.connection_age_ms,
        streams_max=setting.streams_max,
        retries_max=setting.retries_max,
    )
    if limits != ConnectionLimits():
        limits = replace(limits, origin=setting.origin)
    return replace(
        cluster,
        circuit_breaker=_breaker(setting.breaker, setting.origin) if setting.breaker else None,
        connect_timeout_ms=setting.connect_timeout_ms or cluster.connect_timeout_ms,
        limits=limits,
    )


def connection_limit(snapshot: Snapshot, service: Key) -> RateLimit | None:
    """Return how many connections a Service lets in."""
    setting = setting_of(snapshot, service)
    if setting is None or setting.connections is None:
        return None
    return _limit(setting.connections, setting.origin)


def request_limit(snapshot: Snapshot, service: Key) -> RateLimit | None:
    """Return how many requests a Service lets in."""
    setting = setting_of(snapshot, service)
    return _limit(setting.requests, setting.origin) if setting and setting.requests else None


def limited_routes(
    snapshot: Snapshot, service: Key, routes: tuple[Route, ...]
) -> tuple[Route, ...]:
    """Return the routes of a Service with their limits."""
    setting = setting_of(snapshot, service)
    limits = dict(setting.routes) if setting else {}
    if setting is None or not limits:
        return routes
    return tuple(
        replace(route, rate_limit=_limit(found, f"{setting.origin}#{_written(route)}"))
        if (found := limits.get(_written(route))) is not None
        else route
        for route in routes
    )


def _written(route: Route) -> str:
    """Return a route's path as users write it: the route for every path is ``.*``."""
    return ".*" if route.path == Path("prefix", "/") else route.path.value


def _retry(retry: policy.Retry) -> Retry:
    return Retry(
        backoff_ms=retry.backoff_ms,
        connect_failure=retry.connect_failure,
        origin=retry.origin,
        per_try_timeout_ms=retry.per_try_timeout_ms,
        reset=retry.reset,
        retries_max=retry.retries_max,
        statuses=tuple(StatusRange(first=first, last=last) for first, last in retry.statuses),
    )


def _breaker(breaker: policy.Breaker, origin: str) -> CircuitBreaker:
    return CircuitBreaker(
        body=breaker.body,
        error_amount=breaker.error_amount,
        error_permille=breaker.error_permille,
        open_ms=breaker.open_ms,
        origin=origin,
        requests_min=breaker.requests_min,
        slow_amount=breaker.slow_amount,
        slow_ms=breaker.slow_ms,
        slow_permille=breaker.slow_permille,
        status=breaker.status,
        window_ms=breaker.window_ms,
    )


def _limit(limit: policy.Limit, origin: str) -> RateLimit:
    return RateLimit(
        amount=limit.amount,
        burst=limit.burst,
        headers=tuple(ExtraHeader(name=name, value=value) for name, value in limit.headers),
        origin=origin,
        status=limit.status,
        window_ms=limit.window_ms,
    )
