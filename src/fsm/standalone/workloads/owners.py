"""What controllers share whose objects own Pods: who is looked at when a Pod changes.

What comes in: objects of one kind, and Pods. What goes out: a look at the object itself, or at the
one that controls the Pod.

Invariants: a Pod that changed hands is a reason to look at both owners; objects that are going are
left alone. Not done here: what a look does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from fsm.kube.resources import PODS, Resource
from fsm.standalone.workloads.cluster import Cluster, controller_of, is_going, key_of, keys_of
from fsm.standalone.workloads.controller import Controller, Key

KubeObject = dict[str, Any]


class OwnerController(Controller):
    """Looks at objects of one kind whenever they or their Pods change."""

    #: The kind whose objects own Pods.
    owners: Resource

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        cluster.subscribe(self.owners, lambda old, new: self.look(key_of(new or old or {})))
        cluster.subscribe(PODS, self._on_pod)

    def keys(self) -> Iterable[Key]:
        """List all objects of the kind."""
        return keys_of(self._cluster.all(self.owners))

    async def reconcile(self, key: Key) -> None:
        """Look at the object, if it is there to stay."""
        owner = self._cluster.get(self.owners, *key)
        if owner is not None and not is_going(owner):
            await self._reconcile(owner)

    @abstractmethod
    async def _reconcile(self, owner: KubeObject) -> None:
        """Compare what should be with what is, for one object, and act (see ``reconcile``)."""

    def _on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        for pod in (old, new):
            owner = controller_of(pod) if pod else None
            if pod and owner and owner["kind"] == self.owners.kind:
                self.look((pod["metadata"]["namespace"], owner["name"]))
