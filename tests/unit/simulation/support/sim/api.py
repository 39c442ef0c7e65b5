"""A Kubernetes API in memory, behind a bad network and on a disk that is full at times.

In: writes of users (``put``, ``remove``), calls of a controller. Out: answers, late or wrong.
Invariants: the objects themselves are always right and their versions count up; within one watch
events come in their order (as etcd gives them), between kinds in any; ``calm`` ends all mischief.

What goes wrong: latency; answers 500, 503, 504 and 507; writes that succeed and are answered with
an error; lists that are old when they arrive; watches that end, are cut, repeat events, skip to a
bookmark, or have fallen behind what is kept (410).
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple

from fsm.controllers.world import CLUSTER_KINDS, POLICY_KINDS
from fsm.kube import NotFound, ObjectList, Resource, Unavailable, WatchEvent
from fsm.kube.errors import ApiError, Gone

Json = dict[str, Any]
Change = Literal["ADDED", "MODIFIED", "DELETED"]
RESOURCES = {found.kind: found for found in (*CLUSTER_KINDS, *POLICY_KINDS)}


class Event(NamedTuple):
    version: int
    type: Change
    obj: Json


class SimApi:
    """The part of ``KubeClient`` that the loops under test use."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.calm = False
        self.disk_full = False
        self.version = 1
        self.objects: dict[str, dict[tuple[str, str], Json]] = {kind: {} for kind in RESOURCES}
        self.log: dict[str, list[Event]] = {kind: [] for kind in RESOURCES}
        self.kept_from: dict[str, int] = dict.fromkeys(RESOURCES, 0)
        self.news = asyncio.Event()
        self.status_writes = 0

    # What users and other controllers do.

    def put(self, kind: str, obj: Json) -> None:
        """Create an object, or replace what is not its status."""
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self.objects[kind].get(key)
        if old is not None and old["metadata"]["uid"] != meta.setdefault("uid", str(key)):
            self.remove(kind, key)
            old = None
        meta.setdefault("uid", str(key))
        if old is None:
            meta["generation"] = 1
            self._write("ADDED", kind, key, obj)
            return
        if kind not in ("Pod", "Namespace"):
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = old["status"]
        same = obj.get("spec") == old.get("spec")
        meta["generation"] = old["metadata"]["generation"] + (0 if same else 1)
        self._write("MODIFIED", kind, key, obj)

    def remove(self, kind: str, key: tuple[str, str]) -> None:
        """Delete an object."""
        if key in self.objects[kind]:
            self._write("DELETED", kind, key, copy.deepcopy(self.objects[kind][key]))

    def compact(self) -> None:
        """Forget the history of everything: watches that are behind are told 410."""
        for kind, log in self.log.items():
            log.clear()
            self.kept_from[kind] = self.version
        self._tell()

    def _write(self, change: Change, kind: str, key: tuple[str, str], obj: Json) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if change == "DELETED":
            del self.objects[kind][key]
        else:
            self.objects[kind][key] = obj
        self.log[kind].append(Event(self.version, change, obj))
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    # What a controller asks.

    async def _network(self, action: str) -> None:
        await asyncio.sleep(0.001 if self.calm else self.dice.expovariate(20))
        if self.calm or self.dice.random() > 0.1:
            return
        code = self.dice.choice((500, 503, 504, 0))
        kind = ApiError if code == 500 else Unavailable
        raise kind(code, "Failure", f"cannot {action}: the dice said {code}")

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        found = [
            copy.deepcopy(obj)
            for (where, _), obj in self.objects[res.kind].items()
            if namespace in (None, where)
        ]
        version = str(self.version)
        await self._network(f"list {res.plural}")
        return ObjectList(found, version)

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        resource_version: str = "",
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._network(f"watch {res.plural}")
        seen = int(resource_version)
        while True:
            if seen < self.kept_from[res.kind]:
                raise Gone(410, "Expired", "too old resource version")
            pending = [event for event in self.log[res.kind] if event.version > seen]
            news = self.news
            for event in pending:
                await asyncio.sleep(0 if self.calm else self.dice.expovariate(100))
                seen = event.version
                if namespace in (None, event.obj["metadata"].get("namespace", "")):
                    told = WatchEvent(event.type, copy.deepcopy(event.obj))
                    yield told
                    if not self.calm and self.dice.random() < 0.05:
                        yield told
            if not self.calm and pending and self.dice.random() < 0.1:
                if self.dice.random() < 0.5:
                    return
                raise Unavailable(0, "Unavailable", "the connection was reset")
            if not self.calm and self.dice.random() < 0.1:
                # All that came before has been told; a bookmark says up to where.
                if not any(event.version > seen for event in self.log[res.kind]):
                    seen = max(seen, self.version)
                    meta = {"resourceVersion": str(seen)}
                    yield WatchEvent("BOOKMARK", {"kind": res.kind, "metadata": meta})
            if not any(event.version > seen for event in self.log[res.kind]):
                try:
                    async with asyncio.timeout(300):
                        await news.wait()
                except TimeoutError:
                    return

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> Json:
        await self._network(f"get {res.kind} {name}")
        found = self.objects[res.kind].get((namespace or "", name))
        if found is None:
            raise NotFound(404, "NotFound", f"no {res.kind} {name}")
        return copy.deepcopy(found)

    async def patch_status(
        self, res: Resource, name: str, status: Json, namespace: str | None = None
    ) -> Json:
        await self._network(f"write the status of {name}")
        key = (namespace or "", name)
        found = self.objects[res.kind].get(key)
        if found is None:
            raise NotFound(404, "NotFound", f"no {res.kind} {name}")
        if self.disk_full and not self.calm:
            raise ApiError(507, "InsufficientStorage", "the disk is full")
        self._write("MODIFIED", res.kind, key, {**copy.deepcopy(found), "status": status})
        self.status_writes += 1
        await self._network(f"write the status of {name} and tell")
        return copy.deepcopy(self.objects[res.kind].get(key) or {})
