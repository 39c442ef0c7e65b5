"""Namespaces and Pods, as far as the mesh looks at them.

In: what ``fsm.model.kube`` parsed. Out: facts and the derived names that users see. Invariant:
frozen; nothing here asks another object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fsm.model.names import (
    IGNORE_LABELS,
    MONITORED_BY_LABELS,
    PROXY_UUID_LABEL,
    SERVICE_EXCLUSION_LIST_ANNOTATION,
    Key,
    ServiceAccount,
)
from fsm.model.probes import Probe


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and whether a mesh watches it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def monitored_by(self, mesh_name: str) -> bool:
        """Tell whether the mesh of this name watches the namespace; an ignored one never is."""
        if any(self.labels.get(label) == "true" for label in IGNORE_LABELS):
            return False
        return any(self.labels.get(label) == mesh_name for label in MONITORED_BY_LABELS)

    def excluded_services(self) -> frozenset[str]:
        """Return the names of Services that the namespace hides from the mesh."""
        text = self.annotations.get(SERVICE_EXCLUSION_LIST_ANNOTATION, "")
        return frozenset(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares."""

    name: str
    number: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod: where it is, who it runs as, and what owns it."""

    namespace: str
    name: str
    uid: str
    service_account: ServiceAccount
    ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str = "Pod"
    """Kind of the owner that users know: a Deployment rather than its ReplicaSet."""
    owner_name: str = ""
    """Name of that owner; the Pod's own name when nothing owns it."""
    ready: bool = False
    terminal: bool = False
    """It has succeeded or failed: its address is free for others."""
    host_network: bool = False
    ports: tuple[ContainerPort, ...] = ()
    probes: tuple[Probe, ...] = ()
    """What its sidecar may ask the application on behalf of the kubelet."""

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def has_sidecar(self) -> bool:
        """Whether the injector put a sidecar in; it labels the Pod when it does."""
        return bool(self.labels.get(PROXY_UUID_LABEL)) and not self.host_network

    def port_number(self, name: str) -> int | None:
        """Return the number of the named TCP port, or None when no container declares it."""
        for port in self.ports:
            if port.name == name and port.protocol == "TCP":
                return port.number
        return None
