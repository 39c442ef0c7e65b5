"""EndpointSlices (and the older Endpoints) from Services and the Pods they select.

What comes in: Services and Pods. What goes out: for each Service with a selector, and each of its
address families, one slice per way that its target ports resolve (a named port may be another
number in each Pod); and one Endpoints, of the first family.

Invariants: same Services and Pods, same slices, byte for byte; a Pod without an address is not
listed; one that is going is listed as terminating, so that the last ones can still be used.
Not done here: Services without a selector (their slices are made by hand).
Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from fsm.kube import AlreadyExists
from fsm.kube.resources import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, Resource
from fsm.standalone.workloads.cluster import (
    Cluster,
    is_going,
    is_ready,
    key_of,
    keys_of,
    owner_reference,
)
from fsm.standalone.workloads.controller import Controller, Key

KubeObject = dict[str, Any]

_SERVICE_LABEL = "kubernetes.io/service-name"
_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
_MANAGER = "endpointslice-controller.k8s.io"


class Endpoints(Controller):
    """Makes EndpointSlices for Services."""

    name = "endpoints"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        cluster.subscribe(SERVICES, lambda old, new: self.look(key_of(new or old or {})))
        cluster.subscribe(PODS, self._on_pod)
        cluster.subscribe(ENDPOINTSLICES, self._on_slice)

    def keys(self) -> Iterable[Key]:
        """List all Services."""
        return keys_of(self._cluster.all(SERVICES))

    async def reconcile(self, key: Key) -> None:
        """Make the slices of one Service what they should be."""
        service = self._cluster.get(SERVICES, *key)
        if service is None or is_going(service) or not service["spec"].get("selector"):
            return
        selector = service["spec"]["selector"]
        pods = [
            pod
            for pod in self._cluster.all(PODS, key[0])
            if selector.items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        wanted = {s["metadata"]["name"]: s for s in slices_of(service, pods)}
        present = {
            name: piece
            for piece in self._cluster.all(ENDPOINTSLICES, key[0])
            if _is_ours(piece, key[1]) and (name := piece["metadata"]["name"])
        }
        for name, piece in wanted.items():
            await self._put(ENDPOINTSLICES, piece, present.get(name), ("endpoints", "ports"))
        for name, piece in present.items():
            if name not in wanted and not is_going(piece):
                await self._cluster.delete(ENDPOINTSLICES, piece)
        legacy = endpoints_of(service, pods)
        await self._put(ENDPOINTS, legacy, self._cluster.get(ENDPOINTS, *key), ("subsets",))

    async def _put(
        self, res: Resource, wanted: KubeObject, present: KubeObject | None, fields: tuple[str, ...]
    ) -> None:
        if present is None:
            try:
                await self._cluster.create(res, wanted, wanted["metadata"]["namespace"])
            except AlreadyExists:
                self.look((wanted["metadata"]["namespace"], wanted["metadata"]["name"]))
            return
        body: KubeObject = {
            f: wanted.get(f) for f in fields if (wanted.get(f) or []) != (present.get(f) or [])
        }
        labels, owners = wanted["metadata"]["labels"], wanted["metadata"]["ownerReferences"]
        meta: KubeObject = {}
        if labels.items() - (present["metadata"].get("labels") or {}).items():
            meta["labels"] = labels
        # A Service that was deleted and made anew takes over what is left of the former.
        if present["metadata"].get("ownerReferences") != owners:
            meta["ownerReferences"] = owners
        if meta:
            body["metadata"] = meta
        if body:
            await self._cluster.patch(res, present, body)

    def _on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if old and new and _shown(old) == _shown(new):
            return
        sets = [(p["metadata"].get("labels") or {}).items() for p in (old, new) if p]
        namespace = (new or old or {})["metadata"]["namespace"]
        for service in self._cluster.all(SERVICES, namespace):
            selector = service["spec"].get("selector") or {}
            if selector and any(selector.items() <= labels for labels in sets):
                self.look(key_of(service))

    def _on_slice(self, old: KubeObject | None, new: KubeObject | None) -> None:
        # Somebody deleted or changed what is ours: put it right.
        for piece in (old, new):
            labels = (piece["metadata"].get("labels") or {}) if piece else {}
            if piece and labels.get(_MANAGER_LABEL) == _MANAGER:
                self.look((piece["metadata"]["namespace"], labels.get(_SERVICE_LABEL, "")))


def slices_of(service: KubeObject, pods: list[KubeObject]) -> list[KubeObject]:
    """Build the slices of a Service; there is always at least one per family."""
    return [piece for family in _families(service) for piece in _slices_of(service, pods, family)]


def _slices_of(service: KubeObject, pods: list[KubeObject], family: str) -> list[KubeObject]:
    meta, spec = service["metadata"], service["spec"]
    groups: dict[str, tuple[list[KubeObject], list[KubeObject]]] = {}
    for pod, address in _listed(pods, family):
        ports = _ports(spec, pod)
        key = json.dumps(ports, sort_keys=True)
        groups.setdefault(key, (ports, []))[1].append(_endpoint(service, pod, address))
    if not groups:
        groups["[]"] = (_ports(spec, None), [])
    labels = {_SERVICE_LABEL: meta["name"], _MANAGER_LABEL: _MANAGER}
    if spec.get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    made = []
    for key, (ports, endpoints) in sorted(groups.items()):
        mark = hashlib.sha256(key.encode()).hexdigest()[:5] if endpoints else "none"
        if family != "IPv4":
            mark += f"-{family.lower()}"
        made.append(
            {
                "metadata": {
                    "name": f"{meta['name']}-{mark}",
                    "namespace": meta["namespace"],
                    "labels": dict(labels),
                    "ownerReferences": [owner_reference(SERVICES, service)],
                },
                "addressType": family,
                "endpoints": endpoints,
                "ports": ports,
            }
        )
    return made


def endpoints_of(service: KubeObject, pods: list[KubeObject]) -> KubeObject:
    """Build the Endpoints object of a Service."""
    meta, spec = service["metadata"], service["spec"]
    groups: dict[str, KubeObject] = {}
    for pod, ip in _listed(pods, _families(service)[0]):
        if is_going(pod):
            continue
        ports = _ports(spec, pod)
        subset = groups.setdefault(json.dumps(ports, sort_keys=True), {"ports": ports})
        ready = is_ready(pod) or bool(spec.get("publishNotReadyAddresses"))
        endpoint = _endpoint(service, pod, ip)
        address = {
            "ip": endpoint["addresses"][0],
            "nodeName": endpoint["nodeName"],
            "targetRef": endpoint["targetRef"],
        }
        if "hostname" in endpoint:
            address["hostname"] = endpoint["hostname"]
        subset.setdefault("addresses" if ready else "notReadyAddresses", []).append(address)
    return {
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "ownerReferences": [owner_reference(SERVICES, service)],
        },
        "subsets": [groups[key] for key in sorted(groups)],
    }


def _families(service: KubeObject) -> list[str]:
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def _listed(pods: list[KubeObject], family: str) -> list[tuple[KubeObject, str]]:
    chosen = [
        (pod, address)
        for pod in pods
        if (address := _address(pod, family))
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]
    return sorted(chosen, key=lambda pair: str(pair[0]["metadata"]["name"]))


def _address(pod: KubeObject, family: str) -> str:
    """Return a Pod's address of a family; "" where it has none."""
    status = pod.get("status") or {}
    listed = [str(entry.get("ip") or "") for entry in status.get("podIPs") or []]
    for ip in (str(status.get("podIP") or ""), *listed):
        if ip and (":" in ip) == (family == "IPv6"):
            return ip
    return ""


def _endpoint(service: KubeObject, pod: KubeObject, address: str) -> KubeObject:
    meta, spec = pod["metadata"], pod["spec"]
    serving, going = is_ready(pod), is_going(pod)
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    made: KubeObject = {
        "addresses": [address],
        "conditions": {
            "ready": unready_too or (serving and not going),
            "serving": serving,
            "terminating": going,
        },
        "nodeName": spec.get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        made["hostname"] = spec["hostname"]
    return made


def _ports(spec: KubeObject, pod: KubeObject | None) -> list[KubeObject]:
    """Resolve the Service's target ports in a Pod; a name that the Pod lacks is left out."""
    made = []
    for port in spec.get("ports") or []:
        target = port.get("targetPort", port.get("port"))
        number = target if isinstance(target, int) else _named_port(str(target), port, pod)
        if number is None:
            continue
        entry = {
            "name": port.get("name") or "",
            "port": number,
            "protocol": port.get("protocol") or "TCP",
        }
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        made.append(entry)
    return made


def _named_port(name: str, port: KubeObject, pod: KubeObject | None) -> int | None:
    if name.isdigit():
        return int(name)
    spec = pod["spec"] if pod else {}
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or []), *sidecars]:
        for entry in container.get("ports") or []:
            same = (entry.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            if entry.get("name") == name and same:
                return int(entry["containerPort"])
    return None


def _is_ours(piece: KubeObject, service: str) -> bool:
    labels = piece["metadata"].get("labels") or {}
    return labels.get(_SERVICE_LABEL) == service and labels.get(_MANAGER_LABEL) == _MANAGER


def _shown(pod: KubeObject) -> tuple[Any, ...]:
    """Pick what a slice shows of a Pod: other changes need no look."""
    status = pod.get("status") or {}
    labels = tuple(sorted((pod["metadata"].get("labels") or {}).items()))
    ips = tuple(str(entry.get("ip")) for entry in status.get("podIPs") or [])
    return (status.get("podIP"), ips, status.get("phase"), is_ready(pod), is_going(pod), labels)
