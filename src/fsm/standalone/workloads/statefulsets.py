"""StatefulSets: Pods with names that stay, made and ended in order.

    web-0 ready ─► web-1 ready ─► web-2      (Parallel: all at once)
    scale down from the highest ordinal; update from the highest down, each waited for

What comes in: StatefulSets and their Pods. What goes out: Pods created and deleted, status.

Invariants: at most one Pod per ordinal; with OrderedReady nothing is started while a lower ordinal
is not ready, and nothing is ended while another one is ending.
Claims made from templates keep their names and stay when the Pod, or the set, goes.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

from fsm.kube import AlreadyExists
from fsm.kube.resources import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from fsm.standalone.workloads import revisions
from fsm.standalone.workloads.cluster import is_active, is_going, is_ready
from fsm.standalone.workloads.controller import Retry
from fsm.standalone.workloads.owners import OwnerController
from fsm.standalone.workloads.pods import pod_from

KubeObject = dict[str, Any]
_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
_INDEX_LABEL = "apps.kubernetes.io/pod-index"


class StatefulSets(OwnerController):
    """Makes Pods for StatefulSets."""

    name = "statefulsets"
    owners = STATEFULSETS

    async def _reconcile(self, owner: KubeObject) -> None:
        """Make one step toward the wanted Pods; report."""
        run = {_revision(pod) for pod in self._pods(owner).values()}
        await revisions.keep(self._cluster, owner, revision_of(owner), run)
        stepped = await self._step(owner, self._pods(owner))
        await self._report(owner, self._pods(owner))
        if stepped:
            raise Retry(0.0)

    def _pods(self, owner: KubeObject) -> dict[int, KubeObject]:
        found = {}
        for pod in self._cluster.owned(PODS, owner["metadata"]["uid"]):
            text = pod["metadata"]["name"].rpartition("-")[2]
            if text.isdigit():
                found[int(text)] = pod
        return found

    async def _step(self, owner: KubeObject, pods: dict[int, KubeObject]) -> bool:
        spec = owner["spec"]
        first = int((spec.get("ordinals") or {}).get("start") or 0)
        wanted = range(first, first + int(spec.get("replicas", 1)))
        ordered = spec.get("podManagementPolicy") != "Parallel"
        stepped = False
        for ordinal in wanted:
            pod = pods.get(ordinal)
            if pod is None:
                await self._create(owner, ordinal)
                stepped = True
            elif not is_active(pod) and not is_going(pod):
                # It ended by itself; its name is free only when the object is gone.
                await self._cluster.delete(PODS, pod)
                stepped = True
            if ordered and (pod is None or not is_ready(pod) or is_going(pod)):
                return stepped
        for ordinal in sorted(pods, reverse=True):
            if ordinal not in wanted and not is_going(pods[ordinal]):
                await self._cluster.delete(PODS, pods[ordinal])
                stepped = True
            if ordinal not in wanted and ordered:
                return stepped
        return await self._update(owner, pods, wanted) or stepped

    async def _update(self, owner: KubeObject, pods: dict[int, KubeObject], wanted: range) -> bool:
        strategy = owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return False
        partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
        revision = revision_of(owner)
        for ordinal in reversed(wanted):
            pod = pods.get(ordinal)
            if pod is None or ordinal < partition:
                return False
            if _revision(pod) != revision:
                if is_going(pod):
                    return False
                await self._cluster.delete(PODS, pod)
                return True
            if not is_ready(pod):
                return False
        return False

    async def _create(self, owner: KubeObject, ordinal: int) -> None:
        meta, spec = owner["metadata"], owner["spec"]
        name = f"{meta['name']}-{ordinal}"
        pod = pod_from(STATEFULSETS, owner, spec.get("template") or {}, name)
        pod["metadata"]["labels"] |= {
            revisions.LABEL: revision_of(owner),
            _NAME_LABEL: name,
            _INDEX_LABEL: str(ordinal),
        }
        pod["spec"]["hostname"] = name
        pod["spec"]["subdomain"] = spec.get("serviceName") or ""
        await self._claims(owner, pod)
        try:
            await self._cluster.create(PODS, pod, meta["namespace"])
        except AlreadyExists:
            # The one before it, of another owner or on its way out.
            raise Retry(0.5) from None

    async def _claims(self, owner: KubeObject, pod: KubeObject) -> None:
        """Make the Pod's claims, or find those of its predecessor, and mount them."""
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or []}
        for template in owner["spec"].get("volumeClaimTemplates") or []:
            meta = template.get("metadata") or {}
            name = f"{meta['name']}-{pod['metadata']['name']}"
            labels = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
            claim = {
                "metadata": {"name": name, "labels": labels | (meta.get("labels") or {})},
                "spec": template.get("spec") or {},
            }
            with contextlib.suppress(AlreadyExists):
                client, namespace = self._cluster.client, owner["metadata"]["namespace"]
                await client.create(PERSISTENTVOLUMECLAIMS, claim, namespace)
            source = {"persistentVolumeClaim": {"claimName": name}}
            volumes[meta["name"]] = {"name": meta["name"], **source}
        if volumes:
            pod["spec"]["volumes"] = list(volumes.values())

    async def _report(self, owner: KubeObject, pods: dict[int, KubeObject]) -> None:
        revision = revision_of(owner)
        live = [pod for pod in pods.values() if is_active(pod)]
        updated = [pod for pod in live if _revision(pod) == revision]
        before = owner.get("status") or {}
        complete = len(updated) == len(live) == int(owner["spec"].get("replicas", 1))
        current = revision if complete else before.get("currentRevision") or revision
        status: KubeObject = {
            "replicas": len(live),
            "readyReplicas": sum(map(is_ready, live)),
            "availableReplicas": sum(map(is_ready, live)),
            "updatedReplicas": len(updated),
            "currentReplicas": len(updated) if complete else len(live) - len(updated),
            "currentRevision": current,
            "updateRevision": revision,
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        await self._cluster.put_status(STATEFULSETS, owner, status)


def _revision(pod: KubeObject) -> str:
    return str((pod["metadata"].get("labels") or {}).get(revisions.LABEL, ""))


def revision_of(owner: KubeObject) -> str:
    """Name the revision of a StatefulSet by its Pod template."""
    text = json.dumps(owner["spec"].get("template") or {}, sort_keys=True)
    return f"{owner['metadata']['name']}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"[-63:]
