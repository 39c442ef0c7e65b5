"""Which resources exist: the built-in table, and the custom ones that CRDs add.

What comes in: the table below and definitions from ``crds``. What goes out: the ``ApiResource``
behind a group, version and plural name, and all of them for discovery.

Invariants: a group and plural name one resource, whatever its versions; built-in resources cannot
be shadowed by a CRD; ``enforced=False`` marks kinds that are kept so that common manifests apply,
while nothing here acts on them (writes say so in a warning).
Not done here: behaviour (``lifecycle``), fields (``shapes``), tables (``tables``).
Source: `kubectl api-resources` of Kubernetes 1.32 and
https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsm.standalone.apiserver.store import GroupResource

if TYPE_CHECKING:
    from fsm.standalone.apiserver.crds import Definition

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One resource.

    Attributes:
        group: API group, empty for core.
        versions: served versions, the preferred one first.
        plural: name in URLs.
        kind: name in manifests.
        singular: name that people may type for one.
        short_names: abbreviations that people may type.
        namespaced: whether objects live in a namespace.
        categories: groups of kinds that people may type, such as ``all``.
        subresources: ``status``, ``scale`` and the special ones.
        verbs: what can be done; reviews can only be created.
        enforced: whether anything acts on the kind in the standalone world.
        definition: the CRD behind it, for custom resources.
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    singular: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    verbs: tuple[str, ...] = CRUD
    enforced: bool = True
    definition: Definition | None = field(default=None, compare=False)

    @property
    def gr(self) -> GroupResource:
        """The key under which its objects are stored."""
        return (self.group, self.plural)

    @property
    def qualified(self) -> str:
        """Its name with the group, as error messages give it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str | None = None) -> str:
        """Return the apiVersion of its objects in a version, by default the preferred one."""
        chosen = version or self.versions[0]
        return f"{self.group}/{chosen}" if self.group else chosen

    @property
    def has_status(self) -> bool:
        """Whether status is written apart from the rest."""
        return "status" in self.subresources


def _builtin(
    group: str,
    version: str,
    plural: str,
    kind: str,
    *,
    short: str = "",
    cluster: bool = False,
    all_: bool = False,
    sub: str = "",
    enforced: bool = True,
    review: bool = False,
) -> ApiResource:
    return ApiResource(
        group=group,
        versions=(version,),
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        short_names=tuple(short.split()),
        namespaced=not cluster,
        categories=("all",) if all_ else (),
        subresources=frozenset(sub.split()),
        verbs=("create",) if review else CRUD,
        enforced=enforced,
    )


_RBAC, _ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
_AUTHN, _AUTHZ, _NET = "authentication.k8s.io", "authorization.k8s.io", "networking.k8s.io"
_EXT = "apiextensions.k8s.io"

BUILTIN: tuple[ApiResource, ...] = (
    _builtin("", "v1", "namespaces", "Namespace", short="ns", cluster=True, sub="status finalize"),
    _builtin(
        "",
        "v1",
        "pods",
        "Pod",
        short="po",
        all_=True,
        sub="status log portforward proxy binding eviction exec attach",
    ),
    _builtin("", "v1", "services", "Service", short="svc", all_=True, sub="status proxy"),
    _builtin("", "v1", "secrets", "Secret"),
    _builtin("", "v1", "configmaps", "ConfigMap", short="cm"),
    _builtin("", "v1", "serviceaccounts", "ServiceAccount", short="sa", sub="token"),
    _builtin("", "v1", "endpoints", "Endpoints", short="ep"),
    _builtin("", "v1", "events", "Event", short="ev"),
    _builtin("", "v1", "nodes", "Node", short="no", cluster=True, sub="status"),
    _builtin(
        "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short="pvc", sub="status"
    ),
    _builtin(
        "apps", "v1", "deployments", "Deployment", short="deploy", all_=True, sub="status scale"
    ),
    _builtin("apps", "v1", "replicasets", "ReplicaSet", short="rs", all_=True, sub="status scale"),
    _builtin(
        "apps", "v1", "statefulsets", "StatefulSet", short="sts", all_=True, sub="status scale"
    ),
    _builtin(
        "apps", "v1", "daemonsets", "DaemonSet", short="ds", all_=True, sub="status", enforced=False
    ),
    _builtin("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _builtin("batch", "v1", "jobs", "Job", all_=True, sub="status"),
    _builtin(
        "batch", "v1", "cronjobs", "CronJob", short="cj", all_=True, sub="status", enforced=False
    ),
    _builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    _builtin("coordination.k8s.io", "v1", "leases", "Lease"),
    _builtin(
        _EXT,
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        short="crd crds",
        cluster=True,
        sub="status",
    ),
    _builtin(
        _ADMISSION,
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        cluster=True,
    ),
    _builtin(
        _ADMISSION,
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        cluster=True,
    ),
    _builtin(_RBAC, "v1", "roles", "Role"),
    _builtin(_RBAC, "v1", "rolebindings", "RoleBinding"),
    _builtin(_RBAC, "v1", "clusterroles", "ClusterRole", cluster=True),
    _builtin(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", cluster=True),
    _builtin(_NET, "v1", "ingresses", "Ingress", short="ing", sub="status", enforced=False),
    _builtin(_NET, "v1", "ingressclasses", "IngressClass", cluster=True, enforced=False),
    _builtin(_NET, "v1", "networkpolicies", "NetworkPolicy", short="netpol", enforced=False),
    _builtin(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short="pdb",
        sub="status",
        enforced=False,
    ),
    _builtin("", "v1", "resourcequotas", "ResourceQuota", short="quota", enforced=False),
    _builtin("", "v1", "limitranges", "LimitRange", short="limits", enforced=False),
    _builtin(
        "", "v1", "replicationcontrollers", "ReplicationController", short="rc", enforced=False
    ),
    _builtin(
        "", "v1", "persistentvolumes", "PersistentVolume", short="pv", cluster=True, enforced=False
    ),
    _builtin(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        short="hpa",
        enforced=False,
    ),
    _builtin(
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        short="pc",
        cluster=True,
        enforced=False,
    ),
    _builtin(
        "storage.k8s.io",
        "v1",
        "storageclasses",
        "StorageClass",
        short="sc",
        cluster=True,
        enforced=False,
    ),
    _builtin(_AUTHN, "v1", "tokenreviews", "TokenReview", cluster=True, review=True),
    _builtin(_AUTHN, "v1", "selfsubjectreviews", "SelfSubjectReview", cluster=True, review=True),
    _builtin(
        _AUTHZ,
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        cluster=True,
        review=True,
    ),
    _builtin(
        _AUTHZ,
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        cluster=True,
        review=True,
    ),
    _builtin(
        _AUTHZ, "v1", "subjectaccessreviews", "SubjectAccessReview", cluster=True, review=True
    ),
)

PODS: GroupResource = ("", "pods")
SERVICES: GroupResource = ("", "services")
NAMESPACES: GroupResource = ("", "namespaces")
SECRETS: GroupResource = ("", "secrets")
CONFIGMAPS: GroupResource = ("", "configmaps")
SERVICEACCOUNTS: GroupResource = ("", "serviceaccounts")
ENDPOINTSLICES: GroupResource = ("discovery.k8s.io", "endpointslices")
CRDS: GroupResource = (_EXT, "customresourcedefinitions")
MUTATING: GroupResource = (_ADMISSION, "mutatingwebhookconfigurations")
VALIDATING: GroupResource = (_ADMISSION, "validatingwebhookconfigurations")


class Registry:
    """The built-in resources and those of the CRDs that are in force now."""

    def __init__(self) -> None:
        self._builtin = {resource.gr: resource for resource in BUILTIN}
        self._custom: dict[GroupResource, ApiResource] = {}

    def set_custom(self, resources: Iterable[ApiResource]) -> None:
        """Replace all custom resources; one that collides with a built-in is left out."""
        self._custom = {found.gr: found for found in resources if found.gr not in self._builtin}

    def find(self, group: str, version: str, plural: str) -> ApiResource | None:
        """Return the resource that is served there, or ``None``."""
        found = self.by_gr((group, plural))
        return found if found and version in found.versions else None

    def by_gr(self, gr: GroupResource) -> ApiResource | None:
        """Return the resource whatever the version, or ``None``."""
        return self._builtin.get(gr) or self._custom.get(gr)

    def by_kind(self, group: str, kind: str) -> ApiResource | None:
        """Return the resource of a kind, or ``None``."""
        return next((r for r in self if r.group == group and r.kind == kind), None)

    def __iter__(self) -> Iterator[ApiResource]:
        yield from self._builtin.values()
        yield from self._custom.values()

    def versions(self) -> dict[str, list[str]]:
        """Return the served versions of each group, the preferred first; core first."""
        found: dict[str, list[str]] = {}
        for resource in self:
            known = found.setdefault(resource.group, [])
            known.extend(version for version in resource.versions if version not in known)
        return found
