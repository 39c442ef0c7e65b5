"""ReplicaSets: as many Pods as wanted.

What comes in: ReplicaSets and the Pods they own. What goes out: Pods created and deleted, status.

Invariants: only Pods with our owner reference count (Pods of others that match are not adopted);
when there are too many, the ones that serve least go first; a webhook or API that refuses Pods is
shown in the condition ``ReplicaFailure`` and tried again.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fsm.kube import ApiError
from fsm.kube.resources import PODS, REPLICASETS
from fsm.standalone.workloads.cluster import condition, is_active, is_ready
from fsm.standalone.workloads.controller import Retry
from fsm.standalone.workloads.owners import OwnerController
from fsm.standalone.workloads.pods import available_in_s, now_text, pod_from

KubeObject = dict[str, Any]
#: LIMIT: Pods created or deleted at once; more wait for the next look.
_BURST = 20


class ReplicaSets(OwnerController):
    """Makes Pods for ReplicaSets."""

    name = "replicasets"
    owners = REPLICASETS

    async def _reconcile(self, owner: KubeObject) -> None:
        """Create or delete Pods until there are as many as wanted; report."""
        wanted = int((owner.get("spec") or {}).get("replicas", 1))
        pods = [p for p in self._cluster.owned(PODS, owner["metadata"]["uid"]) if is_active(p)]
        failure: ApiError | None = None
        try:
            if len(pods) < wanted:
                await self._create(owner, min(_BURST, wanted - len(pods)))
            elif len(pods) > wanted:
                surplus = sorted(pods, key=usefulness)[: min(_BURST, len(pods) - wanted)]
                await asyncio.gather(*(self._cluster.delete(PODS, p) for p in surplus))
        except ApiError as error:
            failure = error
        pods = [p for p in self._cluster.owned(PODS, owner["metadata"]["uid"]) if is_active(p)]
        soon_s = await self._report(owner, pods, failure)
        if failure is not None:
            raise failure
        if len(pods) != wanted:
            raise Retry(0.0)
        if soon_s is not None:
            raise Retry(soon_s)

    async def _create(self, owner: KubeObject, count: int) -> None:
        pod = pod_from(REPLICASETS, owner, owner["spec"].get("template") or {})
        namespace = owner["metadata"]["namespace"]
        # The first alone: when the API refuses it, it would refuse the others as well.
        await self._cluster.create(PODS, pod, namespace)
        rest = (self._cluster.create(PODS, pod, namespace) for _ in range(count - 1))
        results = await asyncio.gather(*rest, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _report(
        self, owner: KubeObject, pods: list[KubeObject], failure: ApiError | None
    ) -> float | None:
        """Report the status; returns when the next Pod becomes available by waiting alone."""
        spec = owner["spec"]
        min_ready_s = float(spec.get("minReadySeconds") or 0)
        waits = [available_in_s(pod, min_ready_s, time.time()) for pod in pods]
        wanted = (spec.get("template") or {}).get("metadata", {}).get("labels") or {}
        labeled = [p for p in pods if wanted.items() <= (p["metadata"].get("labels") or {}).items()]
        status: KubeObject = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(labeled),
            "readyReplicas": sum(is_ready(pod) for pod in pods),
            "availableReplicas": sum(wait == 0 for wait in waits),
            "observedGeneration": owner["metadata"].get("generation", 1),
            "conditions": _conditions(owner, failure),
        }
        await self._cluster.put_status(REPLICASETS, owner, status)
        left = [wait for wait in waits if wait]
        return min(left) if left else None


def usefulness(pod: KubeObject) -> tuple[bool, bool, bool, str]:
    """Rank Pods: the lowest is deleted first (no node, not running, not ready, youngest)."""
    running = (pod.get("status") or {}).get("phase") == "Running"
    # Inverted digits: of equal ones the youngest, whose time is the greatest, comes first.
    created = str(pod["metadata"].get("creationTimestamp", ""))
    age = "".join(chr(ord("9") - int(c)) if c.isdigit() else c for c in created)
    return (bool(pod["spec"].get("nodeName")), running, is_ready(pod), age)


def _conditions(owner: KubeObject, failure: ApiError | None) -> list[KubeObject]:
    if failure is None:
        return []
    before = condition(owner, "ReplicaFailure")
    made = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": str(failure),
        "lastTransitionTime": (before or {}).get("lastTransitionTime") or now_text(),
    }
    return [made]
