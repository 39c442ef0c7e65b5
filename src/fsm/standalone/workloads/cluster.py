"""The controllers' common view of the API: informers, who owns what, and reading one's own writes.

What comes in: list and watch of the built-in kinds. What goes out: objects by key and by owner, and
writes that return only when the view has them.

Invariants: objects from here are never changed in place; after ``create`` or ``delete`` returned,
the next look sees its effect, so no controller creates the same Pod twice because its view was old.
Not done here: decisions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from fsm.kube import Informer, KubeClient, NotFound
from fsm.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    STATEFULSETS,
    Resource,
)

KubeObject = dict[str, Any]

KINDS = (
    NAMESPACES,
    PODS,
    SERVICES,
    ENDPOINTS,
    ENDPOINTSLICES,
    REPLICASETS,
    DEPLOYMENTS,
    STATEFULSETS,
    JOBS,
    SERVICEACCOUNTS,
    SECRETS,
    CONFIGMAPS,
    CONTROLLERREVISIONS,
)
#: How long a write waits for our own view of it, seconds. Beyond that the watch is in trouble, and
#: the controller is called again by whatever comes after.
_OBSERVE_S = 5.0


class Cluster:
    """Informers for ``KINDS`` and an index by owner."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self._informers = {res.plural: Informer(client, res) for res in KINDS}
        self._owned: dict[str, dict[str, set[tuple[str, str]]]] = {}
        self._changed = asyncio.Event()
        for res in KINDS:
            self._informers[res.plural].subscribe(self._indexer(res))

    async def run(self) -> None:
        """Follow the API until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until every kind was listed once."""
        for informer in self._informers.values():
            await informer.synced.wait()

    def get(self, res: Resource, namespace: str, name: str) -> KubeObject | None:
        """Look up one object."""
        return self._informers[res.plural].get(namespace, name)

    def all(self, res: Resource, namespace: str | None = None) -> list[KubeObject]:
        """List the objects of a kind, maybe of one namespace."""
        store = self._informers[res.plural].store
        return [o for (ns, _), o in store.items() if namespace is None or ns == namespace]

    def owned(self, res: Resource, uid: str) -> list[KubeObject]:
        """List the objects of a kind whose controller is the object with this uid."""
        store = self._informers[res.plural].store
        keys = self._owned.get(res.plural, {}).get(uid, set())
        return [store[key] for key in sorted(keys) if key in store]

    def subscribe(
        self, res: Resource, look: Callable[[KubeObject | None, KubeObject | None], None]
    ) -> None:
        """Call ``look(old, new)`` on each change of a kind."""
        self._informers[res.plural].subscribe(lambda _, old, new: look(old, new))

    async def create(self, res: Resource, obj: KubeObject, namespace: str) -> KubeObject:
        """Create an object and wait until our view has it."""
        made = await self.client.create(res, obj, namespace)
        uid, name = made["metadata"]["uid"], made["metadata"]["name"]

        def seen() -> bool:
            found = self.get(res, namespace, name)
            return found is not None and found["metadata"]["uid"] == uid

        await self._observe(seen)
        return made

    async def delete(self, res: Resource, obj: KubeObject) -> None:
        """Delete exactly this object and wait until our view shows that it is going."""
        meta = obj["metadata"]
        namespace, name, uid = meta.get("namespace", ""), meta["name"], meta["uid"]
        with contextlib.suppress(NotFound):
            await self.client.delete(
                res, name, namespace or None, uid=uid, propagation="Background"
            )

        def seen() -> bool:
            found = self.get(res, namespace, name)
            if found is None or found["metadata"]["uid"] != uid:
                return True
            return bool(found["metadata"].get("deletionTimestamp"))

        await self._observe(seen)

    async def patch(self, res: Resource, obj: KubeObject, body: KubeObject) -> None:
        """Merge ``body`` into an object and wait until our view has it."""
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        made = await self.client.patch(res, name, body, namespace or None)
        version = int(made["metadata"]["resourceVersion"])

        def seen() -> bool:
            found = self.get(res, namespace, name)
            return found is None or int(found["metadata"]["resourceVersion"]) >= version

        await self._observe(seen)

    async def put_status(self, res: Resource, obj: KubeObject, status: KubeObject) -> None:
        """Report a status, if it differs from the one the object has."""
        present = obj.get("status") or {}
        if all(present.get(key) == value for key, value in status.items()):
            return
        meta = obj["metadata"]
        with contextlib.suppress(NotFound):
            await self.client.patch_status(res, meta["name"], status, meta["namespace"])

    async def _observe(self, seen: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OBSERVE_S):
                while not seen():
                    self._changed.clear()
                    await self._changed.wait()

    def _indexer(self, res: Resource) -> Callable[..., None]:
        index = self._owned.setdefault(res.plural, {})

        def note(_: str, old: KubeObject | None, new: KubeObject | None) -> None:
            for obj, present in ((old, False), (new, True)):
                owner = controller_of(obj) if obj else None
                if obj is None or owner is None:
                    continue
                key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
                keys = index.setdefault(owner["uid"], set())
                if present:
                    keys.add(key)
                else:
                    keys.discard(key)
                    if not keys:
                        del index[owner["uid"]]
            self._changed.set()

        return note


def controller_of(obj: KubeObject) -> KubeObject | None:
    """Return the owner reference of the object's controller."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def owner_reference(res: Resource, owner: KubeObject) -> KubeObject:
    """Write the reference by which ``owner`` controls an object."""
    return {
        "apiVersion": res.api_version,
        "kind": res.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_going(obj: KubeObject) -> bool:
    """Tell whether an object is being deleted."""
    return obj["metadata"].get("deletionTimestamp") is not None


def is_active(pod: KubeObject) -> bool:
    """Tell whether a Pod counts as a replica: not ended, not being deleted."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not is_going(pod)


def condition(obj: KubeObject, kind: str) -> KubeObject | None:
    """Look up a condition of an object's status."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return dict(entry)
    return None


def is_ready(pod: KubeObject) -> bool:
    """Tell whether a Pod is ready."""
    found = condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def matches(selector: KubeObject | None, labels: KubeObject | None) -> bool:
    """Tell whether a label selector (matchLabels, matchExpressions) selects the labels.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
    """
    labels = labels or {}
    if not selector:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        key, values = term.get("key"), term.get("values") or []
        good = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(term.get("operator"), False)
        if not good:
            return False
    return True


def key_of(obj: KubeObject) -> tuple[str, str]:
    """Return namespace and name."""
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def keys_of(objects: Iterable[KubeObject]) -> list[tuple[str, str]]:
    """Return namespace and name of each."""
    return [key_of(obj) for obj in objects]
