"""A small cluster to write tests in: say what runs, get the JSON that the API would give.

In: one call per workload, Service or policy. Out: ``objects()`` for ``build_snapshot``.
Invariants: every Pod gets an address of its own, Services get endpoints as Kubernetes would give
them, names are stable.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fsm.compile import build_snapshot, compile_proxy
from fsm.compile.contract import ProxyConfig
from fsm.model import Key, Snapshot
from fsm.settings import Settings

Json = dict[str, Any]
MONITORED = {"flomesh.io/monitored-by": "fsm"}


def meta(namespace: str, name: str, **more: Any) -> Json:
    return {"namespace": namespace, "name": name, "uid": f"uid-{namespace}-{name}", **more}


def port(
    number: int,
    target: int | str | None = None,
    name: str = "",
    app: str = "",
    protocol: str = "TCP",
) -> Json:
    found: Json = {"port": number, "protocol": protocol}
    if target is not None:
        found["targetPort"] = target
    if name:
        found["name"] = name
    if app:
        found["appProtocol"] = app
    return found


@dataclass
class World:
    settings: Settings = field(default_factory=Settings)
    found: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    roots: tuple[str, ...] = ("ROOT",)

    def namespace(self, name: str, *, monitored: bool = True, **annotations: str) -> World:
        labels = dict(MONITORED) if monitored else {}
        self.found["Namespace"].append(
            {"metadata": {"name": name, "labels": labels, "annotations": annotations}}
        )
        return self

    def mesh(self, *, permissive: bool = False, egress: bool = True, **more: Any) -> World:
        traffic = {
            "enablePermissiveTrafficPolicyMode": permissive,
            "enableEgress": egress,
            "serviceAccessMode": more.pop("mode", "domain"),
            **more.pop("traffic", {}),
        }
        self.found["MeshConfig"] = [
            {
                "apiVersion": "config.flomesh.io/v1alpha3",
                "kind": "MeshConfig",
                "metadata": meta("fsm-system", "fsm-mesh-config"),
                "spec": {"traffic": traffic, **more},
            }
        ]
        return self

    def pod(
        self,
        namespace: str,
        name: str,
        *,
        account: str = "",
        labels: Json | None = None,
        sidecar: bool = True,
        ready: bool = True,
        ports: list[Json] | None = None,
        annotations: Json | None = None,
        hostname: str = "",
    ) -> Key:
        """Add a Pod with the next free address."""
        number = len(self.found["Pod"]) + 1
        found = {"app": name, **(labels or {})}
        if sidecar:
            found["fsm-proxy-uuid"] = f"uuid-{name}"
        self.found["Pod"].append(
            {
                "metadata": meta(namespace, name, labels=found, annotations=annotations or {}),
                "spec": {
                    "serviceAccountName": account or name,
                    "hostname": hostname,
                    "containers": [{"name": "app", "ports": ports or []}],
                },
                "status": {
                    "phase": "Running",
                    "podIP": f"10.244.{number // 250}.{number % 250 + 1}",
                    "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                },
            }
        )
        return Key(namespace, name)

    def service(
        self,
        namespace: str,
        name: str,
        *ports: Json,
        selector: Json | None = None,
        headless: bool = False,
        annotations: Json | None = None,
    ) -> Key:
        number = len(self.found["Service"]) + 1
        self.found["Service"].append(
            {
                "metadata": meta(namespace, name, annotations=annotations or {}),
                "spec": {
                    "clusterIP": "None"
                    if headless
                    else f"10.96.{number // 250}.{number % 250 + 1}",
                    "ports": list(ports) or [port(14001)],
                    "selector": {"app": name} if selector is None else selector,
                },
            }
        )
        return Key(namespace, name)

    def workload(self, namespace: str, name: str, *ports: Json, **pod: Any) -> World:
        """Add a Pod, its ServiceAccount and its Service, all of one name."""
        self.pod(namespace, name, **pod)
        self.service(namespace, name, *ports)
        return self

    def policy(self, kind: str, api: str, namespace: str, name: str, spec: Json) -> World:
        self.found[kind].append(
            {"apiVersion": api, "kind": kind, "metadata": meta(namespace, name), "spec": spec}
        )
        return self

    def group(self, namespace: str, name: str, *matches: Json) -> World:
        return self.policy(
            "HTTPRouteGroup",
            "specs.smi-spec.io/v1alpha4",
            namespace,
            name,
            {"matches": list(matches)},
        )

    def tcp_route(self, namespace: str, name: str, *ports: int) -> World:
        spec = {"matches": {"ports": list(ports)}} if ports else {}
        return self.policy("TCPRoute", "specs.smi-spec.io/v1alpha4", namespace, name, spec)

    def udp_route(self, namespace: str, name: str, *ports: int) -> World:
        spec = {"matches": {"ports": list(ports)}} if ports else {}
        return self.policy("UDPRoute", "specs.smi-spec.io/v1alpha4", namespace, name, spec)

    def target(
        self,
        name: str,
        destination: tuple[str, str],
        sources: list[tuple[str, str]],
        *rules: tuple[str, ...],
        namespace: str = "",
        number: int | None = None,
    ) -> World:
        """Add a TrafficTarget; a rule is ``(kind, name, match, …)``."""
        spec = {
            "destination": _account(destination) | ({"port": number} if number else {}),
            "sources": [_account(source) for source in sources],
            "rules": [
                {"kind": rule[0], "name": rule[1], "matches": list(rule[2:])} for rule in rules
            ],
        }
        return self.policy(
            "TrafficTarget",
            "access.smi-spec.io/v1alpha3",
            namespace or destination[0],
            name,
            spec,
        )

    def split(
        self, namespace: str, name: str, apex: str, weights: dict[str, int], *groups: str
    ) -> World:
        spec: Json = {
            "service": apex,
            "backends": [{"service": s, "weight": w} for s, w in weights.items()],
        }
        if groups:
            spec["matches"] = [{"kind": "HTTPRouteGroup", "name": g} for g in groups]
        return self.policy("TrafficSplit", "split.smi-spec.io/v1alpha4", namespace, name, spec)

    def plugin(self, name: str, script: str = "pipy().pipeline().chain()", **spec: Any) -> World:
        api = "plugin.flomesh.io/v1alpha1"
        self.found["Plugin"].append(
            {
                "apiVersion": api,
                "kind": "Plugin",
                "metadata": {"name": name, "uid": f"uid-{name}"},
                "spec": {"pipyscript": script, "priority": 115, **spec},
            }
        )
        return self

    def plugin_chain(
        self, namespace: str, name: str, chain: str, *plugins: str, **selectors: Json
    ) -> World:
        spec = {"chains": [{"name": chain, "plugins": list(plugins)}], "selectors": selectors}
        return self.policy("PluginChain", "plugin.flomesh.io/v1alpha1", namespace, name, spec)

    def plugin_config(
        self, namespace: str, name: str, plugin: str, config: Json, *destinations: Json
    ) -> World:
        spec = {"plugin": plugin, "config": config, "destinationRefs": list(destinations)}
        return self.policy("PluginConfig", "plugin.flomesh.io/v1alpha1", namespace, name, spec)

    def objects(self) -> dict[str, list[Json]]:
        return {**self.found, "EndpointSlice": [*self.found["EndpointSlice"], *self._slices()]}

    def snapshot(self) -> Snapshot:
        snapshot, problems = build_snapshot(self.objects(), self.settings, trust_roots=self.roots)
        assert problems == [], [str(problem) for problem in problems]
        return snapshot

    def compile(self, namespace: str, name: str) -> ProxyConfig:
        snapshot = self.snapshot()
        return compile_proxy(snapshot, snapshot.pods[Key(namespace, name)], self.settings)

    def compile_all(self) -> dict[Key, ProxyConfig]:
        snapshot = self.snapshot()
        return {
            key: compile_proxy(snapshot, pod, self.settings)
            for key, pod in snapshot.pods.items()
            if snapshot.pod_in_mesh(pod)
        }

    def ip(self, namespace: str, name: str) -> str:
        for pod in self.found["Pod"]:
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, name):
                return str(pod["status"]["podIP"])
        raise KeyError((namespace, name))

    def cluster_ip(self, namespace: str, name: str) -> str:
        for service in self.found["Service"]:
            if (service["metadata"]["namespace"], service["metadata"]["name"]) == (namespace, name):
                return str(service["spec"]["clusterIP"])
        raise KeyError((namespace, name))

    def _slices(self) -> list[Json]:
        slices = []
        for service in self.found["Service"]:
            namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
            by_ports: dict[tuple[tuple[str, int, str], ...], list[Json]] = defaultdict(list)
            for pod in self.found["Pod"]:
                if pod["metadata"]["namespace"] == namespace and _selects(service, pod):
                    ports = tuple(
                        (p.get("name", ""), _number(p, pod), p["protocol"])
                        for p in service["spec"]["ports"]
                    )
                    by_ports[ports].append(_endpoint(pod))
            for index, (ports, endpoints) in enumerate(sorted(by_ports.items())):
                labels = {"kubernetes.io/service-name": name}
                slices.append(
                    {
                        "metadata": meta(namespace, f"{name}-{index}", labels=labels),
                        "addressType": "IPv4",
                        "ports": [
                            {"name": n, "port": number, "protocol": protocol}
                            for n, number, protocol in ports
                        ],
                        "endpoints": endpoints,
                    }
                )
        return slices


def _selects(service: Json, pod: Json) -> bool:
    selector = service["spec"]["selector"]
    labels = pod["metadata"]["labels"]
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def _number(service_port: Json, pod: Json) -> int:
    target = service_port.get("targetPort", service_port["port"])
    if isinstance(target, int):
        return target
    for declared in pod["spec"]["containers"][0]["ports"]:
        if declared.get("name") == target:
            return int(declared["containerPort"])
    return int(service_port["port"])


def _endpoint(pod: Json) -> Json:
    ready = pod["status"]["conditions"][0]["status"] == "True"
    found = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready},
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }
    if pod["spec"]["hostname"]:
        found["hostname"] = pod["spec"]["hostname"]
    return found


def _account(account: tuple[str, str]) -> Json:
    return {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}


def bookstore(world: World | None = None) -> World:
    """Return the bookstore: who is there, and no policy."""
    world = world or World()
    for name in ("bookbuyer", "bookthief", "bookstore", "bookwarehouse"):
        world.namespace(name)
    world.mesh()
    world.workload("bookbuyer", "bookbuyer")
    world.workload("bookthief", "bookthief")
    world.workload("bookwarehouse", "bookwarehouse")
    for version in ("bookstore-v1", "bookstore-v2"):
        world.workload("bookstore", version, labels={"shop": "bookstore"})
    world.service("bookstore", "bookstore", selector={"app": "bookstore-v1"})
    return world


def bookstore_access(world: World, *sources: str) -> World:
    """Let some into the bookstore, as its document does."""
    world.group(
        "bookstore",
        "bookstore-service-routes",
        {
            "name": "books-bought",
            "pathRegex": "/books-bought",
            "methods": ["GET"],
            "headers": [{"client-app": "bookbuyer"}],
        },
        {"name": "buy-a-book", "pathRegex": ".*a-book.*new", "methods": ["GET"]},
    )
    for version in ("bookstore-v1", "bookstore-v2"):
        world.target(
            version,
            ("bookstore", version),
            [(source, source) for source in sources],
            ("HTTPRouteGroup", "bookstore-service-routes", "buy-a-book", "books-bought"),
        )
    return world
