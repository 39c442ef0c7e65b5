"""What the replicas of a control plane know of proxies that are connected to others of them.

What comes in: this replica's registry of proxies, the phase of the root's rotation, the reports of
the others. What goes out: a ConfigMap ``fsm-replica-<pod>`` with this replica's report, which the
leader reads; answers about proxies of the others.

    replica B: what its proxies believe, show and refuse, ──► ConfigMap ──► replica A, which leads:
               which plugins fail on them                                  rotation, statuses

Invariants: only a replica that does not lead reports, and only while there is another; what proxies
believe is reported while the root is being replaced, and what became of changes while it is not
"applied by all", so that a quiet mesh writes nothing; a report counts as long as its Pod lives.
Not done here: deciding anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fsm.ca.rotation import ProxyFact
from fsm.controllers.world import World
from fsm.delivery import Change, Failing, ProxyKey, ProxyRegistry
from fsm.kube import Informer, KubeClient, NotFound
from fsm.kube.resources import CONFIGMAPS, PODS

APP = "fsm-controller"
LABEL = "flomesh.io/replica-of"
KEY = "report.json"
ENDED = ("Succeeded", "Failed")
# LIMIT: refusals of one change that are reported with their reasons.
REFUSERS_MAX = 5
# LIMIT: proxies of one failing plugin that are reported by name; of more only the number.
FAILING_MAX = 50


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What became of a change at the proxies of other replicas.

    Attributes:
        proxies: how many it changed there.
        refused: how many of these refuse it.
        pending: how many have not answered.
        refusers: some of those who refuse, with their reasons.
    """

    proxies: int = 0
    refused: int = 0
    pending: int = 0
    refusers: Mapping[str, str] = field(default_factory=dict)


class Replicas:
    """One replica among the others; ``reconcile`` writes its report."""

    def __init__(
        self,
        client: KubeClient,
        world: World,
        registry: ProxyRegistry,
        *,
        mesh_name: str,
        namespace: str,
        identity: str,
        uid: str,
        leads: Callable[[], bool],
        rotating: Callable[[], bool],
        servers: Callable[[], list[tuple[str, str]]],
        failing: Callable[[], Mapping[str, Failing]] = dict,
    ) -> None:
        """Put it together.

        Args:
            client: writes the report.
            world: knows the Pods.
            registry: knows the proxies that are connected here.
            mesh_name: of the mesh.
            namespace: of the control plane.
            identity: name of our Pod.
            uid: of our Pod, whose end is the end of the report; empty: unknown.
            leads: whether we write statuses and rotate.
            rotating: whether the root is being replaced.
            servers: our own servers, with the keys that signed their certificates.
            failing: says which plugins fail on the proxies that are connected here.
        """
        self._client = client
        self._world = world
        self._registry = registry
        self._mesh, self._namespace = mesh_name, namespace
        self._identity, self._uid = identity, uid
        self._leads, self._rotating, self._servers = leads, rotating, servers
        self._failing = failing
        self._written = ""
        self._others: set[str] = set()
        for pod in world.informers["Pod"].store.values():
            self._on_pod("ADDED", None, pod)
        world.subscribe(PODS, self._on_pod)
        self._read: dict[str, tuple[str, dict[str, Any]]] = {}
        self.informer = Informer(client, CONFIGMAPS, namespace, labels=f"{LABEL}={mesh_name}")

    def others(self) -> list[str]:
        """Name the Pods of the other replicas."""
        return sorted(self._others)

    def _on_pod(self, type_: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        # WHY kept: it is asked for once for each proxy, and a mesh has thousands of Pods.
        meta = (new or old or {}).get("metadata") or {}
        name, labels = str(meta.get("name")), meta.get("labels") or {}
        if meta.get("namespace") != self._namespace or name == self._identity:
            return
        ours = labels.get("app") == APP
        ours = ours and labels.get("app.kubernetes.io/instance", self._mesh) == self._mesh
        alive = (
            new is not None
            and (new.get("status") or {}).get("phase") not in ENDED
            and not meta.get("deletionTimestamp")
        )
        if ours and alive:
            self._others.add(name)
        else:
            self._others.discard(name)

    def gone(self, identity: str) -> bool:
        """Whether a replica is no more: we know all Pods, and it is none of them."""
        pods = self._world.informers["Pod"]
        return pods.synced.is_set() and pods.get(self._namespace, identity) is None

    async def reconcile(self) -> None:
        """Write the report if it is wanted and differs from the last.

        Raises:
            ApiError: it cannot be written.
        """
        if self._leads() or not self.others():
            return
        text = json.dumps(self.own(), sort_keys=True, separators=(",", ":"))
        if text == self._written:
            return
        name = f"fsm-replica-{self._identity}"
        labels = {LABEL: self._mesh}
        meta: dict[str, Any] = {"name": name, "namespace": self._namespace, "labels": labels}
        if self._uid:
            owner = {"apiVersion": "v1", "kind": "Pod", "name": self._identity, "uid": self._uid}
            meta["ownerReferences"] = [owner]
        body = {"metadata": meta, "data": {KEY: text}}
        try:
            await self._client.patch(CONFIGMAPS, name, {"data": {KEY: text}}, self._namespace)
        except NotFound:
            await self._client.create(CONFIGMAPS, body, self._namespace)
        self._written = text

    def own(self) -> dict[str, Any]:
        """Return the report."""
        report: dict[str, Any] = {"servers": self._servers(), "changes": dict(self._changes())}
        if failing := self._failing():
            report["plugins"] = {
                name: {
                    "proxies": [list(key) for key in one.proxies[:FAILING_MAX]],
                    "more": one.more + max(0, len(one.proxies) - FAILING_MAX),
                    "words": one.words,
                }
                for name, one in failing.items()
            }
        if self._rotating():
            words: dict[str, int] = {}
            proxies = {}
            for record in self._registry.records():
                # Whoever polls nobody at this moment may poll another replica the next.
                if record.polls:
                    pair = [words.setdefault(w, len(words)) for w in (record.trust, record.signer)]
                    proxies["/".join(record.key)] = pair
            # Names of keys and bundles are long, and most proxies have the same.
            report |= {"words": list(words), "proxies": proxies}
        return report

    def _changes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, (generation, change) in self._registry.objects.items():
            if change is None or (change.done and not change.refused):
                continue
            pending = self.pending(change)
            why = {str(key): self._registry.refuses(key) for key in change.refusers}
            refusers = {key: text for key, text in why.items() if text}
            if not pending and not refusers:
                continue
            yield (
                name,
                {
                    "generation": generation,
                    "proxies": change.proxies - change.pending + pending,
                    "refused": change.refused,
                    "pending": pending,
                    "refusers": dict(sorted(refusers.items())[:REFUSERS_MAX]),
                },
            )

    def pending(self, change: Change) -> int:
        """Count the proxies that this replica has to wait for.

        With other replicas those that have gone may be there; who is gone from all is not waited
        for, as nobody here could tell.
        """
        if change.done or not self.others():
            return change.pending
        return self._registry.pending_here(change)

    def _reports(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the other replicas, each with its report; an empty one where there is none yet."""
        for name in self.others():
            found = self.informer.get(self._namespace, f"fsm-replica-{name}") or {}
            text = (found.get("data") or {}).get(KEY) or "{}"
            known = self._read.get(name)
            if known is None or known[0] != text:
                known = self._read[name] = (text, _parsed(text))
            yield name, known[1]

    def reports(self) -> list[object]:
        """Return what the other replicas say; who says the same again gives the same object."""
        return [report for _, report in self._reports()]

    def proxy(self, key: ProxyKey) -> ProxyFact | None:
        """Say what a proxy believes and shows that is connected to another replica."""
        for _, report in self._reports():
            pair = (report.get("proxies") or {}).get("/".join(key))
            if pair is not None:
                words = report["words"]
                return ProxyFact(str(key), True, words[pair[0]], words[pair[1]])
        return None

    def servers(self) -> list[tuple[str, str]]:
        """List the servers of the other replicas; one that has not reported has an unknown one."""
        found = []
        for name, report in self._reports():
            listed = report.get("servers") or [("servers", "")]
            found += [(f"{server} of {name}", str(signer)) for server, signer in listed]
        return found

    def failing(self, plugin: str) -> Failing | None:
        """Say how a plugin is doing on the proxies of all replicas; ``None``: nothing failed."""
        found = self._failing().get(plugin)
        for _, report in self._reports():
            told = (report.get("plugins") or {}).get(plugin)
            if told:
                keys = tuple(ProxyKey(*key) for key in told["proxies"])
                there = Failing(keys, str(told["words"]), int(told["more"]))
                found = there if found is None else found.joined(there)
        return found

    def elsewhere(self, name: str, generation: int) -> Elsewhere:
        """Say what became of an object's last change at the proxies of the other replicas."""
        total = Elsewhere()
        for _, report in self._reports():
            change = (report.get("changes") or {}).get(name)
            if not change or change.get("generation") != generation:
                continue
            total = Elsewhere(
                total.proxies + int(change["proxies"]),
                total.refused + int(change["refused"]),
                total.pending + int(change["pending"]),
                {**total.refusers, **change["refusers"]},
            )
        return total


def _parsed(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
