"""What the controller may do in a cluster: ServiceAccount, roles, bindings.

What comes in: the settings of a mesh. What goes out: RBAC objects.

Invariants: cluster-wide writes are limited to statuses of the mesh's kinds, the ConfigMap with the
public roots, our two webhook configurations by name, and Secrets. What concerns Secrets outside of
the mesh's own namespace, which AccessCert needs, is a role of its own: a mesh that
has no such policies can do without its binding, and their statuses say so then.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from typing import Any

from fsm.manifests.install.workload import APP, labels
from fsm.policies import POLICIES
from fsm.settings import Settings

JsonObject = dict[str, Any]

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_GROUPS = list(dict.fromkeys(group for policy in POLICIES for group in policy.groups))
"""Of the mesh's own kinds."""


def access_objects(settings: Settings) -> list[JsonObject]:
    """Render the objects."""
    cluster_role = f"{APP}-{settings.mesh_name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _meta(settings, APP),
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": cluster_role, "labels": labels(settings)},
            "rules": _cluster_rules(settings),
        },
        _binding(settings, "ClusterRoleBinding", cluster_role),
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"{cluster_role}-secrets", "labels": labels(settings)},
            # Labels cannot be told here; the control plane writes and deletes what it has made.
            "rules": [_rule([""], ["secrets"], [*_READ, "create", "patch", "delete"])],
        },
        _binding(settings, "ClusterRoleBinding", f"{cluster_role}-secrets"),
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": _meta(settings, APP),
            "rules": _own_rules(),
        },
        _binding(settings, "RoleBinding", APP),
    ]


def _cluster_rules(settings: Settings) -> list[JsonObject]:
    core = ["namespaces", "pods", "services", "serviceaccounts", "endpoints"]
    webhooks = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
    mesh = settings.mesh_name
    names = [f"fsm-webhook-{mesh}", f"fsm-validator-mesh-{mesh}"]
    return [
        _rule([""], core, _READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        _rule(_GROUPS, ["*"], _READ),
        _rule(_GROUPS, ["*/status"], ["patch", "update"]),
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        # "create" cannot be limited to a name; see the RBAC page, "Referring to resources".
        _rule([""], ["configmaps"], [*_READ, "create"]),
        _rule([""], ["configmaps"], ["patch"], ["fsm-ca-bundle"]),
        _rule(["admissionregistration.k8s.io"], webhooks, _READ),
        _rule(["admissionregistration.k8s.io"], webhooks, ["patch"], names),
    ]


def _own_rules() -> list[JsonObject]:
    return [
        _rule([""], ["secrets"], ["create"]),
        # Roots that MeshRootCertificates name.
        _rule([""], ["secrets"], ["get"]),
        # Lists and watches by name, which a rule with a name allows.
        _rule([""], ["secrets"], [*_READ, "patch"], ["fsm-ca-bundle"]),
        _rule(["config.flomesh.io"], ["meshconfigs"], ["create"]),
        # Which replica writes, and what the others tell it.
        _rule(["coordination.k8s.io"], ["leases"], ["create"]),
        _rule(["coordination.k8s.io"], ["leases"], ["get", "patch"], [APP]),
        _rule([""], ["configmaps"], ["patch"]),
    ]


def _rule(
    groups: list[str], resources: list[str], verbs: list[str], names: list[str] | None = None
) -> JsonObject:
    rule: JsonObject = {"apiGroups": groups, "resources": resources, "verbs": verbs}
    return {**rule, "resourceNames": names} if names else rule


def _binding(settings: Settings, kind: str, name: str) -> JsonObject:
    meta: JsonObject = {"name": name, "labels": labels(settings)}
    if kind == "RoleBinding":
        meta["namespace"] = settings.fsm_namespace
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": meta,
        "roleRef": {"apiGroup": _RBAC, "kind": kind.removesuffix("Binding"), "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": APP, "namespace": settings.fsm_namespace}],
    }


def _meta(settings: Settings, name: str) -> JsonObject:
    return {"name": name, "namespace": settings.fsm_namespace, "labels": labels(settings)}
