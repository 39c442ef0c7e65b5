"""Which ports of the host belong to which Service, decided from the Services alone. Pure.

    LoadBalancer ─► its ports, by their own numbers ┐ the same number twice in one protocol: the
    NodePort     ─► its node ports                  ┘ older Service has it, the other is told so

What comes in: Service objects. What goes out: ``Plan``: claims by port, and what each Service that
wants a port and cannot have it is to be told.

Invariants: the same Services give the same plan, in whatever order they come; a Service that is
there keeps its port from those that come later; what is neither TCP nor UDP is told as unsupported.
Not done here: listening (``host_ports``).
Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

KubeObject = dict[str, Any]
Name = tuple[str, str]
#: Protocol and number.
HostPort = tuple[str, int]

#: Reasons, as they stand in ``status.loadBalancer.ingress[].ports[].error`` and in events.
PORT_TAKEN = "PortTaken"
UNSUPPORTED = "UnsupportedProtocol"
PROTOCOLS = ("TCP", "UDP")


@dataclass(frozen=True, slots=True)
class Claim:
    """One port of the host, and where what arrives there goes.

    Attributes:
        service: namespace and name.
        host_port: the port on the host.
        port: the Service's own port that it stands for.
        address: ClusterIP of the Service.
        protocol: ``TCP`` or ``UDP``.

    """

    service: Name
    host_port: int
    port: int
    address: str
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A port that a Service wants and does not get; ``reason`` is one word, ``message`` says."""

    service: Name
    host_port: int
    reason: str
    message: str
    protocol: str = "TCP"


@dataclass(slots=True)
class Plan:
    """What is to be listened on, and who goes without."""

    claims: dict[HostPort, Claim] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def plan(services: Iterable[KubeObject]) -> Plan:
    """Give each port to the oldest Service that wants it."""
    made = Plan()
    for service in sorted(services, key=_age):
        for host_port, entry in _wanted(service):
            _give(made, service, host_port, entry)
    return made


def balanced(service: KubeObject) -> bool:
    """Tell whether a Service is one that gets an address here."""
    spec = service.get("spec") or {}
    # One with a class waits for an implementation of that name, which is not this one.
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def name_of(service: KubeObject) -> Name:
    """Return namespace and name."""
    return (service["metadata"].get("namespace", ""), service["metadata"]["name"])


def _age(service: KubeObject) -> tuple[str, Name]:
    return (str(service["metadata"].get("creationTimestamp") or ""), name_of(service))


def _wanted(service: KubeObject) -> list[tuple[int, KubeObject]]:
    spec = service.get("spec") or {}
    if spec.get("type") not in ("NodePort", "LoadBalancer") or not _cluster_ip(service):
        return []
    if service["metadata"].get("deletionTimestamp"):
        return []
    ports = [entry for entry in spec.get("ports") or [] if isinstance(entry.get("port"), int)]
    wanted = [(entry["port"], entry) for entry in ports if balanced(service)]
    return wanted + [(entry["nodePort"], entry) for entry in ports if entry.get("nodePort")]


def _cluster_ip(service: KubeObject) -> str:
    address = str((service.get("spec") or {}).get("clusterIP") or "")
    return "" if address == "None" else address


def _give(made: Plan, service: KubeObject, host_port: int, entry: KubeObject) -> None:
    name = name_of(service)
    protocol = str(entry.get("protocol") or "TCP")
    if protocol not in PROTOCOLS:
        text = f"port {host_port}/{protocol} is not relayed from the host: TCP and UDP are"
        made.refusals.append(Refusal(name, host_port, UNSUPPORTED, text, protocol))
        return
    claim = Claim(name, host_port, entry["port"], _cluster_ip(service), protocol)
    holder = made.claims.setdefault((protocol, host_port), claim)
    if holder.service != name:
        other = "/".join(holder.service)
        text = f"port {host_port}/{protocol} of the host is held by Service {other}, which is older"
        made.refusals.append(Refusal(name, host_port, PORT_TAKEN, text, protocol))
