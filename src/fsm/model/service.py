"""Services, their ports, and the endpoints behind them.

In: what ``fsm.model.kube`` parsed. Out: facts, and the protocol of a port. Invariant: frozen; which
Pod stands behind an endpoint is worked out in ``fsm.model.snapshot``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fsm.model.names import SERVICE_EXCLUSION_ANNOTATION, Key
from fsm.model.workload import Pod


class Protocol(StrEnum):
    """What is spoken on a port, in the contract's words."""

    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"
    TCP_SERVER_FIRST = "tcp-server-first"
    TLS = "tls"
    """TLS that the application itself speaks; the mesh carries it unopened."""
    AUTO = "auto"
    """Not known; the proxy finds it out, connection by connection."""
    UDP = "udp"
    """Datagrams, carried as they are."""

    @property
    def is_http(self) -> bool:
        """Whether requests, hosts and routes exist in it."""
        return self in (Protocol.HTTP, Protocol.GRPC)

    @property
    def has_hosts(self) -> bool:
        """Whether hosts and routes may stand beside it."""
        return self.is_http or self is Protocol.AUTO


_BY_APP_PROTOCOL = {
    "http": Protocol.HTTP,
    "grpc": Protocol.GRPC,
    "tcp": Protocol.TCP,
    "tcp-server-first": Protocol.TCP_SERVER_FIRST,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    # What an application of gRPC and any other of HTTP/2 have in common: it is asked in HTTP/2.
    "h2c": Protocol.GRPC,
    "kubernetes.io/h2c": Protocol.GRPC,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TLS,
}

# WHY: the longest prefix first; "tcp-server-first-x" also starts with "tcp-".
_BY_PORT_NAME = (
    ("tcp-server-first", Protocol.TCP_SERVER_FIRST),
    ("https", Protocol.TLS),
    ("http", Protocol.HTTP),
    ("grpc", Protocol.GRPC),
    ("tcp", Protocol.TCP),
    ("tls", Protocol.TLS),
)


def port_key(name: str, protocol: str) -> str:
    """Return the key of a port: its name, with ``/udp`` behind that of a UDP port."""
    return f"{name}/udp" if protocol == "UDP" else name


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service."""

    port: int
    name: str = ""
    target_port: int | str = 0
    """Number, or name of a container's port; 0 means the same as ``port``."""
    protocol: str = "TCP"
    app_protocol: str = ""

    @property
    def is_udp(self) -> bool:
        """Whether it takes datagrams."""
        return self.protocol == "UDP"

    @property
    def key(self) -> str:
        """What endpoints know it by: its name, which one of TCP and one of UDP may share."""
        return port_key(self.name, self.protocol)

    @property
    def stated_protocol(self) -> Protocol | None:
        """What its appProtocol, or the prefix of its name, says; None when they say nothing.

        An appProtocol that the mesh does not know means bytes: whoever wrote it said that it is not
        HTTP, and looking for a protocol would keep waiting whose server speaks first.
        Source: fsm-interfaces section 2.1; Kubernetes API, ServicePort.appProtocol.
        """
        if self.is_udp:
            return Protocol.UDP
        if self.app_protocol:
            return _BY_APP_PROTOCOL.get(self.app_protocol.lower(), Protocol.TCP)
        for prefix, protocol in _BY_PORT_NAME:
            if self.name == prefix or self.name.startswith(prefix + "-"):
                return protocol
        return None

    @property
    def mesh_protocol(self) -> Protocol:
        """What the mesh takes it for: what it states, or HTTP."""
        return self.stated_protocol or Protocol.HTTP


@dataclass(frozen=True, slots=True)
class Service:
    """A Service."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...] = ()
    """Empty for a headless Service."""
    ports: tuple[ServicePort, ...] = ()
    """Those of TCP."""
    udp_ports: tuple[ServicePort, ...] = ()
    """Those of UDP, which some meshes do not carry."""
    selector: Mapping[str, str] = field(default_factory=dict)
    headless: bool = False
    type: str = "ClusterIP"
    external_name: str = ""
    """Where a Service of type ExternalName points."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def hidden(self) -> bool:
        """Whether it asks to stay out of the mesh."""
        return self.annotations.get(SERVICE_EXCLUSION_ANNOTATION, "").lower() == "true"

    def selects(self, pod: Pod) -> bool:
        """Tell whether the selector chooses the Pod; an empty selector chooses none."""
        return (
            bool(self.selector)
            and pod.namespace == self.namespace
            and all(pod.labels.get(label) == value for label, value in self.selector.items())
        )


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One entry of an EndpointSlice."""

    addresses: tuple[str, ...]
    ready: bool = True
    hostname: str = ""
    pod: Key | None = None
    """The Pod that its targetRef names."""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Part of the endpoints of one Service."""

    namespace: str
    name: str
    service: str
    """Name of the Service; empty when the slice belongs to none."""
    address_type: str = "IPv4"
    ports: tuple[tuple[str, int], ...] = ()
    """Key (``port_key``) and number of each port of TCP and UDP."""
    endpoints: tuple[SliceEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready address behind a Service, with the Pod that has it."""

    address: str
    ports: Mapping[str, int]
    """Number by the key of the Service's port (``port_key``)."""
    hostname: str = ""
    pod: Pod | None = None
    """None for an address that no Pod of the cluster has."""
