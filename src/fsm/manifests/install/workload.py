"""The controller itself: its Deployment and its Service.

What comes in: the settings of a mesh. What goes out: two objects.

Invariants: one replica, replaced in one go, because two controllers would each know only half of
the proxies (leader election comes with the clustered control plane); its Pods are never injected,
because their namespace is in no mesh.
"""

from __future__ import annotations

from typing import Any

from fsm import __version__
from fsm.settings import Settings

APP = "fsm-controller"
# The mark with which pipy tells its own packets apart where it shares its user id.
STANDALONE_MARK = 0xF5
REGISTRY = "flomesh"

JsonObject = dict[str, Any]


def labels(settings: Settings, app: str | None = None) -> dict[str, str]:
    """Return the labels of an object of the control plane."""
    found = {
        "app.kubernetes.io/name": "flomesh.io",
        "app.kubernetes.io/instance": settings.mesh_name,
        "app.kubernetes.io/version": __version__,
    }
    return {"app": app, **found} if app else found


def workload_objects(settings: Settings, *, standalone: bool) -> list[JsonObject]:
    """Render Service and Deployment; ``standalone`` as in ``install_manifests``."""
    return [_service(settings), _deployment(settings, standalone=standalone)]


def _service(settings: Settings) -> JsonObject:
    ports = settings.ports
    named = {"delivery": ports.delivery, "webhook": ports.webhook, "healthz": ports.health}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": APP,
            "namespace": settings.fsm_namespace,
            "labels": labels(settings, APP),
        },
        "spec": {
            "selector": {"app": APP, "app.kubernetes.io/instance": settings.mesh_name},
            "ports": [
                {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
                for name, port in named.items()
            ],
        },
    }


def _deployment(settings: Settings, *, standalone: bool) -> JsonObject:
    selector = {"app": APP, "app.kubernetes.io/instance": settings.mesh_name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": APP,
            "namespace": settings.fsm_namespace,
            "labels": labels(settings, APP),
        },
        "spec": {
            "replicas": 1,
            # Replicas agree on who writes, so that the next may start before the last has ended.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": labels(settings, APP)},
                "spec": {
                    "serviceAccountName": APP,
                    "containers": [_container(settings, standalone=standalone)],
                },
            },
        },
    }


def _container(settings: Settings, *, standalone: bool) -> JsonObject:
    ports = settings.ports
    values = {
        "FSM_MESH_NAME": settings.mesh_name,
        "FSM_TRUST_DOMAIN": settings.trust_domain,
        "FSM_LOG_LEVEL": settings.log_level,
        "FSM_SIDECAR_MARK": f"{STANDALONE_MARK:#x}" if standalone else "",
    }
    of_pod = {
        "FSM_NAMESPACE": "metadata.namespace",
        "FSM_POD_NAME": "metadata.name",
        "FSM_POD_UID": "metadata.uid",
    }
    security: JsonObject = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if not standalone:
        security |= {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532}
    return {
        "name": APP,
        "image": f"{REGISTRY}/fsm-controller:{__version__}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["fsm", "controller"],
        "env": [
            *(
                {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                for name, path in of_pod.items()
            ),
            *({"name": name, "value": value} for name, value in values.items()),
        ],
        "ports": [
            {"name": "delivery", "containerPort": ports.delivery},
            {"name": "webhook", "containerPort": ports.webhook},
            {"name": "healthz", "containerPort": ports.health},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/health/ready", "port": ports.health},
            "periodSeconds": 1 if standalone else 5,
            "timeoutSeconds": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/health/alive", "port": ports.health},
            "initialDelaySeconds": 10,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": security,
    }
