"""Namespaces that are being deleted: empty them of every kind, then let them go.

    Terminating ─► delete all objects of all kinds ─► wait until none is left ─► finalize

What comes in: Namespaces with a deletion time. What goes out: deletions, the condition that says
what is still there, and the ``finalize`` call.

Invariants: Pods get their grace period; what owners would recreate cannot come back, because the
API refuses new objects in such a namespace; a kind that cannot be asked holds the namespace back.
Source: https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from fsm.kube import Conflict, NotFound
from fsm.kube.resources import NAMESPACES
from fsm.standalone.workloads.cluster import Cluster, condition, is_going, key_of, keys_of
from fsm.standalone.workloads.controller import Controller, Key, Retry
from fsm.standalone.workloads.kinds import deletable_kinds
from fsm.standalone.workloads.pods import now_text

KubeObject = dict[str, Any]
_LOOK_AGAIN_S = 0.2


class Namespaces(Controller):
    """Finishes deleted Namespaces."""

    name = "namespaces"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        cluster.subscribe(NAMESPACES, lambda old, new: self.look(key_of(new or old or {})))

    def keys(self) -> Iterable[Key]:
        """List all Namespaces."""
        return keys_of(self._cluster.all(NAMESPACES))

    async def reconcile(self, key: Key) -> None:
        """Delete what is in the namespace; when nothing is left, finalize it."""
        namespace = self._cluster.get(NAMESPACES, *key)
        if namespace is None or not is_going(namespace):
            return
        name = namespace["metadata"]["name"]
        left = await self._empty(name)
        if left:
            await self._tell(namespace, left)
            raise Retry(_LOOK_AGAIN_S)
        with contextlib.suppress(NotFound):
            fresh = await self._cluster.client.get(NAMESPACES, name)
            fresh["spec"] = {**(fresh.get("spec") or {}), "finalizers": []}
            await self._cluster.client.replace(NAMESPACES, fresh, subresource="finalize")

    async def _empty(self, name: str) -> dict[str, int]:
        """Delete everything in a namespace; returns how many of which kind are still there."""
        client = self._cluster.client
        left: dict[str, int] = {}
        for res in await deletable_kinds(client, namespaced=True):
            try:
                items = (await client.list(res, name)).items
            except NotFound:
                # Its CRD went away between the two questions.
                continue
            for item in items:
                left[res.plural] = left.get(res.plural, 0) + 1
                if is_going(item):
                    continue
                meta = item["metadata"]
                with contextlib.suppress(NotFound, Conflict):
                    await client.delete(
                        res, meta["name"], name, uid=meta["uid"], propagation="Background"
                    )
        return left

    async def _tell(self, namespace: KubeObject, left: dict[str, int]) -> None:
        what = ", ".join(f"{kind} ({count})" for kind, count in sorted(left.items()))
        text = f"Some content in the namespace is being deleted: {what}"
        before = condition(namespace, "NamespaceContentRemaining") or {}
        if before.get("message") == text:
            return
        made = {
            "type": "NamespaceContentRemaining",
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": text,
            "lastTransitionTime": before.get("lastTransitionTime") or now_text(),
        }
        name = namespace["metadata"]["name"]
        with contextlib.suppress(NotFound, Conflict):
            await self._cluster.client.patch_status(NAMESPACES, name, {"conditions": [made]})
