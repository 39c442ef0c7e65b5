"""MeshConfig: what users change while the mesh runs.

In: what ``fsm.policies.mesh_config.schema`` parsed. Out: typed values. Fields that nothing acts on
yet are kept, untouched, in ``raw``.

Invariant: a missing field never opens anything. The chart of the mesh that users come from installs
permissive mode switched on; that is a matter of the object that an installation creates. Where the
object or the field is absent, access is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fsm.model.names import Key, origin

AccessMode = Literal["ip", "domain", "mixed"]
CHAINS = ("inbound-tcp", "inbound-http", "outbound-tcp", "outbound-http")


@dataclass(frozen=True, slots=True)
class ChainStage:
    """A stage of a chain: the name of its module and where it stands."""

    plugin: str
    priority: float
    disable: bool = False


@dataclass(frozen=True, slots=True)
class AccessNames:
    """Which forms of a Service's name are its hosts."""

    must_with_service_port: bool = False
    """Only names with a port."""
    must_with_namespace: bool = True
    """From other namespaces, only names with a namespace."""
    with_trust_domain: bool = True
    """Also the long names that end with the cluster's domain."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """How sidecars are injected and run."""

    enable_privileged_init_container: bool = False
    log_level: str = "error"
    max_data_plane_connections: int = 0
    config_resync_interval_s: float = 0.0
    image: str = ""
    disabled_mtls: bool = False
    """Plain text between sidecars. Nobody can prove an identity then, so in SMI mode every request
    is refused."""
    timeout_s: int | None = None
    """Connections on which nothing moves are closed after this; None leaves the default."""
    connection_age_ms: int = 0
    """The age at which connections of clients take no more requests; 0: none."""
    requests_per_connection_max: int = 0
    """Requests after which they take no more; 0: no limit."""
    streams_max: int = 0
    """Requests at once on one of HTTP/2; 0: the proxy's default."""
    hold_application_until_proxy_starts: bool = True
    graceful_exit_until_downstream_ends: bool = True
    local_proxy_mode: Literal["Localhost", "PodIP"] = "Localhost"
    resources: Mapping[str, object] = field(default_factory=dict)
    init_resources: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who may talk to whom, and what is redirected."""

    enable_egress: bool = True
    permissive: bool = False
    """Everything in the mesh may talk to everything; TrafficTargets are not asked."""
    outbound_ip_range_exclusion_list: tuple[str, ...] = ()
    outbound_ip_range_inclusion_list: tuple[str, ...] = ()
    outbound_port_exclusion_list: tuple[int, ...] = ()
    inbound_port_exclusion_list: tuple[int, ...] = ()
    network_interface_exclusion_list: tuple[str, ...] = ()
    http1_per_request_load_balancing: bool = False
    http2_per_request_load_balancing: bool = True
    service_access_mode: AccessMode = "mixed"
    service_access_names: AccessNames = field(default_factory=AccessNames)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Certificates of sidecars."""

    service_cert_validity_s: float = 86_400.0
    key_bit_size: int = 2048


@dataclass(frozen=True, slots=True)
class Export:
    """Where sidecars send spans or log lines, and which share of them."""

    host: str
    port: int
    path: str
    share: float = 1.0
    """From 0 to 1."""
    authorization: str = ""
    traceparent: bool = False
    """Spans: the W3C's header is sent too."""


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """The whole of it."""

    namespace: str = "fsm-system"
    name: str = "fsm-mesh-config"
    sidecar: Sidecar = field(default_factory=Sidecar)
    traffic: Traffic = field(default_factory=Traffic)
    certificate: Certificate = field(default_factory=Certificate)
    log_level: str = "info"
    """``observability.fsmLogLevel``."""
    tracing: Export | None = None
    """``observability.tracing``, when it is enabled."""
    remote_log: Export | None = None
    """``observability.remoteLogging``, when it is enabled."""
    feature_flags: Mapping[str, bool] = field(default_factory=dict)
    plugin_chains: Mapping[str, tuple[ChainStage, ...]] = field(default_factory=dict)
    """Stages by chain; a chain that is absent has the built-in stages."""
    raw: Mapping[str, object] = field(default_factory=dict)
    """The ``spec`` as it was written."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin("MeshConfig", self.namespace, self.name)
