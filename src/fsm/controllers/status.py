"""Writes to each object of ours how it is doing.

What comes in: how the objects are doing by the snapshot (``fsm.compile``), what proxies made of the
last change of each object. What goes out: ``.status`` of the objects, by their status subresource.

    Programmed by the snapshot, and the object's last change was
      refused by a proxy that still refuses ──► not programmed: Refused, with its reason
      not answered by all, for too long     ──► not programmed: Pending, with the count
      not answered by all yet               ──► looked at again in a moment
      answered by all, or long ago          ──► programmed

    A Plugin that is programmed and fails where it runs ──► not programmed: Failing
    An AccessCert without its certificate               ──► not programmed: Pending, or why

Only objects of which there is news are looked at: the object is another, or is doing otherwise,
or its change is not done, or other replicas say something else; and every ``WHOLE_S`` all of them.

Invariants: written only when a condition or the generation differs, so our own writes cause no
further ones; ``lastTransitionTime`` moves only with ``status``; an object that cannot be written
stops no other, and is tried again.
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

from fsm.compile import Assessments, Condition, ObjectStatus
from fsm.controllers.replicas import Elsewhere, Replicas
from fsm.controllers.world import POLICY_KINDS, World
from fsm.delivery import ProxyRegistry
from fsm.kube import ApiError, Conflict, KubeClient, NotFound, Resource, Unavailable
from fsm.model import Key

log = logging.getLogger("fsm.status")

RESOURCES = {found.kind: found for found in POLICY_KINDS}
# LIMIT: writes in flight; the API server of a laptop serves other callers too.
WRITES_MAX = 8
# LIMIT: until all objects are compared, seconds, whether there was news of them or not.
WHOLE_S = 60.0

Name = tuple[str, str, str]
"""Kind, namespace, name."""

_TOLD_OTHERWISE = ("Plugin", "AccessCert")
"""Kinds whose status also depends on what neither the snapshot nor the registry knows."""


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
        *,
        settle_s: float,
        assessments: Callable[[], Assessments | None],
        failing: Callable[[str], object | None] = lambda plugin: None,
        kept: Callable[[Key], Condition | None] = lambda access_cert: None,
        replicas: Replicas | None = None,
    ) -> None:
        """Put it together.

        Args:
            client: writes.
            world: has the objects as they are.
            registry: knows what proxies made of changes.
            settle_s: how long proxies may take, seconds, before an object is called pending.
            assessments: returns those of the newest snapshot.
            failing: says of a plugin what fails in it; ``None``: nothing.
            kept: says whether an AccessCert that is followed has its certificate.
            replicas: knows what proxies of other replicas made of changes.
        """
        self._client = client
        self._world = world
        self._registry = registry
        self._settle_s = settle_s
        self._assessments = assessments
        self._failing = failing
        self._kept = kept
        self._replicas = replicas
        # WHY: comparing two thousand statuses with what is written, whenever a proxy has answered,
        # costs more than sending a change.
        self._true: dict[Name, _True] = {}
        self._looked_at: Assessments | None = None
        self._reports: list[object] = []
        self._whole_at = 0.0
        self._open: set[Name] = set()
        """Objects whose last change is not done, or is refused."""
        self._news: set[Name] = set()
        world.subscribe_to_ours(lambda *name: self._news.add(name))
        registry.on_note = lambda name: self._news.add(_parted(name))
        self.again: Callable[[], None] = lambda: None

    async def reconcile(self) -> None:
        """Compare statuses with what they should be, and write the ones that differ.

        Raises:
            ApiError: at least one could not be written; the others were.
        """
        assessments = self._assessments()
        if assessments is None:
            return
        looked_at = self._due(assessments)
        self._news.clear()
        self._open.clear()
        try:
            failed = await self._look_at(looked_at, assessments)
        except BaseException:
            self._news.update(looked_at)
            raise
        self._news |= failed.keys()
        for error in failed.values():
            raise error

    async def _look_at(
        self, names: Iterable[Name], assessments: Assessments
    ) -> dict[Name, ApiError]:
        """Write the statuses that are not as they should be; return what could not be written."""
        limit = asyncio.Semaphore(WRITES_MAX)
        lacking: set[Resource] = set()
        writes = {}
        for name in names:
            kind, namespace, called = name
            resource = RESOURCES.get(kind)
            wanted = assessments.find(kind, Key(namespace, called))
            found = self._world.find(kind, namespace, called) if resource is not None else None
            if resource is None or wanted is None or found is None:
                self._true.pop(name, None)
                continue
            conditions = self._conditions(wanted, name)
            if conditions is None:
                continue
            now = _True(found, wanted.generation, conditions)
            if (before := self._true.get(name)) is not None and before.same(now):
                continue
            status = render(found, wanted, conditions, datetime.now(UTC))
            if status is None:
                self._true[name] = now
            else:
                self._true.pop(name, None)
                served = self._world.served_as(resource, namespace, called)
                writes[name] = self._write(served, found, status, limit, lacking)
        errors = await asyncio.gather(*writes.values())
        return {name: error for name, error in zip(writes, errors, strict=True) if error}

    def _due(self, assessments: Assessments) -> list[Name]:
        """Return the objects to look at, in order."""
        now = time.monotonic()
        changed = {(kind, key.namespace, key.name) for kind, key in assessments.bring()}
        reports = self._replicas.reports() if self._replicas is not None else []
        same = len(reports) == len(self._reports) and all(
            a is b for a, b in zip(reports, self._reports, strict=True)
        )
        if assessments is not self._looked_at or not same or now >= self._whole_at:
            self._looked_at, self._reports, self._whole_at = assessments, reports, now + WHOLE_S
            whole = {(s.kind, s.namespace, s.name) for s in assessments.all()}
            return sorted({*whole, *self._true})
        # There are few of these, and what else is said of them comes without a name.
        told = {
            (kind, key.namespace, key.name)
            for kind, key in assessments.names()
            if kind in _TOLD_OTHERWISE
        }
        return sorted({*changed, *self._news, *self._open, *told})

    def _conditions(self, wanted: ObjectStatus, name: Name) -> tuple[Condition, ...] | None:
        conditions = self._with_proxies(wanted, name)
        if wanted.kind == "Plugin" and conditions is not None:
            conditions = self._with_failures(conditions, wanted.name)
        if wanted.kind == "AccessCert" and conditions is not None:
            conditions = self._with_certificate(conditions, wanted)
        return conditions

    def _with_proxies(self, wanted: ObjectStatus, called: Name) -> tuple[Condition, ...] | None:
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
        if change.refusers or not change.done or elsewhere.pending or elsewhere.refusers:
            self._open.add(called)
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


def _parted(name: str) -> Name:
    kind, namespace, called = name.split("/", 2)
    return kind, namespace, called
