"""A mesh of any size, as the objects of a Kubernetes API.

In: how many Services and Pods. Out: objects by resource, and the changes that the bench makes to
them. Invariants: the same sizes give the same mesh; each Service has a ServiceAccount of its own,
calls its ``CALLS`` neighbours and is called by as many, whatever the size, so that what one change
concerns does not grow with the mesh.

Objects have what those of a cluster have, as far as their size matters: a controller keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fsm.kube import Resource
from fsm.kube.resources import (
    ENDPOINTSLICES,
    HTTPROUTEGROUPS,
    MESHCONFIGS,
    NAMESPACES,
    PODS,
    SERVICES,
    TRAFFICSPLITS,
    TRAFFICTARGETS,
)

Json = dict[str, Any]
SERVICES_PER_NAMESPACE = 20
CALLS = 5
SPLIT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh and its size."""

    services: int
    proxies: int
    permissive: bool = False

    def namespace(self, service: int) -> str:
        """Return where a Service is."""
        return f"team-{service % self.services // SERVICES_PER_NAMESPACE}"

    def name(self, service: int) -> str:
        """Return the name of a Service and of its ServiceAccount."""
        return f"svc-{service % self.services}"

    def pods(self) -> Iterator[tuple[int, Json]]:
        """Yield every Pod with the number of its Service."""
        for number in range(self.proxies):
            yield number % self.services, self._pod(number)

    def objects(self) -> Iterator[tuple[Resource, Json]]:
        """Yield every object."""
        yield NAMESPACES, _meta("", "fsm-system")
        for namespace in sorted({self.namespace(n) for n in range(self.services)}):
            obj = _meta("", namespace)
            obj["metadata"]["labels"] = {
                "flomesh.io/monitored-by": "fsm",
                "kubernetes.io/metadata.name": namespace,
            }
            yield NAMESPACES, obj
            yield HTTPROUTEGROUPS, self.group(namespace, "/api/.*")
        yield MESHCONFIGS, self.mesh_config()
        ends: dict[int, list[Json]] = {}
        for service, pod in self.pods():
            yield PODS, pod
            ends.setdefault(service, []).append(pod)
        for service in range(self.services):
            yield SERVICES, self._service(service)
            yield ENDPOINTSLICES, self.slice(service, ends.get(service, []))
            yield TRAFFICTARGETS, self.target(service, self.callers(service))
            if service % SPLIT_EVERY == 0 and self.services > 1:
                yield TRAFFICSPLITS, self.split(service, 90)

    def callers(self, service: int) -> list[int]:
        """Return who calls a Service: the ones after it."""
        return [(service + step) % self.services for step in range(1, CALLS + 1)]

    def mesh_config(self, *, egress: bool = True) -> Json:
        """Return MeshConfig."""
        traffic = {
            "enablePermissiveTrafficPolicyMode": self.permissive,
            "enableEgress": egress,
            "serviceAccessMode": "domain",
        }
        return _meta("fsm-system", "fsm-mesh-config") | {"spec": {"traffic": traffic}}

    def group(self, namespace: str, path: str) -> Json:
        """Return the descriptions of requests that all of a namespace share."""
        matches = [
            {"name": "read", "pathRegex": path, "methods": ["GET", "HEAD"]},
            {"name": "write", "pathRegex": "/orders/.*", "methods": ["POST", "PUT"]},
        ]
        return _meta(namespace, "routes") | {"spec": {"matches": matches}}

    def target(self, service: int, callers: list[int]) -> Json:
        """Return who may call a Service."""
        return _meta(self.namespace(service), f"to-{self.name(service)}") | {
            "spec": {
                "destination": self._account(service),
                "sources": [self._account(caller) for caller in callers],
                "rules": [
                    {"kind": "HTTPRouteGroup", "name": "routes", "matches": ["read", "write"]}
                ],
            }
        }

    def split(self, service: int, weight: int) -> Json:
        """Return how the traffic of a Service is shared with the next."""
        backends = [
            {"service": self.name(service), "weight": weight},
            {"service": self.name(service + 1), "weight": 100 - weight},
        ]
        return _meta(self.namespace(service), f"split-{service}") | {
            "spec": {"service": self.name(service), "backends": backends}
        }

    def slice(self, service: int, pods: list[Json]) -> Json:
        """Return the endpoints of a Service."""
        obj = _meta(self.namespace(service), f"{self.name(service)}-abcde")
        obj["metadata"]["labels"] = {"kubernetes.io/service-name": self.name(service)}
        return obj | {
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": "node-1",
                    "targetRef": {
                        "kind": "Pod",
                        "namespace": pod["metadata"]["namespace"],
                        "name": pod["metadata"]["name"],
                        "uid": pod["metadata"]["uid"],
                    },
                }
                for pod in pods
            ],
        }

    def _account(self, service: int) -> Json:
        return {
            "kind": "ServiceAccount",
            "namespace": self.namespace(service),
            "name": self.name(service),
        }

    def _service(self, service: int) -> Json:
        obj = _meta(self.namespace(service), self.name(service))
        obj["metadata"]["labels"] = {"app": self.name(service)}
        return obj | {
            "spec": {
                "type": "ClusterIP",
                "clusterIP": f"10.96.{service // 250}.{service % 250 + 1}",
                "clusterIPs": [f"10.96.{service // 250}.{service % 250 + 1}"],
                "selector": {"app": self.name(service)},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                ],
            }
        }

    def _pod(self, number: int) -> Json:
        service = number % self.services
        name = self.name(service)
        obj = _meta(self.namespace(service), f"{name}-5d4f8c7b9d-{number:05d}")
        obj["metadata"]["labels"] = {
            "app": name,
            "pod-template-hash": "5d4f8c7b9d",
            "fsm-proxy-uuid": f"00000000-0000-4000-8000-{number:012d}",
        }
        obj["metadata"]["ownerReferences"] = [
            {"kind": "ReplicaSet", "name": f"{name}-5d4f8c7b9d", "controller": True}
        ]
        containers = [_container(name, 8080), _container("sidecar", 15003)]
        statuses = [
            {"name": c["name"], "ready": True, "restartCount": 0, "image": c["image"]}
            for c in containers
        ]
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        ]
        return obj | {
            "spec": {
                "serviceAccountName": name,
                "nodeName": "node-1",
                "containers": containers,
                "volumes": [{"name": v, "emptyDir": {}} for v in ("token", "roots", "scratch")],
            },
            "status": {
                "phase": "Running",
                "podIP": f"10.{100 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
                "conditions": conditions,
                "containerStatuses": statuses,
            },
        }


def _container(name: str, port: int) -> Json:
    return {
        "name": name,
        "image": f"registry.example/{name}:1.0",
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "volumeMounts": [{"name": v, "mountPath": f"/{v}"} for v in ("token", "roots", "scratch")],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": port}, "timeoutSeconds": 1},
    }


def _meta(namespace: str, name: str) -> Json:
    found: Json = {"name": name, "uid": f"uid-{namespace}-{name}", "generation": 1}
    if namespace:
        found["namespace"] = namespace
    return {"metadata": found}
