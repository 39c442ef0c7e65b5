"""MeshConfig, config.flomesh.io v1alpha1 to v1alpha3: the shape.

In: the object's JSON. Out: pydantic models, and ``MeshConfig``. The sections that the control
plane acts on are read strictly, every field of them by name; the others (ingress, gateways,
connectors, …) are kept as they are until something acts on them.

Source: fsm-interfaces section 1.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.mesh_config import (
    CHAINS,
    AccessNames,
    Certificate,
    ChainStage,
    Export,
    MeshConfig,
    Sidecar,
    Traffic,
)
from fsm.policies.strict import PortNumber, Reading, Strict, fault, read

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0}


def seconds(text: str) -> float:
    """Return a duration as the Go language writes it (``1h30m``, ``250ms``, ``0``) in seconds."""
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))


def _duration(value: str) -> str:
    if value != "0" and not _DURATION.fullmatch(value):
        raise fault(f"{value!r} is not a duration", "write 24h, 90m, 30s or 500ms")
    return value


def _cidr(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise fault(f"{value!r} is not an IP range", "write 10.0.0.0/8 or 192.0.2.7/32") from None
    if "/" not in value:
        raise fault(f"{value!r} has no prefix length", f"write {value}/32")
    return value


Duration = Annotated[str, AfterValidator(_duration)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Anything = Any
LogLevel = Literal[
    "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic", "disabled"
]


class SidecarBody(Strict):
    """Section ``sidecar``."""

    enablePrivilegedInitContainer: bool = False
    logLevel: LogLevel = "error"
    maxDataPlaneConnections: Annotated[int, Field(ge=0)] = 0
    configResyncInterval: Duration = "0"
    sidecarImage: str = ""
    sidecarDisabledMTLS: bool = False
    sidecarTimeout: Annotated[int, Field(ge=0, le=86_400)] | None = None
    maxConnectionAge: Duration = "0"
    maxRequestsPerConnection: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    maxConcurrentStreams: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    holdApplicationUntilProxyStarts: bool = True
    gracefulExitUntilDownstreamEnds: bool = True
    localProxyMode: Literal["Localhost", "PodIP"] = "Localhost"
    resources: dict[str, Anything] | None = None
    initResources: dict[str, Anything] | None = None
    healthcheckResources: dict[str, Anything] | None = None
    compressConfig: bool = True
    tlsMinProtocolVersion: str = ""
    tlsMaxProtocolVersion: str = ""
    cipherSuites: list[str] | None = None
    ecdhCurves: list[str] | None = None
    localDNSProxy: dict[str, Anything] | None = None
    xnetDNSProxy: dict[str, Anything] | None = None
    envoyImage: str = ""
    envoyWindowsImage: str = ""
    initContainerImage: str = ""


class AccessNamesBody(Strict):
    """Section ``traffic.serviceAccessNames``."""

    mustWithServicePort: bool = False
    mustWithNamespace: bool = True
    withTrustDomain: bool = True
    cloud: dict[str, Anything] | None = None


class TrafficBody(Strict):
    """Section ``traffic``."""

    interceptionMode: Literal["PodLevel", "NodeLevel"] = "PodLevel"
    enableEgress: bool = True
    enablePermissiveTrafficPolicyMode: bool = False
    outboundIPRangeExclusionList: list[Cidr] | None = None
    outboundIPRangeInclusionList: list[Cidr] | None = None
    outboundPortExclusionList: list[PortNumber] | None = None
    inboundPortExclusionList: list[PortNumber] | None = None
    networkInterfaceExclusionList: list[str] | None = None
    http1PerRequestLoadBalancing: bool = False
    http2PerRequestLoadBalancing: bool = True
    serviceAccessMode: Literal["ip", "domain", "mixed"] = "mixed"
    serviceAccessNames: AccessNamesBody | None = None
    inboundExternalAuthorization: dict[str, Anything] | None = None


class CertificateBody(Strict):
    """Section ``certificate``."""

    serviceCertValidityDuration: Duration = "24h"
    certKeyBitSize: int = 2048
    ingressGateway: dict[str, Anything] | None = None


def _share(value: str | float) -> str | float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise fault(f"{value!r} is not a share", "write a number from 0 to 1, such as 0.1")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z._-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", value):
        raise fault(f"{value!r} is not a host", "write a name or an address, without a port")
    return value


def _path(value: str) -> str:
    if not re.fullmatch(r"(/[!-~]*)?", value):
        raise fault(f"{value!r} is not a path", "begin it with / and escape blanks as %20")
    return value


def _header_value(value: str) -> str:
    if not re.fullmatch(r"[ -~]*", value):
        raise fault("a header cannot carry this value")
    return value


Share = Annotated[str | float, AfterValidator(_share)]
Host = Annotated[str, AfterValidator(_host)]
Path = Annotated[str, AfterValidator(_path)]


class TracingBody(Strict):
    """Section ``observability.tracing``."""

    enable: bool = False
    address: Host = ""
    port: PortNumber = 9411
    endpoint: Path = "/api/v2/spans"
    sampledFraction: Share = "1"
    traceparent: bool = False


class RemoteLoggingBody(Strict):
    """Section ``observability.remoteLogging``."""

    enable: bool = False
    level: int = 2
    address: Host = ""
    port: PortNumber = 30514
    endpoint: Path = ""
    authorization: Annotated[str, AfterValidator(_header_value)] = ""
    sampledFraction: Share = 1.0
    secretName: str = ""


class ObservabilityBody(Strict):
    """Section ``observability``."""

    fsmLogLevel: LogLevel = "info"
    osmLogLevel: LogLevel | None = None
    enableDebugServer: bool = False
    tracing: TracingBody | None = None
    remoteLogging: RemoteLoggingBody | None = None


class StageBody(Strict):
    """One stage of a chain."""

    plugin: Annotated[str, Field(min_length=1)]
    priority: float
    disable: bool = False


class Body(Strict):
    """The whole."""

    sidecar: SidecarBody | None = None
    traffic: TrafficBody | None = None
    certificate: CertificateBody | None = None
    observability: ObservabilityBody | None = None
    featureFlags: dict[str, bool] | None = None
    pluginChains: dict[Literal[CHAINS], list[StageBody] | None] | None = None  # type: ignore[valid-type]
    repoServer: dict[str, Anything] | None = None
    ingress: dict[str, Anything] | None = None
    gatewayAPI: dict[str, Anything] | None = None
    egressGateway: dict[str, Anything] | None = None
    serviceLB: dict[str, Anything] | None = None
    flb: dict[str, Anything] | None = None
    clusterSet: dict[str, Anything] | None = None
    connector: dict[str, Anything] | None = None
    image: dict[str, Anything] | None = None
    misc: dict[str, Anything] | None = None
    warmup: dict[str, Anything] | None = None


def read_config(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> MeshConfig:
    """Return the dataclass of a valid object."""
    reading = read_config(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    return MeshConfig(
        namespace=reading.key.namespace,
        name=reading.key.name,
        sidecar=_sidecar(body.sidecar or SidecarBody()),
        traffic=_traffic(body.traffic or TrafficBody()),
        certificate=_certificate(body.certificate or CertificateBody()),
        log_level=_log_level(body.observability or ObservabilityBody()),
        tracing=_tracing(body.observability, reading.key.namespace),
        remote_log=_remote_log(body.observability),
        feature_flags=body.featureFlags or {},
        plugin_chains={
            str(chain): tuple(ChainStage(s.plugin, s.priority, s.disable) for s in stages)
            for chain, stages in (body.pluginChains or {}).items()
            if stages is not None
        },
        raw=obj.get("spec") or {},
        generation=reading.generation,
    )


def _log_level(body: ObservabilityBody) -> str:
    older = None if "fsmLogLevel" in body.model_fields_set else body.osmLogLevel
    return older or body.fsmLogLevel


def _tracing(observability: ObservabilityBody | None, namespace: str) -> Export | None:
    body = observability.tracing if observability else None
    if body is None or not body.enable:
        return None
    return Export(
        host=body.address or f"jaeger.{namespace}.svc.cluster.local",
        port=body.port,
        path=body.endpoint or "/api/v2/spans",
        share=float(body.sampledFraction),
        traceparent=body.traceparent,
    )


def _remote_log(observability: ObservabilityBody | None) -> Export | None:
    body = observability.remoteLogging if observability else None
    # Unlike traces, lines have no usual place.
    if body is None or not body.enable or not body.address:
        return None
    return Export(
        host=body.address,
        port=body.port,
        path=body.endpoint or "/",
        share=float(body.sampledFraction),
        authorization=body.authorization,
    )


def _sidecar(body: SidecarBody) -> Sidecar:
    return Sidecar(
        enable_privileged_init_container=body.enablePrivilegedInitContainer,
        log_level=body.logLevel,
        max_data_plane_connections=body.maxDataPlaneConnections,
        config_resync_interval_s=seconds(body.configResyncInterval),
        image=body.sidecarImage,
        disabled_mtls=body.sidecarDisabledMTLS,
        timeout_s=body.sidecarTimeout,
        connection_age_ms=round(seconds(body.maxConnectionAge) * 1_000),
        requests_per_connection_max=body.maxRequestsPerConnection,
        streams_max=body.maxConcurrentStreams,
        hold_application_until_proxy_starts=body.holdApplicationUntilProxyStarts,
        graceful_exit_until_downstream_ends=body.gracefulExitUntilDownstreamEnds,
        local_proxy_mode=body.localProxyMode,
        resources=body.resources or {},
        init_resources=body.initResources or {},
    )


def _traffic(body: TrafficBody) -> Traffic:
    names = body.serviceAccessNames or AccessNamesBody()
    return Traffic(
        enable_egress=body.enableEgress,
        permissive=body.enablePermissiveTrafficPolicyMode,
        outbound_ip_range_exclusion_list=tuple(body.outboundIPRangeExclusionList or ()),
        outbound_ip_range_inclusion_list=tuple(body.outboundIPRangeInclusionList or ()),
        outbound_port_exclusion_list=tuple(body.outboundPortExclusionList or ()),
        inbound_port_exclusion_list=tuple(body.inboundPortExclusionList or ()),
        network_interface_exclusion_list=tuple(body.networkInterfaceExclusionList or ()),
        http1_per_request_load_balancing=body.http1PerRequestLoadBalancing,
        http2_per_request_load_balancing=body.http2PerRequestLoadBalancing,
        service_access_mode=body.serviceAccessMode,
        service_access_names=AccessNames(
            must_with_service_port=names.mustWithServicePort,
            must_with_namespace=names.mustWithNamespace,
            with_trust_domain=names.withTrustDomain,
        ),
    )


def _certificate(body: CertificateBody) -> Certificate:
    return Certificate(
        service_cert_validity_s=seconds(body.serviceCertValidityDuration),
        key_bit_size=body.certKeyBitSize,
    )
