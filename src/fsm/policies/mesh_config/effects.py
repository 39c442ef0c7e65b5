"""When each field of MeshConfig takes effect: the table behind its status and reference page.

In: nothing. Out: ``EFFECTS``, and what follows from it for one MeshConfig. Invariants: every field
of the schema is here, once, in the order of the schema (a test holds both against each other); a
field that nothing acts on says so, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsm.model.exclusions import digest
from fsm.model.mesh_config import MeshConfig

When = Literal["live", "new pods", "not heeded"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One field, or one section as a whole."""

    path: str
    """Below ``spec``."""
    when: When
    text: str
    """What it does; for ``not heeded``, why nothing does it."""


EFFECTS: tuple[Effect, ...] = (
    Effect(
        "sidecar.enablePrivilegedInitContainer",
        "new pods",
        "The init container runs privileged instead of with NET_ADMIN alone.",
    ),
    Effect(
        "sidecar.logLevel",
        "live",
        "What sidecars log: `debug` and `trace` every request, `disabled` none, the others what is"
        " denied. The annotation `flomesh.io/access-log` goes before it.",
    ),
    Effect(
        "sidecar.maxDataPlaneConnections",
        "not heeded",
        "a control plane serves as many proxies as come",
    ),
    Effect(
        "sidecar.configResyncInterval",
        "not heeded",
        "every change is delivered at once and acknowledged, so nothing has to be sent again",
    ),
    Effect("sidecar.sidecarImage", "new pods", "Image of the sidecar; empty means the mesh's own."),
    Effect(
        "sidecar.sidecarDisabledMTLS",
        "live",
        "Plain text between sidecars. Nobody can prove an identity then: without permissive mode"
        " every request is refused.",
    ),
    Effect(
        "sidecar.sidecarTimeout",
        "live",
        "Seconds after which a connection on which nothing moves is closed; 0: never.",
    ),
    Effect(
        "sidecar.maxConnectionAge",
        "live",
        "The age, more or less a tenth, at which a sidecar takes no more requests on a connection;"
        " what is under way is answered, and HTTP/1 clients are told by `Connection: close`, those"
        " of HTTP/2 by GOAWAY. 0: none.",
    ),
    Effect(
        "sidecar.maxRequestsPerConnection",
        "live",
        "Requests after which it takes no more on that connection; told in the same way. 0: no"
        " limit.",
    ),
    Effect(
        "sidecar.maxConcurrentStreams",
        "live",
        "Requests at once that a client may send on a connection of HTTP/2; 0: a hundred.",
    ),
    Effect(
        "sidecar.holdApplicationUntilProxyStarts",
        "new pods",
        "The application starts when the sidecar has its configuration. Annotation"
        " `flomesh.io/hold-application-until-proxy-starts`.",
    ),
    Effect(
        "sidecar.gracefulExitUntilDownstreamEnds",
        "live",
        "When its Pod ends, a sidecar lets connections finish for up to 30 s; otherwise it cuts"
        " them. Annotation `flomesh.io/graceful-exit-until-downstream-ends`.",
    ),
    Effect(
        "sidecar.localProxyMode",
        "live",
        "Where a sidecar reaches its application: 127.0.0.1 (`Localhost`) or the Pod's own address"
        " (`PodIP`).",
    ),
    Effect(
        "sidecar.resources",
        "new pods",
        "Resources of the sidecar container. Annotations `flomesh.io/sidecar-resource-…`.",
    ),
    Effect("sidecar.initResources", "new pods", "Resources of the init container."),
    Effect(
        "sidecar.healthcheckResources",
        "not heeded",
        "the sidecar carries out all probes itself; there is no third container",
    ),
    Effect(
        "sidecar.compressConfig",
        "not heeded",
        "proxies share what they have in common and hear of changes only",
    ),
    Effect("sidecar.tlsMinProtocolVersion", "not heeded", "sidecars speak TLS 1.3 to each other"),
    Effect("sidecar.tlsMaxProtocolVersion", "not heeded", "sidecars speak TLS 1.3 to each other"),
    Effect("sidecar.cipherSuites", "not heeded", "those of TLS 1.3 are all strong"),
    Effect("sidecar.ecdhCurves", "not heeded", "those of TLS 1.3 are all strong"),
    Effect("sidecar.localDNSProxy", "not heeded", "names are resolved by the cluster's DNS"),
    Effect("sidecar.xnetDNSProxy", "not heeded", "traffic is redirected in Pods, not on nodes"),
    Effect("sidecar.envoyImage", "not heeded", "a name of an older mesh; see sidecarImage"),
    Effect("sidecar.envoyWindowsImage", "not heeded", "a name of an older mesh"),
    Effect("sidecar.initContainerImage", "not heeded", "a name of an older mesh"),
    Effect("traffic.interceptionMode", "not heeded", "traffic is redirected in Pods, not on nodes"),
    Effect(
        "traffic.enableEgress",
        "live",
        "Destinations that the mesh does not know are reached as they are; otherwise refused.",
    ),
    Effect(
        "traffic.enablePermissiveTrafficPolicyMode",
        "live",
        "Everything in the mesh may talk to everything; TrafficTargets are not asked.",
    ),
    Effect(
        "traffic.outboundIPRangeExclusionList",
        "live",
        "Destinations that pass the sidecar by, as CIDR. Pods that run already carry them past in"
        " the sidecar; what is taken off the list counts for them after a restart. Annotation"
        " `flomesh.io/outbound-ip-range-exclusion-list`.",
    ),
    Effect(
        "traffic.outboundIPRangeInclusionList",
        "live",
        "If set, every other destination passes the sidecar by. As above. Annotation"
        " `flomesh.io/outbound-ip-range-inclusion-list`.",
    ),
    Effect(
        "traffic.outboundPortExclusionList",
        "live",
        "Ports of destinations that pass the sidecar by. As above. Annotation"
        " `flomesh.io/outbound-port-exclusion-list`.",
    ),
    Effect(
        "traffic.inboundPortExclusionList",
        "live",
        "Ports of the Pod that pass the sidecar by: anyone may connect to them, unencrypted. As"
        " above. Annotation `flomesh.io/inbound-port-exclusion-list`.",
    ),
    Effect(
        "traffic.networkInterfaceExclusionList",
        "new pods",
        "Network interfaces of the Pod that pass the sidecar by, both ways.",
    ),
    Effect(
        "traffic.http1PerRequestLoadBalancing",
        "not heeded",
        "an endpoint is chosen for every request, which true asks for",
    ),
    Effect(
        "traffic.http2PerRequestLoadBalancing",
        "not heeded",
        "an endpoint is chosen for every request, which true asks for",
    ),
    Effect(
        "traffic.serviceAccessMode",
        "live",
        "What is a Service's host: its names (`domain`), its addresses (`ip`), or both (`mixed`).",
    ),
    Effect(
        "traffic.serviceAccessNames.mustWithServicePort", "live", "Only names with a port count."
    ),
    Effect(
        "traffic.serviceAccessNames.mustWithNamespace",
        "live",
        "From other namespaces, only names with a namespace count.",
    ),
    Effect(
        "traffic.serviceAccessNames.withTrustDomain",
        "live",
        "Also the long names that end with the cluster's domain count.",
    ),
    Effect(
        "traffic.serviceAccessNames.cloud",
        "not heeded",
        "there are no connectors to registries outside of the cluster yet",
    ),
    Effect(
        "traffic.inboundExternalAuthorization", "not heeded", "a field of a mesh with another proxy"
    ),
    Effect(
        "certificate.serviceCertValidityDuration",
        "live",
        "Lifetime of sidecars' certificates. Those that would live longer are renewed at once.",
    ),
    Effect(
        "certificate.certKeyBitSize",
        "not heeded",
        "sidecars make their own keys, which are elliptic (P-256)",
    ),
    Effect("certificate.ingressGateway", "not heeded", "there is no ingress of the mesh yet"),
    Effect("observability.fsmLogLevel", "live", "What the control plane logs."),
    Effect(
        "observability.osmLogLevel",
        "live",
        "the name of `fsmLogLevel` in an older mesh; heeded where that is not set",
    ),
    Effect("observability.enableDebugServer", "not heeded", "its pages are at port 9091"),
    Effect(
        "observability.tracing.enable",
        "live",
        "Sidecars tell a collector of each traced request (Zipkin v2).",
    ),
    Effect(
        "observability.tracing.address",
        "live",
        "Host of the collector; empty: jaeger in the mesh's namespace.",
    ),
    Effect("observability.tracing.port", "live", "Its port."),
    Effect("observability.tracing.endpoint", "live", "The path that takes spans."),
    Effect(
        "observability.tracing.sampledFraction",
        "live",
        "Share of traces that are told, where a request does not say it.",
    ),
    Effect(
        "observability.tracing.traceparent",
        "live",
        "Requests get the W3C's traceparent too, not only B3's headers.",
    ),
    Effect(
        "observability.remoteLogging.enable",
        "live",
        "Sidecars also send lines of the access log to a collector.",
    ),
    Effect(
        "observability.remoteLogging.level",
        "not heeded",
        "lines have the ids of a trace while tracing is on",
    ),
    Effect(
        "observability.remoteLogging.address",
        "live",
        "Host of that collector; without one nothing is sent.",
    ),
    Effect("observability.remoteLogging.port", "live", "Its port."),
    Effect("observability.remoteLogging.endpoint", "live", "The path that takes lines of JSON."),
    Effect(
        "observability.remoteLogging.authorization", "live", "Value of the header authorization."
    ),
    Effect("observability.remoteLogging.sampledFraction", "live", "Share of lines that are sent."),
    Effect(
        "observability.remoteLogging.secretName",
        "not heeded",
        "the header's value is in the field authorization",
    ),
    Effect("featureFlags", "live", "Switches of policies, each by its name."),
    Effect("pluginChains", "live", "The stages of the four chains, in place of the built-in ones."),
    Effect("repoServer", "not heeded", "configurations come from the control plane itself"),
    Effect("ingress", "not heeded", "there is no ingress of the mesh yet"),
    Effect("gatewayAPI", "not heeded", "there is no gateway controller yet"),
    Effect("egressGateway", "not heeded", "there is no egress gateway yet"),
    Effect("serviceLB", "not heeded", "load balancers are the cluster's business"),
    Effect("flb", "not heeded", "load balancers are the cluster's business"),
    Effect("clusterSet", "not heeded", "there is no federation of clusters yet"),
    Effect("connector", "not heeded", "there are no connectors yet"),
    Effect("image", "not heeded", "the mesh deploys nothing later"),
    Effect("misc", "not heeded", "there is no repository server"),
    Effect("warmup", "not heeded", "endpoints get their full share at once"),
)

_HARMLESS: Mapping[str, tuple[object, ...]] = {
    "sidecar.maxDataPlaneConnections": (0,),
    "sidecar.configResyncInterval": ("0s", "0"),
    "sidecar.compressConfig": (True,),
    "traffic.interceptionMode": ("PodLevel",),
    # False is what an installation of the mesh that users come from writes.
    "traffic.http1PerRequestLoadBalancing": (False, True),
    "traffic.http2PerRequestLoadBalancing": (True,),
    "certificate.certKeyBitSize": (2048,),
    "observability.enableDebugServer": (False,),
    "observability.remoteLogging.level": (2,),
    "observability.remoteLogging.secretName": ("fsm-remote-logging-secret",),
}
"""Values of fields that are not heeded which ask for nothing, apart from empty ones."""


def not_heeded(mesh: MeshConfig) -> list[Effect]:
    """Return the fields that this MeshConfig sets and nothing acts on, in order."""
    return [
        effect
        for effect in EFFECTS
        if effect.when == "not heeded" and _asks(effect.path, _at(mesh.raw, effect.path))
    ]


def counted_at_injection(mesh: MeshConfig) -> dict[str, object]:
    """Return the values that count when a Pod is made, by path."""
    sidecar, traffic = mesh.sidecar, mesh.traffic
    return {
        "sidecar.enablePrivilegedInitContainer": sidecar.enable_privileged_init_container,
        "sidecar.sidecarImage": sidecar.image,
        "sidecar.holdApplicationUntilProxyStarts": sidecar.hold_application_until_proxy_starts,
        "sidecar.resources": sidecar.resources,
        "sidecar.initResources": sidecar.init_resources,
        "traffic.networkInterfaceExclusionList": traffic.network_interface_exclusion_list,
    }


def outdated(mesh: MeshConfig, made_with: Mapping[str, str]) -> Iterator[str]:
    """Yield the fields that had another value when a Pod was made."""
    for path, value in counted_at_injection(mesh).items():
        if path in made_with and made_with[path] != digest(value):
            yield path


def _asks(path: str, value: object) -> bool:
    if value is None or value in _HARMLESS.get(path, ()):
        return False
    if isinstance(value, Mapping):
        # A section that is switched off, or empty, asks for nothing.
        switch = next((value[key] for key in ("enable", "enabled") if key in value), None)
        return bool(value) and switch is not False
    return value not in ("", False) and value != []


def _at(raw: Mapping[str, Any], path: str) -> object:
    value: object = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
