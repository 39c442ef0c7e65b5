"""A local, current copy of all objects of one kind.

What comes in: list and watch of one resource. What goes out: ``store``, the ``synced`` event, and
one call per change to each subscriber.

    list ──► watch ──(ends, connection lost)──► watch from the last version seen
      ▲        └────(410 Gone)──► list again, reporting only the differences
      └──(any other failure)── wait, jittered and growing ──┘

Invariants: a change is reported once, after the store has it; an event that is not newer than what
the store has of the same object (same uid) is ignored; a failing subscriber is logged and stops
neither the others nor the informer; ``store`` values are never changed in place.
A kind that the server does not know (404) counts as synced and empty and is asked for again
quietly, because its CustomResourceDefinition may come later.
Not done here: deciding anything. An event says "look", the store says "what".
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from fsm.kube.client import KubeClient, WatchEvent
from fsm.kube.errors import ApiError, Gone, NotFound
from fsm.kube.resources import Resource
from fsm.kube.session import KubeObject

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]
Key = tuple[str, str]
Callback = Callable[[ChangeType, KubeObject | None, KubeObject | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from ``first_s`` to ``last_s`` seconds, each spread by ± half.

    The spread keeps a thousand clients of a restarted server from coming back at once.
    """

    first_s: float = 0.2
    last_s: float = 30.0

    def wait_s(self, failures: int, spread: float) -> float:
        """Return the wait after the given number of failures in a row (``spread`` in 0..1)."""
        # LIMIT 2**16: keeps the power small; last_s has long been reached by then.
        grown = self.first_s * 2.0 ** min(max(failures - 1, 0), 16)
        return min(self.last_s, grown) * (0.5 + spread)


class Source(Protocol):
    """What an informer is to those who read it; objects of other makes may stand in for one."""

    synced: asyncio.Event

    @property
    def store(self) -> Mapping[Key, KubeObject]:
        """The objects as they are now, by namespace and name."""

    def get(self, namespace: str, name: str) -> KubeObject | None:
        """Look up one object."""

    def subscribe(self, callback: Callback) -> None:
        """Call ``callback(type, old, new)`` on each change from now on; it must not block."""

    async def run(self) -> None:
        """Keep the copy current until cancelled."""


class Informer:
    """Keeps ``store`` equal to what the server has; start ``run()`` in a TaskGroup."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.resource = resource
        self.store: dict[Key, KubeObject] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._backoff = backoff or Backoff()
        self._callbacks: list[Callback] = []
        self._version = ""
        self._failures = 0

    def subscribe(self, callback: Callback) -> None:
        """Call ``callback(type, old, new)`` on each change from now on; it must not block."""
        self._callbacks.append(callback)

    def get(self, namespace: str, name: str) -> KubeObject | None:
        """Look up one object; the namespace of a cluster-scoped one is the empty string."""
        return self.store.get((namespace, name))

    async def run(self) -> None:
        """Follow the server until cancelled; never returns and never raises an ``ApiError``."""
        while True:
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
            except Gone:
                self._version = ""
            except NotFound:
                self._unknown_kind()
                await self._wait()
            except ApiError as error:
                logger.warning(
                    "lost the watch",
                    extra={"resource": self.resource.plural, "error": str(error)},
                )
                await self._wait()

    async def _relist(self) -> None:
        listed = await self._client.list(
            self.resource, self._namespace, labels=self._labels, fields=self._fields
        )
        fresh = {_key(item): item for item in listed.items}
        for key in [key for key in self.store if key not in fresh]:
            self._report("DELETED", self.store.pop(key), None)
        for key, new in fresh.items():
            old = self.store.get(key)
            if old is None or _uid(old) != _uid(new):
                self._put(key, old, new)
            elif _version(old) != _version(new):
                self.store[key] = new
                self._report("MODIFIED", old, new)
        self._version = listed.resource_version
        self.synced.set()

    async def _follow(self) -> None:
        seen = False
        watch = self._client.watch(
            self.resource, self._namespace, self._version, self._labels, self._fields
        )
        async with contextlib.aclosing(watch) as events:
            async for event in events:
                seen = True
                self._failures = 0
                self._apply(event)
        if not seen:
            # A server that accepts and at once drops watches must not be asked in a tight loop.
            await self._wait()

    def _apply(self, event: WatchEvent) -> None:
        new = event.object
        if version := _version(new):
            self._version = version
        if event.type == "BOOKMARK":
            return
        key = _key(new)
        old = self.store.get(key)
        if event.type == "DELETED":
            if old is not None and not (_uid(old) == _uid(new) and _older(new, old)):
                del self.store[key]
                self._report("DELETED", old, None)
        elif old is None or _uid(old) != _uid(new):
            self._put(key, old, new)
        elif _older(old, new):
            self.store[key] = new
            self._report("MODIFIED", old, new)

    def _put(self, key: Key, old: KubeObject | None, new: KubeObject) -> None:
        """Store an object that is new, or that took the place of a deleted one of its name."""
        if old is not None:
            del self.store[key]
            self._report("DELETED", old, None)
        self.store[key] = new
        self._report("ADDED", None, new)

    def _report(self, kind: ChangeType, old: KubeObject | None, new: KubeObject | None) -> None:
        for callback in self._callbacks:
            try:
                callback(kind, old, new)
            except Exception:
                logger.exception("a subscriber failed", extra={"resource": self.resource.plural})

    def _unknown_kind(self) -> None:
        self._version = ""
        for key in list(self.store):
            self._report("DELETED", self.store.pop(key), None)
        self.synced.set()

    async def _wait(self) -> None:
        self._failures += 1
        await asyncio.sleep(self._backoff.wait_s(self._failures, random.random()))


def _key(obj: KubeObject) -> Key:
    meta = obj["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def _uid(obj: KubeObject) -> str:
    return str(obj["metadata"].get("uid", ""))


def _version(obj: KubeObject) -> str:
    return str((obj.get("metadata") or {}).get("resourceVersion", ""))


def _older(first: KubeObject, second: KubeObject) -> bool:
    """Tell whether ``first`` is an older state than ``second`` of the same object.

    Versions are opaque by contract, yet every server counts up; where one does not, any
    difference counts as newer.
    """
    a, b = _version(first), _version(second)
    return int(a) < int(b) if a.isdigit() and b.isdigit() else a != b
