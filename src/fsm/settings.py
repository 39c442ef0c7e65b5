"""Every knob of the control plane that is not an object of the API, typed and documented.

In: values from command-line flags and files (read elsewhere). Out: nested frozen dataclasses that
are passed in, never global. Each field's text says its meaning, unit and default, and is the
source of the reference page.

Invariants: immutable; no field holds a secret; every duration carries its unit in its name. What
users change while the mesh runs is in MeshConfig (``fsm.model.mesh_config``), not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

AccessLog = Literal["off", "denied", "all"]


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports that users of this family of meshes know; changing one changes what they type."""

    outbound: int = 15001
    """Sidecar: connections of the application are redirected here."""
    inbound: int = 15003
    """Sidecar: connections to the application are redirected here."""
    admin: int = 15000
    """Sidecar: administration, on loopback only."""
    metrics: int = 15010
    """Sidecar: Prometheus metrics and readiness."""
    delivery: int = 15128
    """Control plane: certificates and configurations for sidecars, over TLS."""
    webhook: int = 9443
    """Control plane: admission webhooks, over TLS."""
    health: int = 9091
    """Control plane: health, metrics and version, plain HTTP."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Lifetimes of what the certificate authority issues."""

    root_lifetime_s: int = 10 * 365 * 86_400
    """Root certificate, seconds."""
    leaf_lifetime_s: int = 24 * 3_600
    """Certificate of a sidecar, seconds, unless MeshConfig's
    ``certificate.serviceCertValidityDuration`` says otherwise."""
    server_lifetime_s: int = 24 * 3_600
    """Certificates of the control plane's own servers, seconds."""
    renew_fraction: float = 2 / 3
    """A certificate is renewed when this part of its life has passed."""
    clock_skew_s: int = 300
    """Certificates are valid from this long before they are made, seconds, so that a peer whose
    clock is slow accepts them."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How configurations reach the sidecars."""

    wait_max_s: float = 55.0
    """Longest time that a long-poll is held open, seconds."""
    coalesce_ms: int = 20
    """Changes of the API within this time, milliseconds, make one new snapshot."""
    body_bytes_max: int = 64 * 1024 * 1024
    """Largest body in either direction, bytes."""
    token_audience: str = "fsm-controller"
    """Audience that a ServiceAccount token must name to prove an identity."""


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Time limits of calls to the Kubernetes API."""

    request_timeout_s: float = 30.0
    """One call other than a watch, seconds."""
    watch_timeout_s: int = 300
    """One watch before it is opened anew, seconds."""
    backoff_max_s: float = 10.0
    """Longest pause between attempts, seconds; pauses are jittered."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """What is written into every sidecar's configuration."""

    carries_udp: bool = False
    """Whether sidecars carry UDP: only those that run as root can (``docs/decisions``)."""
    access_log: AccessLog = "denied"
    """Which requests a sidecar logs. The annotation ``flomesh.io/access-log`` on a Pod, then on its
    Namespace, overrides it."""
    connect_timeout_ms: int = 5_000
    """A connection attempt to an endpoint, milliseconds."""
    handshake_timeout_ms: int = 10_000
    """A TLS handshake, milliseconds."""
    request_head_timeout_ms: int = 30_000
    """A request head, milliseconds."""
    idle_timeout_ms: int = 3_600_000
    """A connection on which nothing moves, milliseconds, unless MeshConfig's
    ``sidecar.sidecarTimeout`` is set."""
    drain_timeout_ms: int = 30_000
    """How long connections may finish after SIGTERM, milliseconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole control plane."""

    mesh_name: str = "fsm"
    """Name of the mesh: the value of the label ``flomesh.io/monitored-by`` on its namespaces."""
    fsm_namespace: str = "fsm-system"
    """Namespace of the control plane."""
    trust_domain: str = "cluster.local"
    """Trust domain of all identities (``spiffe://<trust domain>/ns/…/sa/…``)."""
    cluster_domain: str = "cluster.local"
    """DNS domain under which Services have their names."""
    require_target_namespace: bool = True
    """A TrafficTarget has an effect only in the namespace of its destination. ``False`` (the
    chart's ``smi.validateTrafficTarget=false``) lets anyone who may write TrafficTargets anywhere
    open every workload."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Level of the control plane's own log."""
    ports: Ports = field(default_factory=Ports)
    """Listening ports."""
    certificates: Certificates = field(default_factory=Certificates)
    """Certificate lifetimes."""
    delivery: Delivery = field(default_factory=Delivery)
    """Delivery of configurations."""
    api: ApiClient = field(default_factory=ApiClient)
    """Calls to the Kubernetes API."""
    proxy: Proxy = field(default_factory=Proxy)
    """Contents of every sidecar's configuration."""

    @property
    def mesh_config_name(self) -> str:
        """Name of the MeshConfig object in that namespace."""
        return mesh_config_name(self.fsm_namespace)


def mesh_config_name(fsm_namespace: str) -> str:
    """Return what the MeshConfig of a control plane is called.

    Whoever installs into ``osm-system`` follows the documents of the older generation, which patch
    ``osm-mesh-config`` there.
    """
    return "osm-mesh-config" if fsm_namespace == "osm-system" else "fsm-mesh-config"
