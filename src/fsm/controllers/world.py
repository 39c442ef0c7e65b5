"""The live copy of everything that configurations are made of.

What comes in: list and watch of the cluster's kinds and ours. What goes out: the objects; batches
of changes; answers to delivery's questions about Pods and namespaces.

Invariants: a batch is closed ``coalesce_s`` after its first event, however many follow, so a storm
of events cannot hold up the change that began it; a change that cannot matter opens no batch.
Not done here: parsing (``engine``), deciding what to do (``publisher``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge

from fsm.controllers.changes import key_of, matters, name_of
from fsm.controllers.egress_secrets import EgressSecrets
from fsm.delivery import PodFacts, ProxyKey
from fsm.kube import Informer, KubeClient, KubeObject, NotFound, Resource, Source
from fsm.kube.resources import (
    ENDPOINTSLICES,
    NAMESPACES,
    PODS,
    SERVICES,
)
from fsm.model import Namespace
from fsm.model.credentials import KIND as CREDENTIALS
from fsm.policies import BY_KIND, POLICIES
from fsm.settings import Settings

CLUSTER_KINDS = (NAMESPACES, PODS, SERVICES, ENDPOINTSLICES)
POLICY_KINDS = tuple(
    Resource(policy.group, policy.versions[0], policy.plural, policy.kind, policy.namespaced)
    for policy in POLICIES
)
OLDER_KINDS = tuple(
    Resource(group, policy.versions[0], policy.plural, policy.kind)
    for policy in POLICIES
    for group in policy.groups[1:]
)
"""The same kinds under the groups of the older generation; of namesakes the newer one counts."""
_OF_THE_MESH = ("MeshConfig", "MeshRootCertificate")
"""Kinds that count in the mesh's own namespace only."""
# LIMIT: names kept of one batch; more is a storm, of which the count is enough.
NAMES_MAX = 20


class Touched(NamedTuple):
    """An object of which there was news.

    Attributes:
        kind: its kind.
        namespace: its namespace, empty outside of namespaces.
        name: its name.
        obj: the object; None: it is not there any more.
    """

    kind: str
    namespace: str
    name: str
    obj: KubeObject | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are handled together.

    Attributes:
        started: arrival of the first, monotonic seconds.
        objects: names of what changed, in order of arrival, without repetition, shortened.
        touched: every object of which there was news since the last batch, as it is now, once.
        gone: proxies whose Pods have been deleted, or have ended.
        ours: objects of ours that changed, all of them, with their generation; None: deleted.
    """

    started: float
    objects: tuple[str, ...]
    touched: tuple[Touched, ...] = ()
    gone: tuple[ProxyKey, ...] = ()
    ours: Mapping[str, int | None] = field(default_factory=dict)


class World:
    """Informers of all kinds; implements ``fsm.delivery.World``."""

    def __init__(self, client: KubeClient, settings: Settings, metrics: CollectorRegistry) -> None:
        self._client = client
        self._settings = settings
        self.informers: dict[str, Source] = {
            resource.kind: Informer(
                client, resource, settings.fsm_namespace if resource.kind in _OF_THE_MESH else None
            )
            for resource in (*CLUSTER_KINDS, *POLICY_KINDS)
        }
        self._older: dict[str, Source] = {
            resource.kind: Informer(
                client, resource, settings.fsm_namespace if resource.kind in _OF_THE_MESH else None
            )
            for resource in OLDER_KINDS
        }
        # A kind of ours that nobody writes: what Secrets hold that Egresses name.
        secrets = EgressSecrets(client, settings, lambda: self._all("Egress"))
        for egresses in (self.informers["Egress"], self._older["Egress"]):
            egresses.subscribe(secrets.poke)
        self.informers[CREDENTIALS] = secrets
        self._first: float | None = None
        self._names: dict[str, None] = {}
        self._more = 0
        self._touched: dict[tuple[str, str, str], None] = {}
        self._gone: dict[ProxyKey, None] = {}
        self._changed: set[str] = set()
        self._told: list[Callable[[str, str, str], None]] = []
        self._arrived = asyncio.Event()
        self._events = Counter(
            "fsm_k8s_api_event_count",
            "Events of the Kubernetes API.",
            ["type", "kind"],
            registry=metrics,
        )
        self._monitored = Gauge(
            "fsm_resource_namespace_count", "Namespaces in the mesh.", registry=metrics
        )
        for kind, informer in (*self.informers.items(), *self._older.items()):
            informer.subscribe(self._note(kind))

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what keeps the copy current; each runs until cancelled."""
        return [informer.run() for informer in (*self.informers.values(), *self._older.values())]

    async def synced(self) -> None:
        """Wait until every kind has been listed once."""
        for informer in (*self.informers.values(), *self._older.values()):
            await informer.synced.wait()

    def unsynced(self) -> list[str]:
        """Name the kinds that have not been listed yet."""
        every = (*self.informers.items(), *self._older.items())
        return list(dict.fromkeys(kind for kind, found in every if not found.synced.is_set()))

    def subscribe(self, resource: Resource, callback: Callable[..., None]) -> None:
        """Call back on every change of one kind, whether it matters or not."""
        self.informers[resource.kind].subscribe(callback)

    def subscribe_to_ours(self, callback: Callable[[str, str, str], None]) -> None:
        """Call back with kind, namespace and name on every change of any kind of ours."""
        self._told.append(callback)

    def objects(self) -> dict[str, list[KubeObject]]:
        """All objects by kind, in the order of their names."""
        return {kind: self._all(kind) for kind in self.informers}

    def ours(self) -> dict[str, int | None]:
        """All objects of ours by name, with their generation."""
        return {
            key_of(kind, obj): _generation(obj)
            for kind in self.informers
            if kind in BY_KIND
            for obj in self._all(kind)
        }

    def _all(self, kind: str) -> list[KubeObject]:
        older = self._older.get(kind)
        store = {**(older.store if older else {}), **self.informers[kind].store}
        return [store[key] for key in sorted(store)]

    def find(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Look an object of a watched kind up, under whichever group it is."""
        found = self.informers[kind].get(namespace, name)
        if found is None and kind in self._older:
            return self._older[kind].get(namespace, name)
        return found

    def object(self, resource: Resource, namespace: str, name: str) -> KubeObject | None:
        """Look one up; the namespace of cluster-scoped objects is empty."""
        return self.find(resource.kind, namespace, name)

    def served_as(self, resource: Resource, namespace: str, name: str) -> Resource:
        """Return the resource under which an object of a kind is, which may be an older group's."""
        older = self._older.get(resource.kind)
        if older is None or self.informers[resource.kind].get(namespace, name) is not None:
            return resource
        return next(known for known in OLDER_KINDS if known.kind == resource.kind)

    async def next_batch(self, coalesce_s: float) -> Batch:
        """Wait for a change that matters, and a moment more for what comes with it."""
        await self._arrived.wait()
        assert self._first is not None
        await asyncio.sleep(max(0.0, self._first + coalesce_s - time.monotonic()))
        names = list(self._names)
        if self._more:
            names.append(f"… and {self._more} more")
        touched = tuple(self._news())
        ours = {
            name: _generation(news.obj)
            for news in touched
            if (name := f"{news.kind}/{news.namespace}/{news.name}") in self._changed
        }
        batch = Batch(self._first, tuple(names), touched, tuple(self._left()), ours)
        self._first, self._names, self._more = None, {}, 0
        self._touched, self._gone = {}, {}
        self._changed.clear()
        self._arrived.clear()
        return batch

    def nudge(self, name: str) -> None:
        """Have a batch though no object that is watched here changed, but ``name`` did."""
        if self._first is None:
            self._first = time.monotonic()
        self._names[name] = None
        self._arrived.set()

    def _news(self) -> Iterator[Touched]:
        for kind, namespace, name in self._touched:
            yield Touched(kind, namespace, name, self.find(kind, namespace, name))

    def _left(self) -> Iterator[ProxyKey]:
        for key in self._gone:
            found = self.informers["Pod"].get(key.namespace, key.pod)
            # A new list may tell of a Pod as deleted and made, though it is the same.
            if found is None or _facts(found).key != key or _ended(found):
                yield key

    # What delivery asks.

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """Look a Pod up among those that we know of."""
        found = self.informers["Pod"].get(namespace, name)
        return _facts(found) if found is not None else None

    async def fetch_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Ask the API for a Pod that we may not have heard of yet."""
        try:
            return _facts(await self._client.get(PODS, name, namespace))
        except NotFound:
            return None

    def monitored(self, namespace: str) -> bool:
        """Whether the namespace is in the mesh."""
        found = self.informers["Namespace"].get("", namespace)
        return found is not None and _namespace(found).monitored_by(self._settings.mesh_name)

    def monitored_namespaces(self) -> list[str]:
        """List the namespaces of the mesh, in order."""
        return sorted(name for _, name in self.informers["Namespace"].store if self.monitored(name))

    def leaving(self, namespace: str) -> bool:
        """Whether the namespace is being deleted."""
        found = self.informers["Namespace"].get("", namespace)
        return found is None or bool(found["metadata"].get("deletionTimestamp"))

    async def namespace(self, name: str) -> KubeObject:
        """Return a Namespace object, from the API if we have not heard of it yet.

        Raises:
            ApiError: it does not exist, or the API cannot be asked.
        """
        found = self.informers["Namespace"].get("", name)
        return found if found is not None else await self._client.get(NAMESPACES, name)

    def _note(self, kind: str) -> Callable[..., None]:
        def changed(change: str, old: KubeObject | None, new: KubeObject | None) -> None:
            self._events.labels(change, kind).inc()
            if kind == "Namespace":
                self._monitored.set(len(self.monitored_namespaces()))
            # Also what does not matter now: it comes along with the next thing that does, so that
            # the snapshot never holds on to an object that is no more.
            meta = (new or old or {})["metadata"]
            named = kind, meta.get("namespace", ""), meta["name"]
            self._touched[named] = None
            if kind in BY_KIND:
                for told in self._told:
                    told(*named)
            if kind == "Pod" and old is not None and (new is None or _ended(new)):
                # Nobody applies anything beside a Job that is done.
                self._gone[_facts(old).key] = None
            if not matters(kind, old, new):
                return
            if self._first is None:
                self._first = time.monotonic()
            name = name_of(kind, new or old or {})
            if kind in BY_KIND:
                self._changed.add(key_of(kind, new or old or {}))
            if name in self._names or len(self._names) < NAMES_MAX:
                self._names[name] = None
            else:
                self._more += 1
            self._arrived.set()

        return changed


def _generation(obj: Mapping[str, Any] | None) -> int | None:
    if obj is None:
        return None
    generation = (obj.get("metadata") or {}).get("generation")
    return generation if isinstance(generation, int) else 0


def _facts(pod: Mapping[str, Any]) -> PodFacts:
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    key = ProxyKey(str(meta.get("namespace")), str(meta.get("name")), str(meta.get("uid")))
    return PodFacts(key, str(spec.get("serviceAccountName") or "default"))


def _ended(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _namespace(obj: Mapping[str, Any]) -> Namespace:
    meta = obj.get("metadata") or {}
    return Namespace(str(meta.get("name")), meta.get("labels") or {}, meta.get("annotations") or {})
