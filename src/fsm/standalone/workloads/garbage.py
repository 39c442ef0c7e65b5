"""Garbage: objects all of whose owners are gone.

What comes in: the informers' objects and, every ``_SWEEP_S`` seconds, all others. What goes out:
deletions.

Invariants: nothing is deleted on the word of our own view: each owner is asked for by name first,
and is gone only if it is not found or has another uid; the deletion names the object's uid.
Not done here: foreground deletion (owners go first here, their dependents right after), orphaning
(the API server takes the references off itself).
Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from fsm.kube import ApiError, KubeClient, NotFound
from fsm.kube.resources import Resource
from fsm.standalone.workloads.cluster import KINDS, Cluster, is_going
from fsm.standalone.workloads.kinds import deletable_kinds

KubeObject = dict[str, Any]
logger = logging.getLogger(__name__)

_SWEEP_S = 30.0
#: LIMIT: owners asked for at once.
_PARALLEL = 16


class Garbage:
    """Removes dependents of owners that are gone; run ``run()`` in a TaskGroup."""

    name = "garbage"

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._look = asyncio.Event()
        self._gone: set[str] = set()
        for res in KINDS:
            cluster.subscribe(res, self._note)

    async def run(self) -> None:
        """Collect until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._soon())
            group.create_task(self._sweep())

    def _note(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if new is None and old is not None:
            self._gone.add(old["metadata"]["uid"])
            self._look.set()
        elif new is not None and any(uid in self._gone for uid in _owners(new)):
            self._look.set()

    async def _soon(self) -> None:
        """React to owners of the kinds that we watch."""
        while True:
            await self._look.wait()
            self._look.clear()
            gone = set(self._gone)
            again = False
            for res in KINDS:
                orphans = [o for o in self._cluster.all(res) if gone & set(_owners(o))]
                again |= not await self._collect(res, orphans)
            if again:
                asyncio.get_running_loop().call_later(1.0, self._look.set)
            else:
                self._gone -= gone

    async def _sweep(self) -> None:
        """Look through every kind, for owners and dependents that we do not watch."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            client = self._cluster.client
            try:
                kinds = await deletable_kinds(client, namespaced=True)
                kinds += await deletable_kinds(client, namespaced=False)
                for res in kinds:
                    owned = [o for o in (await client.list(res)).items if _owners(o)]
                    await self._collect(res, owned)
            except ApiError as error:
                logger.warning("cannot sweep", extra={"why": str(error)})

    async def _collect(self, res: Resource, candidates: list[KubeObject]) -> bool:
        """Delete those of the candidates that have no owner left; returns whether all went well."""
        limit = asyncio.Semaphore(_PARALLEL)

        async def one(obj: KubeObject) -> bool:
            if is_going(obj):
                return True
            async with limit:
                try:
                    if not await owners_gone(self._cluster.client, obj):
                        return True
                    await self._cluster.delete(res, obj)
                except ApiError as error:
                    name = obj["metadata"]["name"]
                    logger.warning("cannot collect", extra={"object": name, "why": str(error)})
                    return False
                return True

        return all(await asyncio.gather(*map(one, candidates)))


async def owners_gone(client: KubeClient, obj: KubeObject) -> bool:
    """Tell whether none of an object's owners exists any more.

    Raises:
        ApiError: an owner could not be asked for.
    """
    meta = obj["metadata"]
    for reference in meta.get("ownerReferences") or []:
        res = await _resource_of(client, reference, bool(meta.get("namespace")))
        if res is None:
            # Its kind is unknown: no CRD (any more), so there can be no such object.
            continue
        with contextlib.suppress(NotFound):
            owner = await client.get(res, reference["name"], meta.get("namespace"))
            if owner["metadata"]["uid"] == reference["uid"]:
                return False
    return bool(meta.get("ownerReferences"))


async def _resource_of(
    client: KubeClient, reference: KubeObject, in_namespace: bool
) -> Resource | None:
    version, kind = str(reference.get("apiVersion", "")), reference.get("kind")
    for known in KINDS:
        if known.api_version == version and known.kind == kind:
            return known
    path = f"/apis/{version}" if "/" in version else f"/api/{version}"
    try:
        document = await client.request("GET", path, f"list the kinds of {version}")
    except NotFound:
        return None
    group, _, number = version.rpartition("/")
    for entry in document.get("resources") or []:
        if entry.get("kind") == kind and "/" not in entry["name"]:
            namespaced = bool(entry.get("namespaced"))
            if namespaced and not in_namespace:
                # A cluster-scoped object cannot be owned by one of a namespace.
                return None
            return Resource(group, number, entry["name"], str(kind), namespaced)
    return None


def _owners(obj: KubeObject) -> list[str]:
    return [str(r.get("uid")) for r in obj["metadata"].get("ownerReferences") or []]
