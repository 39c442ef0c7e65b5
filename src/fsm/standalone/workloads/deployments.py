"""Deployments: one ReplicaSet per version of the Pod template, and the way from one to the next.

What comes in: Deployments, the ReplicaSets they own and the Pods of those. What goes out:
ReplicaSets created, scaled, removed when too old; status as `kubectl rollout status` reads it.

Invariants: the ReplicaSet of a template is named by its hash, so that making it twice is no harm;
each look makes one step of ``rollout``; revisions only grow.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterable
from typing import Any

from fsm.kube import AlreadyExists
from fsm.kube.resources import DEPLOYMENTS, PODS, REPLICASETS
from fsm.standalone.workloads import rollout
from fsm.standalone.workloads.cluster import (
    Cluster,
    condition,
    controller_of,
    is_going,
    key_of,
    keys_of,
    owner_reference,
)
from fsm.standalone.workloads.controller import Controller, Key, Retry
from fsm.standalone.workloads.pods import now_text, parse_time

KubeObject = dict[str, Any]

_HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: No vowels and no look-alikes: a hash never spells a word.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Deployments(Controller):
    """Makes ReplicaSets for Deployments."""

    name = "deployments"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        cluster.subscribe(DEPLOYMENTS, lambda old, new: self.look(key_of(new or old or {})))
        cluster.subscribe(REPLICASETS, self._on_replicaset)
        cluster.subscribe(PODS, self._on_pod)

    def keys(self) -> Iterable[Key]:
        """List all Deployments."""
        return keys_of(self._cluster.all(DEPLOYMENTS))

    async def reconcile(self, key: Key) -> None:
        """Make one step toward the wanted state; report."""
        deployment = self._cluster.get(DEPLOYMENTS, *key)
        if deployment is None or is_going(deployment):
            return
        owned = self._cluster.owned(REPLICASETS, deployment["metadata"]["uid"])
        owned = [rs for rs in owned if not is_going(rs)]
        paused = bool(deployment["spec"].get("paused"))
        new = self._newest(deployment, owned)
        if new is None and not paused:
            new = await self._create(deployment, owned)
            owned = [*owned, new]
        elif new is not None:
            await self._keep_revision(deployment, new, owned)
        stepped = await self._step(deployment, new, owned, paused=paused)
        owned = self._cluster.owned(REPLICASETS, deployment["metadata"]["uid"])
        new = self._newest(deployment, owned)
        overdue_s = await self._report(deployment, new, owned)
        await self._forget_old(deployment, new, owned)
        if stepped:
            raise Retry(0.0)
        if overdue_s is not None:
            raise Retry(overdue_s)

    def _newest(self, deployment: KubeObject, owned: list[KubeObject]) -> KubeObject | None:
        wanted = template_hash(deployment)
        for rs in owned:
            if (rs["metadata"].get("labels") or {}).get(_HASH_LABEL) == wanted:
                return rs
        return None

    async def _create(self, deployment: KubeObject, owned: list[KubeObject]) -> KubeObject:
        meta, spec = deployment["metadata"], deployment["spec"]
        mark = template_hash(deployment)
        template = copy.deepcopy(spec.get("template") or {})
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[_HASH_LABEL] = mark
        selector = copy.deepcopy(spec.get("selector") or {})
        selector.setdefault("matchLabels", {})[_HASH_LABEL] = mark
        body = {
            "metadata": {
                "name": f"{meta['name']}-{mark}",
                "labels": dict(labels),
                "annotations": {
                    **_told(deployment),
                    _REVISION: str(_last_revision(owned) + 1),
                },
                "ownerReferences": [owner_reference(DEPLOYMENTS, deployment)],
            },
            "spec": {
                # It grows by steps, as everything else does.
                "replicas": 0,
                "minReadySeconds": int(spec.get("minReadySeconds") or 0),
                "selector": selector,
                "template": template,
            },
        }
        try:
            return await self._cluster.create(REPLICASETS, body, meta["namespace"])
        except AlreadyExists:
            # Of a Deployment of the same name that was deleted a moment ago: its ReplicaSet is
            # still to be collected, then the name is free.
            raise Retry(0.5) from None

    async def _keep_revision(
        self, deployment: KubeObject, new: KubeObject, owned: list[KubeObject]
    ) -> None:
        """Give the ReplicaSet that came back by a rollback the newest revision, and its cause."""
        others = [rs for rs in owned if rs["metadata"]["uid"] != new["metadata"]["uid"]]
        last, mine = _last_revision(others), _revision(new)
        mine = max(mine, last + 1)
        wanted = {**_told(deployment), _REVISION: str(mine)}
        if not wanted.items() <= (new["metadata"].get("annotations") or {}).items():
            body: KubeObject = {"metadata": {"annotations": wanted}}
            await self._cluster.patch(REPLICASETS, new, body)
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get(_REVISION) != str(mine):
            body = {"metadata": {"annotations": {_REVISION: str(mine)}}}
            await self._cluster.patch(DEPLOYMENTS, deployment, body)

    async def _step(
        self,
        deployment: KubeObject,
        new: KubeObject | None,
        owned: list[KubeObject],
        *,
        paused: bool,
    ) -> bool:
        spec = deployment["spec"]
        wanted = int(spec.get("replicas", 1))
        if new is None:
            return False
        by_name = {rs["metadata"]["name"]: rs for rs in owned}
        old = [rs for rs in owned if rs["metadata"]["name"] != new["metadata"]["name"]]
        numbers, olds = self._numbers(new), [self._numbers(rs) for rs in old]
        if paused:
            # A paused Deployment still scales, but does not roll out.
            busy = any(rs.spec for rs in olds)
            step = {} if busy or numbers.spec == wanted else {numbers.name: wanted}
        elif (spec.get("strategy") or {}).get("type") == "Recreate":
            step = rollout.recreate(wanted, numbers, olds)
        else:
            rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
            limits = rollout.bounds(wanted, rolling.get("maxSurge"), rolling.get("maxUnavailable"))
            step = rollout.rolling(wanted, limits, numbers, olds)
        for name, replicas in step.items():
            body = {"spec": {"replicas": replicas}}
            await self._cluster.patch(REPLICASETS, by_name[name], body)
        return bool(step)

    def _numbers(self, rs: KubeObject) -> rollout.Replicas:
        status = rs.get("status") or {}
        spec = int(rs["spec"].get("replicas", 1))
        available = min(spec, int(status.get("availableReplicas") or 0))
        # Pods that are ending still count: Recreate waits for them.
        exist = len(self._cluster.owned(PODS, rs["metadata"]["uid"]))
        return rollout.Replicas(rs["metadata"]["name"], spec, available, exist)

    async def _report(
        self, deployment: KubeObject, new: KubeObject | None, owned: list[KubeObject]
    ) -> float | None:
        """Report the status; returns when the progress deadline will have passed, if it counts."""
        spec = deployment["spec"]
        wanted = int(spec.get("replicas", 1))
        count = {
            name: sum(int((rs.get("status") or {}).get(name) or 0) for rs in owned)
            for name in ("replicas", "readyReplicas", "availableReplicas")
        }
        updated = int(((new or {}).get("status") or {}).get("replicas") or 0)
        status: KubeObject = count | {
            "updatedReplicas": updated,
            "unavailableReplicas": max(0, wanted - count["availableReplicas"]),
            "observedGeneration": deployment["metadata"].get("generation", 1),
        }
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        limits = rollout.bounds(wanted, rolling.get("maxSurge"), rolling.get("maxUnavailable"))
        enough = count["availableReplicas"] >= wanted - limits.unavailable
        complete = updated == wanted == count["replicas"] and count["availableReplicas"] == wanted
        deadline_s = float(spec.get("progressDeadlineSeconds") or 600)
        progress, left_s = _progress(deployment, new, status, complete, deadline_s)
        availability = _condition(
            deployment,
            "Available",
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        )
        status["conditions"] = [availability, progress, *_failures(deployment, new)]
        await self._cluster.put_status(DEPLOYMENTS, deployment, status)
        return left_s

    async def _forget_old(
        self, deployment: KubeObject, new: KubeObject | None, owned: list[KubeObject]
    ) -> None:
        """Remove ReplicaSets of revisions beyond the history limit."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        kept = 10 if limit is None else int(limit)
        name = new["metadata"]["name"] if new else ""
        idle = [
            rs
            for rs in owned
            if rs["metadata"]["name"] != name
            and not int(rs["spec"].get("replicas", 1))
            and not int((rs.get("status") or {}).get("replicas") or 0)
            and not is_going(rs)
        ]
        idle.sort(key=_revision)
        for rs in idle[: max(0, len(idle) - kept)]:
            await self._cluster.delete(REPLICASETS, rs)

    def _on_replicaset(self, old: KubeObject | None, new: KubeObject | None) -> None:
        for rs in (old, new):
            owner = controller_of(rs) if rs else None
            if rs and owner and owner["kind"] == "Deployment":
                self.look((rs["metadata"]["namespace"], owner["name"]))

    def _on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        # Only an end matters here: Recreate waits for it. The rest shows in the ReplicaSet.
        if new is None and old is not None and (owner := controller_of(old)):
            rs = self._cluster.get(REPLICASETS, old["metadata"]["namespace"], owner["name"])
            self._on_replicaset(rs, None)


def template_hash(deployment: KubeObject) -> str:
    """Name a Pod template: equal templates, equal names, in any order of fields."""
    text = json.dumps(deployment["spec"].get("template") or {}, sort_keys=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def _told(deployment: KubeObject) -> dict[str, str]:
    """Return the annotations that its ReplicaSet gets, too: `kubectl rollout history` asks that."""
    annotations = deployment["metadata"].get("annotations") or {}
    return {
        key: value
        for key, value in annotations.items()
        if key != _LAST_APPLIED and not key.startswith("deployment.kubernetes.io/")
    }


def _revision(rs: KubeObject) -> int:
    text = str((rs["metadata"].get("annotations") or {}).get(_REVISION, "0"))
    return int(text) if text.isdigit() else 0


def _last_revision(owned: list[KubeObject]) -> int:
    return max(map(_revision, owned), default=0)


def _progress(
    deployment: KubeObject,
    new: KubeObject | None,
    status: KubeObject,
    complete: bool,
    deadline_s: float,
) -> tuple[KubeObject, float | None]:
    """Build the condition Progressing; with it, when to look whether the deadline has passed."""
    name = new["metadata"]["name"] if new else "?"
    if complete:
        text = f'ReplicaSet "{name}" has successfully progressed.'
        return _condition(deployment, "Progressing", True, "NewReplicaSetAvailable", text), None
    before = condition(deployment, "Progressing") or {}
    present = deployment.get("status") or {}
    counted = ("updatedReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    moved = any(present.get(key) != status.get(key) for key in counted)
    if moved or not before or before.get("reason") == "NewReplicaSetAvailable":
        text = f'ReplicaSet "{name}" is progressing.'
        made = _condition(deployment, "Progressing", True, "ReplicaSetUpdated", text)
        made["lastUpdateTime"] = now_text()
        return made, deadline_s
    left_s = parse_time(before.get("lastUpdateTime")) + deadline_s - time.time()
    if left_s > 0 and before.get("reason") != "ProgressDeadlineExceeded":
        return before, left_s
    text = f'ReplicaSet "{name}" has timed out progressing.'
    return _condition(deployment, "Progressing", False, "ProgressDeadlineExceeded", text), None


def _failures(deployment: KubeObject, new: KubeObject | None) -> list[KubeObject]:
    failure = condition(new, "ReplicaFailure") if new else None
    if failure is None:
        return []
    text = failure.get("message", "")
    return [_condition(deployment, "ReplicaFailure", True, failure.get("reason", ""), text)]


def _condition(
    deployment: KubeObject, kind: str, good: bool, reason: str, message: str
) -> KubeObject:
    before = condition(deployment, kind) or {}
    value = "True" if good else "False"
    same = before.get("status") == value
    if same and before.get("reason") == reason and before.get("message") == message:
        return before
    now = now_text()
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": now,
        "lastTransitionTime": before.get("lastTransitionTime", now) if same else now,
    }
