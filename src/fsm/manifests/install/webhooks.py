"""The two webhook configurations: injection, and validation of the mesh's kinds.

What comes in: the settings of a mesh. What goes out: two objects, without ``caBundle`` (the
controller fills it in, and fills it in again when somebody applies these anew).

Invariants: only namespaces of the mesh are touched, so that a dead control plane stops nothing
else; the control plane's own namespace is left out, so that it can always start; failure means
"no", because an uninjected Pod would be a hole in the mesh (except for MeshConfig, see there).
A selector cannot say "this label or that one", so each label of membership, the current and the old
one, has a webhook of its own.
Source: fsm-interfaces section 4.1.
"""

from __future__ import annotations

from typing import Any

from fsm.manifests.install.workload import APP, labels
from fsm.model.names import IGNORE_LABELS, MONITORED_BY_LABELS
from fsm.policies import POLICIES
from fsm.settings import Settings

JsonObject = dict[str, Any]

TIMEOUT_S = 20


def webhook_objects(settings: Settings) -> list[JsonObject]:
    """Render both configurations."""
    mesh, prefix = settings.mesh_name, "admissionregistration.k8s.io/v1"
    return [
        {
            "apiVersion": prefix,
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": f"fsm-webhook-{mesh}", "labels": labels(settings, APP)},
            "webhooks": [
                _webhook(settings, name, "/mutate-pod-creation", _in_mesh(settings, label))
                | {"reinvocationPolicy": "IfNeeded", "rules": [_rule("", "pods", ["CREATE"])]}
                for name, label in zip(
                    ("fsm-inject.k8s.io", "osm-inject.k8s.io"), MONITORED_BY_LABELS, strict=True
                )
            ],
        },
        {
            "apiVersion": prefix,
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": f"fsm-validator-mesh-{mesh}", "labels": labels(settings, APP)},
            "webhooks": [
                *(
                    _webhook(settings, name, "/validate", _in_mesh(settings, label))
                    | {"rules": _policy_rules()}
                    for name, label in zip(
                        ("fsm-validator.k8s.io", "osm-validator.k8s.io"),
                        MONITORED_BY_LABELS,
                        strict=True,
                    )
                ),
                # Kinds that are in no namespace: no selector leaves any of their objects out.
                _webhook(settings, "fsm-cluster-validator.k8s.io", "/validate", {})
                | {"rules": _cluster_rules()},
                _webhook(settings, "fsm-config-validator.k8s.io", "/validate", _own(settings))
                # WHY Ignore: the controller makes MeshConfig before it is ready to be asked, and
                # whoever mends a broken mesh must be able to. A wrong MeshConfig that gets past
                # is not used; the last right one stays in force.
                | {
                    "rules": _config_rules(),
                    "failurePolicy": "Ignore",
                    "timeoutSeconds": 5,
                },
            ],
        },
    ]


def _config_rules() -> list[JsonObject]:
    return [
        _rule(group, policy.plural, ["CREATE", "UPDATE"])
        for policy in POLICIES
        if policy.group.startswith("config.")
        for group in policy.groups
    ]


def _policy_rules() -> list[JsonObject]:
    writes = ["CREATE", "UPDATE"]
    return [
        _rule(group, policy.plural, writes)
        for policy in POLICIES
        if not policy.group.startswith("config.") and policy.namespaced
        for group in policy.groups
    ]


def _cluster_rules() -> list[JsonObject]:
    return [
        _rule(group, policy.plural, ["CREATE", "UPDATE"], "Cluster")
        for policy in POLICIES
        if not policy.namespaced
        for group in policy.groups
    ]


def _webhook(settings: Settings, name: str, path: str, selector: JsonObject) -> JsonObject:
    return {
        "name": name,
        "clientConfig": {
            "service": {
                "namespace": settings.fsm_namespace,
                "name": APP,
                "path": path,
                "port": settings.ports.webhook,
            }
        },
        "namespaceSelector": selector,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": TIMEOUT_S,
    }


def _rule(
    group: str, resource: str, operations: list[str], scope: str = "Namespaced"
) -> JsonObject:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"] if not group else ["*"],
        "operations": operations,
        "resources": [resource],
        "scope": scope,
    }


def _in_mesh(settings: Settings, label: str) -> JsonObject:
    return {
        "matchLabels": {label: settings.mesh_name},
        "matchExpressions": [
            *({"key": key, "operator": "NotIn", "values": ["true"]} for key in IGNORE_LABELS),
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": [settings.fsm_namespace],
            },
        ],
    }


def _own(settings: Settings) -> JsonObject:
    return {"matchLabels": {"kubernetes.io/metadata.name": settings.fsm_namespace}}
