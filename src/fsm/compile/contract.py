"""The contract as Python sees it: the configuration of one proxy, as frozen dataclasses.

In: values that the compiler made, or JSON. Out: canonical JSON (sorted keys, no white space), or
the dataclasses. The types mirror ``proxy/pipy-config``, which is the authority; its JSON Schema is
under ``contract/`` and the tests hold both against each other, field by field.

Invariants: ``to_json`` writes every field, so that equal configurations are equal bytes;
``version`` is the hash of everything else. Not here: whether a configuration makes sense
(``check``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Literal, NamedTuple

import orjson

from fsm.compile import digest
from fsm.compile.contract_cluster import (
    Balancing as Balancing,
)
from fsm.compile.contract_cluster import (
    BalancingPolicy as BalancingPolicy,
)
from fsm.compile.contract_cluster import (
    CircuitBreaker as CircuitBreaker,
)
from fsm.compile.contract_cluster import (
    Cluster as Cluster,
)
from fsm.compile.contract_cluster import (
    ClusterKind as ClusterKind,
)
from fsm.compile.contract_cluster import (
    ConnectionLimits as ConnectionLimits,
)
from fsm.compile.contract_cluster import (
    Endpoint as Endpoint,
)
from fsm.compile.contract_cluster import (
    PassiveHealth as PassiveHealth,
)
from fsm.compile.contract_cluster import (
    ProxyProtocol as ProxyProtocol,
)
from fsm.compile.contract_cluster import (
    Retry as Retry,
)
from fsm.compile.contract_cluster import (
    StatusRange as StatusRange,
)
from fsm.model.service import Protocol


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


class ProbeListener(StrEnum):
    """Where the kubelet asks for a probe of the application."""

    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"
    TCP = "tcp"


class ProbeKind(StrEnum):
    """What is asked of the application."""

    HTTP = "http"
    TCP = "tcp"


class Path(NamedTuple):
    """The path that a route fits."""

    kind: Literal["exact", "prefix", "regex"]
    value: str


class PluginSettings(NamedTuple):
    """What a service tells plugins: their names in order, each with its settings as JSON."""

    texts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> PluginSettings:
        """Return the same in canonical JSON."""
        return cls(tuple((name, json_of(settings[name]).decode()) for name in sorted(settings)))


NO_SETTINGS = PluginSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header that must fit."""

    name: str
    regex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """An identity that may, and the object that says so."""

    identity: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    """A share of traffic."""

    cluster: str
    origin: str | None = None
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraHeader:
    """A header that is added."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How much is let in: requests of a service or route, connections of a port."""

    amount: int
    burst: int = 0
    headers: tuple[ExtraHeader, ...] = ()
    origin: str
    status: int = 429
    window_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a request must look like, who may send it, and where it goes."""

    allowed: tuple[Allow, ...] | None = None
    """None: everyone who reached it. Empty: no one."""
    clusters: tuple[WeightedCluster, ...]
    headers: tuple[Header, ...] = ()
    methods: tuple[str, ...] = ()
    origin: str
    path: Path
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """A virtual host."""

    names: tuple[str, ...]
    origin: str
    plugins: PluginSettings = NO_SETTINGS
    rate_limit: RateLimit | None = None
    routes: tuple[Route, ...]
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpRule:
    """What happens to a TCP connection."""

    allowed: tuple[Allow, ...] | None = None
    clusters: tuple[WeightedCluster, ...]
    origin: str
    plugins: PluginSettings = NO_SETTINGS
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRule:
    """What happens to TLS connections for some server names."""

    names: tuple[str, ...]
    tcp: TcpRule


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule:
    """Clients outside the mesh that are let in."""

    cidrs: tuple[str, ...]
    mtls: bool = False
    origin: str
    principals: tuple[str, ...] = ()
    routes: tuple[str, ...] | None = None
    """Origins of the routes that the client may use. None: all."""
    server_names: tuple[str, ...] = ()
    """With TLS: names of which the client must ask for one; empty: any, or none."""
    tls: bool = False
    """The client must speak TLS, and shows no certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMatch:
    """What happens on one port of the application."""

    hosts: tuple[HostRule, ...] = ()
    mtls: Mtls = Mtls.STRICT
    origin: str
    port: int
    protocol: Protocol
    proxy_protocol_from: tuple[str, ...] = ()
    """Peers that begin each connection with a PROXY header."""
    rate_limit: RateLimit | None = None
    sources: tuple[SourceRule, ...] = ()
    tcp: TcpRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """Traffic to the application."""

    matches: tuple[InboundMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMatch:
    """What happens to connections towards one port of some addresses."""

    destinations: tuple[str, ...] = ()
    hosts: tuple[HostRule, ...] = ()
    origin: str
    port: int
    protocol: Protocol
    tcp: TcpRule | None = None
    tls: tuple[TlsRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """Traffic from the application."""

    matches: tuple[OutboundMatch, ...] = ()
    unmatched: Unmatched = Unmatched.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """What the outbound listener carries to its original destination, whatever the matches say."""

    all_but: tuple[str, ...] = ()
    """If not empty, every destination outside of these."""
    destinations: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe of the application that the proxy carries out."""

    headers: tuple[str, ...] = ()
    host: str | None = None
    kind: ProbeKind
    listener: ProbeListener
    origin: str
    path: str | None = None
    port: int
    timeout_ms: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the proxy's workload is called."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    pod: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
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
        "inbound-tracing-http",
        "inbound-logging-http",
        "inbound-throttle-service",
        "inbound-throttle-route",
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
        "outbound-tracing-http",
        "outbound-logging-http",
        "outbound-circuit-breaker",
        "outbound-http-load-balancing",
        "outbound-http-default",
    ),
    "outbound-tcp": _stages(
        "outbound-tcp-routing", "outbound-tcp-load-balancing", "outbound-tcp-default"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """The stages of the four chains."""

    inbound_http: tuple[str, ...] = BUILT_IN_CHAINS["inbound-http"]
    inbound_tcp: tuple[str, ...] = BUILT_IN_CHAINS["inbound-tcp"]
    outbound_http: tuple[str, ...] = BUILT_IN_CHAINS["outbound-http"]
    outbound_tcp: tuple[str, ...] = BUILT_IN_CHAINS["outbound-tcp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A script that chains name as ``plugins/<name>.js``."""

    name: str
    origin: str
    script: str

    @property
    def stage(self) -> str:
        """The stage that chains name it by."""
        return f"plugins/{self.name}.js"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where records are sent, in HTTP, not encrypted."""

    authorization: str = ""
    host: str
    path: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How requests are traced; a share of traces, per million, is told to the collector."""

    collector: Collector
    origin: str
    sampled_per_million: int
    traceparent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLog:
    """Which share of the access log's lines, per million, is sent elsewhere."""

    collector: Collector
    origin: str
    sampled_per_million: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the proxy tells about its traffic."""

    access_log: AccessLog = AccessLog.DENIED
    remote_log: RemoteLog | None = None
    tracing: Tracing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time limits, milliseconds; 0 means none."""

    detect_ms: int = 500
    drain_ms: int = 30_000
    handshake_ms: int = 10_000
    idle_ms: int = 3_600_000
    request_head_ms: int = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamLimits:
    """Limits on accepted connections, per worker, and on what each may take; 0 means none."""

    connection_age_ms: int = 0
    connections_max: int = 0
    inbound_connections_max: int = 0
    outbound_connections_max: int = 0
    requests_per_connection_max: int = 0
    streams_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A certificate that was made elsewhere, PEM."""

    chain: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Originate:
    """How servers outside of the mesh are spoken to in TLS."""

    certificate: ClientCertificate | None = None
    """None: the proxy's own of the mesh."""
    origin: str
    roots: tuple[str, ...] = ()
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """The whole configuration of one proxy."""

    chains: Chains = field(default_factory=Chains)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    connection_limits: DownstreamLimits = field(default_factory=DownstreamLimits)
    exclusions: Exclusions = field(default_factory=Exclusions)
    identity: str | None = None
    inbound: Inbound | None = None
    originates: Mapping[str, Originate] = field(default_factory=dict)
    outbound: Outbound | None = None
    plugins: tuple[Plugin, ...] = ()
    probes: tuple[Probe, ...] = ()
    telemetry: Telemetry = field(default_factory=Telemetry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    trust: Trust = field(default_factory=Trust)
    version: str = ""
    workload: Workload = field(default_factory=Workload)

    def to_json(self) -> bytes:
        """Return the canonical JSON: the same configuration is the same bytes."""
        top = {f.name: getattr(self, f.name) for f in fields(self)}
        top["chains"] = _renamed(self.chains)
        return json_of(top)

    def with_version(self) -> ProxyConfig:
        """Return the same configuration with the version that its contents have."""
        digests = {name: digest.digest(text) for name, text in self.field_texts()}
        matches = self.outbound.matches if self.outbound else ()
        digests["outbound"] = digest.of_outbound(
            outbound_text(self.outbound), digest.of_list(map(json_of, matches))
        )
        by_name = sorted(self.clusters.items())
        others, local = (
            digest.of_list(
                cluster_text(name, cluster)
                for name, cluster in by_name
                if digest.is_local(name) is wanted
            )
            for wanted in (False, True)
        )
        digests["clusters"] = digest.of_clusters(others, local)
        return replace(self, version=digest.version_of(digests))

    def field_texts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the JSON of each top-level field that is hashed as a whole."""
        for f in fields(self):
            if f.name not in ("clusters", "outbound", "version"):
                value = getattr(self, f.name)
                yield f.name, json_of(_renamed(value) if f.name == "chains" else value)


def json_of(value: object) -> bytes:
    """Return the canonical JSON of a part of a configuration."""
    # WHY: orjson writes dataclasses by itself, a hundred times faster than Python could, but
    # under their Python names; the chains are the only ones that are called otherwise.
    text = orjson.dumps(value, default=_in_words, option=orjson.OPT_SORT_KEYS)
    # WHY: orjson leaves the 4 KiB that it begins with behind each text, however short; a copy has
    # the size that it has.
    return bytes(memoryview(text))


def cluster_text(name: str, cluster: Cluster) -> bytes:
    """Return a cluster as it stands among others: its name and what it is."""
    return json_of(name) + b":" + json_of(cluster)


def outbound_text(outbound: Outbound | None) -> bytes:
    """Return the outbound half without its matches."""
    return json_of(replace(outbound, matches=()) if outbound else None)


RENAMED = {
    "inbound_http": "inbound-http",
    "inbound_tcp": "inbound-tcp",
    "outbound_http": "outbound-http",
    "outbound_tcp": "outbound-tcp",
}
"""Names in JSON that Python cannot have."""


def _renamed(chains: Chains) -> dict[str, tuple[str, ...]]:
    return {RENAMED[f.name]: getattr(chains, f.name) for f in fields(chains)}


def _in_words(value: object) -> object:
    if isinstance(value, Path):
        return {value.kind: value.value}
    if isinstance(value, PluginSettings):
        return {name: orjson.Fragment(text) for name, text in value.texts}
    raise TypeError(f"{value!r} is not of the contract")
