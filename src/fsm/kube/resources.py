"""The kinds of Kubernetes objects that the mesh reads and writes, and their URLs.

What comes in: a group, version and plural name. What goes out: the REST path of a collection,
of one object, or of a subresource of it.

Invariants: a ``Resource`` is a value (hashable, comparable), so it serves as a key; every path
segment is percent-encoded, so no name can escape its place in the URL.
Not done here: any request (``client``), any schema (``fsm.policies``).
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object in one version of its group; the core group is the empty string."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of its objects: ``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """Build the URL path of a collection, an object, or a subresource.

        Args:
            namespace: ``None`` means the collection across all namespaces, or a cluster-scoped
                kind; a namespace given for a cluster-scoped kind is ignored.
            name: ``None`` means the collection.
            subresource: such as ``status``; needs a name.

        Raises:
            ValueError: an object of a namespaced kind was asked for without its namespace, or a
                subresource without a name.
        """
        if name == "":
            raise ValueError(f"the name of a {self.kind} must not be empty")
        if name is not None and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        if subresource is not None and name is None:
            raise ValueError(f"subresource {subresource!r} of {self.kind} needs a name")
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=":"))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def describe(self, namespace: str | None = None, name: str | None = None) -> str:
        """Name an object or a collection for people: ``Pod shop/web-1``, ``Pods in shop``."""
        if name is not None:
            where = f"{namespace}/" if namespace and self.namespaced else ""
            return f"{self.kind} {where}{name}"
        return f"{self.plural} in {namespace}" if namespace and self.namespaced else self.plural


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
PERSISTENTVOLUMECLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
EVENTS = Resource("", "v1", "events", "Event")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
CONTROLLERREVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
MUTATINGWEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATINGWEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
TOKENREVIEWS = Resource(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False
)

TRAFFICTARGETS = Resource("access.smi-spec.io", "v1alpha3", "traffictargets", "TrafficTarget")
HTTPROUTEGROUPS = Resource("specs.smi-spec.io", "v1alpha4", "httproutegroups", "HTTPRouteGroup")
TCPROUTES = Resource("specs.smi-spec.io", "v1alpha4", "tcproutes", "TCPRoute")
TRAFFICSPLITS = Resource("split.smi-spec.io", "v1alpha4", "trafficsplits", "TrafficSplit")
MESHCONFIGS = Resource("config.flomesh.io", "v1alpha3", "meshconfigs", "MeshConfig")
