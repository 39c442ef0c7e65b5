"""Writes to each object of ours how it is doing.

What comes in: the snapshot (assessed by ``fsm.compile``), what proxies made of the last change of
each object. What goes out: ``.status`` of the objects, by their status subresource.

    Programmed by the snapshot, and the object's last change was
      refused by a proxy that still refuses ──► not programmed: Refused, with its reason
      not answered by all, for too long     ──► not programmed: Pending, with the count
      not answered by all yet               ──► looked at again in a moment
      answered by all, or long ago          ──► programmed

    A Plugin that is programmed and fails where it runs ──► not programmed: Failing
    An AccessCert without its certificate               ──► not programmed: Pending, or why

Invariants: written only when a condition or the generation differs, so our own writes cause no
further ones; ``lastTransitionTime`` moves only with ``status``; an object that cannot be written
stops no other.
Not done here: judging (``fsm.compile.assess``).
Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fsm.compile import Condition, ObjectStatus, assess
from fsm.controllers.replicas import Elsewhere, Replicas
from fsm.controllers.world import POLICY_KINDS, World
from fsm.delivery import ProxyRegistry
from fsm.kube import ApiError, Conflict, KubeClient, NotFound, Resource, Unavailable
from fsm.model import Key, Snapshot
from fsm.settings import Settings

log = logging.getLogger("fsm.status")

RESOURCES = {found.kind: found for found in POLICY_KINDS}
# LIMIT: writes in flight; the API server of a laptop serves other callers too.
WRITES_MAX = 8


@dataclass(frozen=True, slots=True)
class _True:
    """A status that was found to be as it should: of which object, and what it should be."""

    obj: Mapping[str, Any]
    generation: int
    conditions: tuple[Condition, ...]

    def same(self, other: _True) -> bool:
        """Whether it is still the same; an object that changes is another one in memory."""
        if self.obj is not other.obj or self.generation != other.generation:
            return False
        return self.conditions is other.conditions or self.conditions == other.conditions


class StatusWriter:
    """Keeps the statuses true; ``reconcile`` is its one look."""

    def __init__(
        self,
        client: KubeClient,
        world: World,
        registry: ProxyRegistry,
        settings: Settings,
        *,
        settle_s: float,
        snapshot: Callable[[], Snapshot | None],
        failing: Callable[[str], object | None] = lambda plugin: None,
        kept: Callable[[Key], Condition | None] = lambda access_cert: None,
        replicas: Replicas | None = None,
    ) -> None:
        """Put it together.

        Args:
            client: writes.
            world: has the objects as they are.
            registry: knows what proxies made of changes.
            settings: of the mesh.
            settle_s: how long proxies may take, seconds, before an object is called pending.
            snapshot: returns the newest one.
            failing: says of a plugin what fails in it; ``None``: nothing.
            kept: says whether an AccessCert that is followed has its certificate.
            replicas: knows what proxies of other replicas made of changes.
        """
        self._client = client
        self._world = world
        self._registry = registry
        self._settings = settings
        self._settle_s = settle_s
        self._snapshot = snapshot
        self._failing = failing
        self._kept = kept
        self._replicas = replicas
        # WHY: comparing two thousand statuses with what is written, whenever a proxy has answered,
        # costs more than sending a change.
        self._true: dict[tuple[str, str, str], _True] = {}
        self._assessed: tuple[Snapshot, list[ObjectStatus]] | None = None
        self.again: Callable[[], None] = lambda: None

    async def reconcile(self) -> None:
        """Compare every status with what it should be, and write the ones that differ.

        Raises:
            ApiError: at least one could not be written; the others were.
        """
        snapshot = self._snapshot()
        if snapshot is None:
            return
        if self._assessed is None or self._assessed[0] is not snapshot:
            self._assessed = (snapshot, assess(snapshot, self._settings))
        limit = asyncio.Semaphore(WRITES_MAX)
        lacking: set[Resource] = set()
        writes = []
        true: dict[tuple[str, str, str], _True] = {}
        for wanted in self._assessed[1]:
            resource = RESOURCES.get(wanted.kind)
            if resource is None:
                continue
            found = self._world.object(resource, wanted.namespace, wanted.name)
            if found is None:
                continue
            conditions = self._with_proxies(wanted)
            if wanted.kind == "Plugin" and conditions is not None:
                conditions = self._with_failures(conditions, wanted.name)
            if wanted.kind == "AccessCert" and conditions is not None:
                conditions = self._with_certificate(conditions, wanted)
            if conditions is None:
                continue
            name = wanted.kind, wanted.namespace, wanted.name
            before, now = self._true.get(name), _True(found, wanted.generation, conditions)
            if before is not None and before.same(now):
                true[name] = before
                continue
            status = render(found, wanted, conditions, datetime.now(UTC))
            if status is None:
                true[name] = now
            else:
                served = self._world.served_as(resource, wanted.namespace, wanted.name)
                writes.append(self._write(served, found, status, limit, lacking))
        self._true = true
        failures = [failure for failure in await asyncio.gather(*writes) if failure]
        if failures:
            raise failures[0]

    def _with_proxies(self, wanted: ObjectStatus) -> tuple[Condition, ...] | None:
        """Add what proxies say about the last change; ``None``: it is too early to say."""
        conditions = wanted.conditions
        programmed = next(c for c in conditions if c.type == "Programmed")
        name = f"{wanted.kind}/{wanted.namespace}/{wanted.name}"
        known = self._registry.objects.get(name)
        if known is None or known.change is None or not programmed.status:
            return conditions
        change, elsewhere = known.change, Elsewhere()
        if self._replicas is not None:
            elsewhere = self._replicas.elsewhere(name, known.generation)
        refusals = [
            f"{key}: {why}" for key in change.refusers if (why := self._registry.refuses(key))
        ]
        refusals += [f"{key}: {why}" for key, why in elsewhere.refusers.items()]
        here = self._replicas.pending(change) if self._replicas else change.pending
        proxies = change.proxies - change.pending + here + elsewhere.proxies
        if refusals:
            count = change.refused + elsewhere.refused
            text = f"refused by {count} of {proxies} proxies: {'; '.join(refusals)}"
            return _replaced(conditions, Condition("Programmed", False, "Refused", text))
        if change.published and not here and not elsewhere.pending:
            return conditions
        left = change.started + self._settle_s - time.monotonic()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self.again)
            return None
        pending = here + elsewhere.pending
        text = f"{pending} of {proxies} proxies have not applied it yet"
        return _replaced(conditions, Condition("Programmed", False, "Pending", text))

    def _with_failures(
        self, conditions: tuple[Condition, ...], plugin: str
    ) -> tuple[Condition, ...]:
        """Add what fails in a plugin where it runs."""
        failing = self._failing(plugin)
        programmed = next(c for c in conditions if c.type == "Programmed")
        if failing is None or not programmed.status:
            return conditions
        return _replaced(conditions, Condition("Programmed", False, "Failing", str(failing)))

    def _with_certificate(
        self, conditions: tuple[Condition, ...], wanted: ObjectStatus
    ) -> tuple[Condition, ...]:
        """Add whether the certificate that was asked for is there."""
        if wanted.current_status != "Programmed":
            return conditions
        kept = self._kept(Key(wanted.namespace, wanted.name))
        return _replaced(conditions, kept) if kept is not None else conditions

    async def _write(
        self,
        resource: Resource,
        found: Mapping[str, Any],
        status: dict[str, Any],
        limit: asyncio.Semaphore,
        lacking: set[Resource],
    ) -> ApiError | None:
        meta = found["metadata"]
        async with limit:
            if resource in lacking:
                return None
            try:
                await self._client.patch_status(
                    resource, meta["name"], status, meta.get("namespace")
                )
            except NotFound:
                # Deleted meanwhile; or somebody installed these kinds without statuses.
                lacking.add(resource)
            except (Conflict, Unavailable) as error:
                return error
            except ApiError as error:
                log.warning("cannot write the status: %s", error)
                return error
        return None


def render(
    found: Mapping[str, Any],
    wanted: ObjectStatus,
    conditions: Iterable[Condition],
    now: datetime,
) -> dict[str, Any] | None:
    """Build the status of an object; ``None`` when it has that status already.

    Args:
        found: the object as the API has it.
        wanted: its assessment.
        conditions: those of the assessment, completed with what proxies say.
        now: becomes ``lastTransitionTime`` of what changes.
    """
    old = found.get("status") or {}
    before = {c.get("type"): c for c in old.get("conditions") or [] if isinstance(c, dict)}
    moment = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    after = []
    differs = old.get("observedGeneration") != wanted.generation
    for condition in conditions:
        known = before.get(condition.type, {})
        said = {
            "type": condition.type,
            "status": "True" if condition.status else "False",
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": wanted.generation,
        }
        differs = differs or any(known.get(key) != value for key, value in said.items())
        same = known.get("status") == said["status"] and known.get("lastTransitionTime")
        after.append({**said, "lastTransitionTime": same or moment})
    if not differs:
        return None
    final = ObjectStatus(
        wanted.kind, wanted.namespace, wanted.name, wanted.generation, tuple(conditions)
    )
    return {
        "observedGeneration": wanted.generation,
        "currentStatus": final.current_status,
        "reason": final.reason,
        "conditions": after,
    }


def _replaced(conditions: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    return tuple(new if condition.type == new.type else condition for condition in conditions)
