"""UpstreamTrafficSetting, policy.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``UpstreamTrafficSetting`` with milliseconds and
thousandths. ``host`` names a Service of the object's own namespace: ``svc.ns`` with or without the
cluster's domain.

Source: fsm-interfaces section 2.5.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.upstream import Breaker, Limit, UpstreamTrafficSetting
from fsm.policies.durations import Duration
from fsm.policies.strict import Reading, Regex, Strict, fault, read
from fsm.policies.traffic_split.schema import service_key

WINDOW_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000}
_AMOUNT_MAX = 1_000_000_000
_BODY_BYTES_MAX = 64 * 1024


def _host(value: str) -> str:
    if "." not in value or service_key(value, "") is None:
        raise fault(f"{value!r} names no Service", "write service.namespace.svc.cluster.local")
    return value


def _status(value: int) -> int:
    if not 200 <= value <= 599:
        raise fault(f"{value} is no status of an answer", "write one from 200 to 599, such as 429")
    return value


def _permille(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise fault(f"{value!r} is no share", "write a number from 0 to 1, such as 0.1")
    # Anything but nothing is at least something.
    return max(round(value * 1_000), 1) if value else 0


def _header_value(value: str) -> str:
    if value != value.strip() or any(c != "\t" and (c < " " or c == "\x7f") for c in value):
        raise fault(f"{value!r} is no value of a header")
    return value


Amount = Annotated[int, Field(ge=0, le=_AMOUNT_MAX)]
Status = Annotated[int, AfterValidator(_status)]
Share = Annotated[int, BeforeValidator(_permille)]
Unit = Literal["second", "minute", "hour"]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class Tcp(Strict):
    """Connections."""

    maxConnections: Amount | None = None
    connectTimeout: Duration | None = None


class CircuitBreaking(Strict):
    """When the Service gets no requests for a while."""

    statTimeWindow: Duration
    minRequestAmount: Amount
    degradedTimeWindow: Duration
    slowTimeThreshold: Duration | None = None
    slowAmountThreshold: Amount | None = None
    slowRatioThreshold: Share | None = None
    errorAmountThreshold: Amount | None = None
    errorRatioThreshold: Share | None = None
    degradedStatusCode: Status | None = None
    degradedResponseContent: Annotated[str, Field(max_length=_BODY_BYTES_MAX)] | None = None


class Http(Strict):
    """Requests."""

    maxRequests: Amount | None = None
    maxRequestsPerConnection: Amount | None = None
    maxConnectionAge: Duration | None = None
    maxConcurrentStreams: Amount | None = None
    maxPendingRequests: Amount | None = None
    maxRetries: Amount | None = None
    circuitBreaking: CircuitBreaking | None = None


class ConnectionSettings(Strict):
    """What callers keep to."""

    tcp: Tcp | None = None
    http: Http | None = None


class HeaderToAdd(Strict):
    """A header of the answer to what is over the limit."""

    name: HeaderName
    value: Annotated[str, AfterValidator(_header_value)]


class TcpLimit(Strict):
    """Connections that are let in."""

    connections: Annotated[int, Field(ge=1, le=_AMOUNT_MAX)]
    unit: Unit
    burst: Amount | None = None


class HttpLimit(Strict):
    """Requests that are let in."""

    requests: Annotated[int, Field(ge=1, le=_AMOUNT_MAX)]
    unit: Unit
    burst: Amount | None = None
    responseStatusCode: Status | None = None
    responseHeadersToAdd: list[HeaderToAdd] | None = None


class Local(Strict):
    """Limits that each of the Service's Pods keeps by itself."""

    tcp: TcpLimit | None = None
    http: HttpLimit | None = None


class RateLimit(Strict):
    """How much is let in."""

    local: Local | None = None


class RouteLocal(Strict):
    """The limit of a route, in each Pod."""

    local: HttpLimit | None = None


class HttpRoute(Strict):
    """A route and its limit."""

    path: Regex
    rateLimit: RouteLocal | None = None


class Body(Strict):
    """The setting."""

    host: Annotated[str, AfterValidator(_host)]
    connectionSettings: ConnectionSettings | None = None
    rateLimit: RateLimit | None = None
    httpRoutes: list[HttpRoute] | None = None


def read_setting(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> UpstreamTrafficSetting:
    """Return the dataclass of a valid object."""
    reading = read_setting(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    service = service_key(body.host, reading.key.namespace)
    assert service is not None, "the host was validated"
    settings = body.connectionSettings or ConnectionSettings()
    tcp, http = settings.tcp or Tcp(), settings.http or Http()
    local = (body.rateLimit.local if body.rateLimit else None) or Local()
    limits = {
        route.path: _limit(route.rateLimit.local)
        for route in body.httpRoutes or ()
        if route.rateLimit and route.rateLimit.local
    }
    return UpstreamTrafficSetting(
        namespace=reading.key.namespace,
        name=reading.key.name,
        service=service,
        connections_max=tcp.maxConnections or 0,
        connect_timeout_ms=tcp.connectTimeout or 0,
        requests_max=http.maxRequests or 0,
        pending_max=http.maxPendingRequests or 0,
        requests_per_connection_max=http.maxRequestsPerConnection or 0,
        connection_age_ms=http.maxConnectionAge or 0,
        streams_max=http.maxConcurrentStreams or 0,
        retries_max=http.maxRetries or 0,
        breaker=_breaker(http.circuitBreaking) if http.circuitBreaking else None,
        connections=Limit(local.tcp.connections, WINDOW_MS[local.tcp.unit], local.tcp.burst or 0)
        if local.tcp
        else None,
        requests=_limit(local.http) if local.http else None,
        routes=tuple(limits.items()),
        created=str((obj.get("metadata") or {}).get("creationTimestamp") or ""),
        generation=reading.generation,
    )


def _limit(limit: HttpLimit) -> Limit:
    return Limit(
        amount=limit.requests,
        window_ms=WINDOW_MS[limit.unit],
        burst=limit.burst or 0,
        status=limit.responseStatusCode or 429,
        headers=tuple((header.name, header.value) for header in limit.responseHeadersToAdd or ()),
    )


def _breaker(body: CircuitBreaking) -> Breaker:
    slow = body.slowTimeThreshold
    content = body.degradedResponseContent
    return Breaker(
        window_ms=body.statTimeWindow or 1,
        requests_min=body.minRequestAmount,
        open_ms=body.degradedTimeWindow,
        slow_ms=5_000 if slow is None else slow,
        slow_amount=body.slowAmountThreshold or 0,
        slow_permille=body.slowRatioThreshold or 0,
        error_amount=body.errorAmountThreshold or 0,
        error_permille=body.errorRatioThreshold or 0,
        status=body.degradedStatusCode or 409,
        body="Coming soon ..." if content is None else content,
    )
