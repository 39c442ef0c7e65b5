"""Labels and annotations that the mesh reads, and the small types that name things.

Invariants: no behaviour beyond naming. Old names (``openservicemesh.io``) are read beside the
current ones and never written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MONITORED_BY_LABELS = ("flomesh.io/monitored-by", "openservicemesh.io/monitored-by")
IGNORE_LABELS = ("flomesh.io/ignore", "openservicemesh.io/ignore")
INJECTION_ANNOTATIONS = ("flomesh.io/sidecar-injection", "openservicemesh.io/sidecar-injection")
PROXY_UUID_LABEL = "fsm-proxy-uuid"
SERVICE_EXCLUSION_ANNOTATION = "flomesh.io/service-exclusion"
SERVICE_EXCLUSION_LIST_ANNOTATION = "flomesh.io/service-exclusion-list"
ACCESS_LOG_ANNOTATION = "flomesh.io/access-log"
GRACEFUL_EXIT_ANNOTATION = "flomesh.io/graceful-exit-until-downstream-ends"
INJECTED_WITH_ANNOTATION = "flomesh.io/injected-with"
ORIGINAL_PROBES_ANNOTATION = "flomesh.io/original-probes"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
POD_TEMPLATE_HASH_LABEL = "pod-template-hash"


class Key(NamedTuple):
    """Name of a namespaced object within its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceAccount:
    """The identity that a workload runs as."""

    namespace: str
    name: str

    def spiffe(self, trust_domain: str) -> str:
        """Return the identity as a URI.

        Source: SPIFFE-ID section 2; the path layout is the one that Kubernetes meshes share.
        """
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def origin(kind: str, namespace: str, name: str, part: str = "") -> str:
    """Return the name of an object as rules carry it: ``Kind/namespace/name[#part]``."""
    return f"{kind}/{namespace}/{name}#{part}" if part else f"{kind}/{namespace}/{name}"


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """What all objects that carry policies have in common; the class is named like the kind."""

    namespace: str
    name: str
    generation: int = field(default=0, kw_only=True)
    """Version of the spec that was read, for ``observedGeneration``."""

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin(type(self).__name__, self.namespace, self.name)
