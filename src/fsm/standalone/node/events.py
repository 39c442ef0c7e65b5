"""Events of Pods and Services: what `kubectl get events` and `kubectl describe` tell of them.

What comes in: two statuses of a Pod, one after the other, or single happenings. What goes out:
Event objects; the same happening again raises the count of the first.

Invariants: telling never waits and never fails: events are information, and are dropped when the
API cannot take them or too many wait; those older than an hour are removed.
Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fsm.kube import ApiError, KubeClient, NotFound
from fsm.kube.resources import EVENTS
from fsm.standalone.node.status import timestamp

KubeObject = dict[str, Any]
logger = logging.getLogger(__name__)

_KEPT_S = 3600.0
#: LIMIT happenings that wait to be written, and those that are remembered to be counted.
_WAITING_MAX, _REMEMBERED_MAX = 500, 2000
#: Why a container waits, to type and reason of its event; other reasons are told by nobody.
_WAITING = {
    "ErrImagePull": ("Warning", "Failed"),
    "ImagePullBackOff": ("Normal", "BackOff"),
    "CreateContainerConfigError": ("Warning", "Failed"),
    "RunContainerError": ("Warning", "Failed"),
    "CrashLoopBackOff": ("Warning", "BackOff"),
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing worth telling; ``container`` is empty for the Pod as a whole."""

    kind: str
    reason: str
    message: str
    container: str = ""


def between(before: KubeObject, after: KubeObject) -> list[Happening]:
    """Read from two statuses of a Pod what happened between them. Pure."""
    told = []
    if after.get("reason") and (after.get("reason"), after.get("message")) != (
        before.get("reason"),
        before.get("message"),
    ):
        told.append(Happening("Warning", str(after["reason"]), str(after.get("message") or "")))
    for key in ("initContainerStatuses", "containerStatuses"):
        known = {status["name"]: status for status in before.get(key) or []}
        for status in after.get(key) or []:
            told += _of_container(known.get(status["name"]) or {}, status)
    return told


def _of_container(before: KubeObject, after: KubeObject) -> list[Happening]:
    name, old, new = after["name"], before.get("state") or {}, after.get("state") or {}
    running = new.get("running")
    if running is not None:
        was = old.get("running")
        if was is None or was.get("startedAt") != running.get("startedAt"):
            return [Happening("Normal", "Started", f"Started container {name}", name)]
        if before.get("ready") and not after.get("ready"):
            text = f"Container {name} is not ready any more"
            return [Happening("Warning", "Unhealthy", text, name)]
    waiting = new.get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    if reason in _WAITING and waiting != old.get("waiting"):
        kind, told = _WAITING[reason]
        return [Happening(kind, told, str(waiting.get("message") or reason), name)]
    return []


class Events:
    """Writes events, one after the other, in the background (``run``)."""

    def __init__(self, client: KubeClient, node: str, source: str = "kubelet") -> None:
        self._client = client
        self._source = source
        self._node = node
        self._waiting: asyncio.Queue[tuple[KubeObject, Happening]] = asyncio.Queue(_WAITING_MAX)
        self._known: dict[tuple[str, Happening], tuple[str, int]] = {}

    def tell(self, about: KubeObject, happenings: list[Happening]) -> None:
        """Take note of what happened to an object; one that names no kind is a Pod."""
        for happening in happenings:
            with contextlib.suppress(asyncio.QueueFull):
                self._waiting.put_nowait((about, happening))

    async def run(self) -> None:
        """Write what is told until cancelled."""
        while True:
            pod, happening = await self._waiting.get()
            try:
                await self._write(pod, happening)
            except ApiError as error:
                # A namespace that is being deleted takes no events any more: that is in order.
                logger.debug("an event was not written", extra={"why": str(error)})

    async def _write(self, pod: KubeObject, happening: Happening) -> None:
        meta, now = pod["metadata"], timestamp(time.time())
        key = (str(meta["uid"]), happening)
        if key in self._known:
            name, count = self._known[key]
            body = {"count": count + 1, "lastTimestamp": now}
            with contextlib.suppress(NotFound):
                await self._client.patch(EVENTS, name, body, meta["namespace"])
                self._known[key] = (name, count + 1)
                return
        about = {
            "apiVersion": "v1",
            "kind": pod.get("kind") or "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        if happening.container:
            about["fieldPath"] = f"spec.containers{{{happening.container}}}"
        name = f"{meta['name'][:230]}.{secrets.token_hex(8)}"
        event = {
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": about,
            "type": happening.kind,
            "reason": happening.reason,
            # One line: clients print it into a column.
            "message": happening.message.replace("\n", "; ")[:1024],
            "source": {"component": self._source, "host": self._node},
            "reportingComponent": self._source,
            "reportingInstance": self._node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._client.create(EVENTS, event, meta["namespace"])
        while len(self._known) >= _REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = (name, 1)

    async def forget_old(self, now: float) -> None:
        """Remove events that nothing was added to for an hour, whoever wrote them.

        Raises:
            ApiError: they cannot be listed.

        """
        for event in (await self._client.list(EVENTS)).items:
            meta = event["metadata"]
            text = event.get("lastTimestamp") or meta.get("creationTimestamp") or ""
            try:
                age_s = now - datetime.fromisoformat(str(text)).timestamp()
            except ValueError:
                continue
            if age_s > _KEPT_S:
                with contextlib.suppress(ApiError):
                    await self._client.delete(EVENTS, meta["name"], meta["namespace"])
