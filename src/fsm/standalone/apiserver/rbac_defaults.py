"""The ClusterRoles that every cluster has, and manifests bind: cluster-admin, admin, edit, view.

What comes in: nothing. What goes out: objects, made at the first start where they are missing; what
someone changed stays changed.

Invariant: ``view`` reads no Secret; ``edit`` writes no role; each is an aggregate, so a ClusterRole
with the label ``rbac.authorization.k8s.io/aggregate-to-view: "true"`` adds to it.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles
"""

from __future__ import annotations

from typing import Any

from fsm.standalone.apiserver.rbac import GROUP

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_CORE = [
    *("configmaps", "endpoints", "persistentvolumeclaims", "pods", "serviceaccounts", "services"),
]
_GROUPS = ["apps", "batch", "networking.k8s.io", "policy", "discovery.k8s.io"]
_SMI = ["access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io"]
_MESH = [*_SMI, "policy.flomesh.io"]
_STARTED = {"kubernetes.io/bootstrapping": "rbac-defaults"}


def cluster_roles() -> dict[str, dict[str, Any]]:
    """Write the roles, by name, without their metadata's name."""
    read = [
        _rule([""], [*_CORE, "events", "namespaces", "pods/log", "*/status"], _READ),
        _rule([*_GROUPS, *_MESH], ["*"], _READ),
    ]
    write = [
        _rule([""], [*_CORE, "secrets", "events"], _WRITE),
        _rule([""], ["secrets"], _READ),
        _rule([""], ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"], ["get"]),
        _rule([""], ["pods/exec", "pods/attach", "pods/portforward", "pods/eviction"], ["create"]),
        _rule([""], ["serviceaccounts/token"], ["create"]),
        _rule([*_GROUPS, *_MESH], ["*"], _WRITE),
    ]
    rule_roles = [_rule([GROUP], ["roles", "rolebindings"], [*_READ, *_WRITE])]
    every = [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    return {
        "cluster-admin": {"metadata": {"labels": _STARTED}, "rules": every},
        "system:aggregate-to-view": _part(read, "view", "edit", "admin"),
        "system:aggregate-to-edit": _part(write, "edit", "admin"),
        "system:aggregate-to-admin": _part(rule_roles, "admin"),
        **{name: _aggregate(name) for name in ("view", "edit", "admin")},
    }


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _part(rules: list[dict[str, Any]], *into: str) -> dict[str, Any]:
    labels = {f"{GROUP}/aggregate-to-{name}": "true" for name in into}
    return {"metadata": {"labels": _STARTED | labels}, "rules": rules}


def _aggregate(name: str) -> dict[str, Any]:
    # Kubernetes lets admin collect edit and edit collect view; here aggregates are not nested, so
    # each also collects what is meant for the lesser ones.
    lesser = {"view": ("view",), "edit": ("view", "edit"), "admin": ("view", "edit", "admin")}
    selectors = [{"matchLabels": {f"{GROUP}/aggregate-to-{n}": "true"}} for n in lesser[name]]
    return {
        "metadata": {"labels": _STARTED},
        "aggregationRule": {"clusterRoleSelectors": selectors},
        "rules": [],
    }
