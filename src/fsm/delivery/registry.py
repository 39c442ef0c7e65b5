"""Every proxy that we know: what it was told, what it said about it, and when.

What comes in: polls and acknowledgements (``server``), compiled configurations (the publisher),
the time. What goes out: wake-ups for waiting polls, and rows for ``fsm status``.

    unknown ──poll──► known, nothing published ──publish──► version waiting to be fetched
                                                     ▲            │ poll fetches it
                                                     │            ▼
                                 publish (newer) ────┴──── sent ──ack──► applied | refused

Invariants: a record exists only while its Pod does; publishing the version that a proxy already
has wakes nobody; time to applied is counted once per proxy and change, from the first API event
of the change to the arrival of the acknowledgement (so it never flatters).
All times are of one monotonic clock, in seconds, except ``at`` and ``*_at`` fields, which are
wall-clock seconds for people.
Not done here: HTTP, compiling, deciding which Pods exist.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Outcome = Literal["applied", "refused"]

# LIMIT: the recent changes that `fsm status` can show; older ones live on in the histogram only.
CHANGES_KEPT = 200
# LIMIT: changes of which the time at each proxy is known; 0.2 MB each at 2,000 proxies.
TOLD_BY_PROXY = 50
# LIMIT: refusals of one change that are kept with their reasons; one is usually like the other.
REFUSERS_KEPT = 5
# LIMIT: a proxy polls at least every 55 s; one that missed that and a back-off is gone.
CONNECTED_S = 75.0
# LIMIT: a proxy that polls another replica is not waited for here after this; applying takes less.
PRESENT_S = 5.0


class ProxyKey(NamedTuple):
    """Names one proxy by its Pod; the uid tells apart Pods that reuse a name."""

    namespace: str
    pod: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """The configuration of one proxy, ready to be sent.

    Attributes:
        version: what it is known by.
        parts: its bytes, in parts where proxies share some.
    """

    version: str
    parts: bytes | Sequence[bytes | memoryview] = field(repr=False)

    @property
    def body(self) -> bytes:
        """The whole; put together anew each time, because 2,000 of them take much memory."""
        return self.parts if isinstance(self.parts, bytes) else b"".join(self.parts)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(map(len, self._parts()))

    def difference(self, other: Compiled) -> bytes | None:
        """Say how to come here from another; ``None``: only by the whole."""
        return None

    def slices(self, most: int) -> Iterator[memoryview]:
        """Yield the bytes in slices of at most ``most`` bytes, without a copy."""
        for part in self._parts():
            view = memoryview(part)
            for begin in range(0, len(view), most):
                yield view[begin : begin + most]

    def _parts(self) -> Sequence[bytes | memoryview]:
        return [self.parts] if isinstance(self.parts, bytes) else self.parts


@dataclass(slots=True)
class Change:
    """One batch of API events that was turned into configurations together.

    Attributes:
        number: counts up from 1 for the life of this controller.
        at: when its first event arrived, wall-clock seconds.
        started: the same moment, monotonic seconds.
        objects: what changed, as ``Kind/namespace/name``; shortened when there are many.
        compile_s: seconds from the first event until the last proxy's configuration was published.
        proxies: how many proxies it changed.
        applied: how many of these have acknowledged it (or a newer one) as applied.
        refused: how many have refused it.
        refusers: the first of these, with their reasons.
        slowest_s: the longest time to applied so far, in seconds.
        took: seconds to applied by proxy, of the last ``TOLD_BY_PROXY`` changes.
        published: whether every proxy that it concerns has been told; until then counts grow.
    """

    number: int
    at: float
    started: float
    objects: tuple[str, ...] = ()
    compile_s: float = 0.0
    proxies: int = 0
    applied: int = 0
    refused: int = 0
    refusers: dict[ProxyKey, str] = field(default_factory=dict)
    slowest_s: float = 0.0
    took: dict[ProxyKey, float] = field(default_factory=dict)
    published: bool = False

    @property
    def done(self) -> bool:
        """Whether every proxy that it concerns has answered."""
        return self.published and not self.pending

    @property
    def pending(self) -> int:
        """How many proxies have not answered yet."""
        return max(0, self.proxies - self.applied - self.refused)


class Known(NamedTuple):
    """What is known of an object of ours: the state that was made into configurations last.

    Attributes:
        generation: of the object, as it was then.
        change: the last one that it was part of; ``None``: it was there when the controller began.
    """

    generation: int
    change: Change | None


@dataclass(slots=True)
class ProxyRecord:
    """One proxy; times are wall-clock seconds, ``None`` means "not yet"."""

    key: ProxyKey
    identity: str
    connected_at: float
    seen_at: float
    seen: float
    target: Compiled | None = None
    held: Compiled | None = None
    """What was sent last, as long as a difference from it may be asked for."""
    sent_version: str | None = None
    sent_at: float | None = None
    acked_version: str | None = None
    applied_version: str | None = None
    applied_at: float | None = None
    applied_s: float | None = None
    refused_version: str | None = None
    refused_reason: str | None = None
    compile_error: str | None = None
    certificate_not_after: float | None = None
    signer: str = ""
    """Which key signed the certificate that it shows, hex."""
    trust: str = ""
    """``fsm.ca.trust_id`` of the roots that it believes, as it says; empty: it has not said."""
    hastened: str = ""
    """For which signer it was asked to renew its certificate at once."""
    polls: int = 0
    reconnects: int = 0
    pending: list[tuple[str, Change]] = field(default_factory=list)
    waiting: set[Callable[[], None]] = field(default_factory=set)
    """Each is called soon after something about this record has changed."""

    def wake(self) -> None:
        """Let every poll that waits on this record look again, in a later turn of the loop."""
        for look in self.waiting:
            asyncio.get_running_loop().call_soon(look)


class ProxyRegistry:
    """The records by key, with the operations that keep their invariants."""

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        observe_applied: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Make an empty registry.

        Args:
            clock: monotonic seconds.
            wall: seconds since the epoch.
            observe_applied: is told each time to applied, in seconds.
        """
        self._clock = clock
        self._wall = wall
        self._observe_applied = observe_applied
        self._records: dict[ProxyKey, ProxyRecord] = {}
        self.changes: deque[Change] = deque(maxlen=CHANGES_KEPT)
        self.objects: dict[str, Known] = {}
        """The objects of ours that are in force, as ``Kind/namespace/name``."""
        self.gone: dict[str, Change] = {}
        """Those that were of late, with the change that ended them."""
        self.on_note: Callable[[str], None] = lambda name: None
        """Is told of each object that ``note`` is called for."""

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> list[ProxyRecord]:
        """All records, in the order of their keys."""
        return [self._records[key] for key in sorted(self._records)]

    def get(self, key: ProxyKey) -> ProxyRecord | None:
        """Look one up."""
        return self._records.get(key)

    def connected(self, record: ProxyRecord) -> bool:
        """Whether the proxy polls, or did so a moment ago."""
        return record.polls > 0 or self._clock() - record.seen < CONNECTED_S

    def touch(self, key: ProxyKey, identity: str) -> tuple[ProxyRecord, bool]:
        """Note that a proxy was heard of; returns its record and whether that is new."""
        record = self._records.get(key)
        now = self._wall()
        if record is None:
            record = ProxyRecord(key, identity, now, now, self._clock())
            self._records[key] = record
            return record, True
        if not self.connected(record):
            record.connected_at = now
            record.reconnects += 1
        record.identity = identity
        record.seen_at = now
        record.seen = self._clock()
        return record, False

    def touch_if_known(self, record: ProxyRecord) -> None:
        """Note that a poll has just ended, unless the proxy was forgotten meanwhile."""
        if self._records.get(record.key) is record:
            record.seen_at = self._wall()
            record.seen = self._clock()

    def forget_except(self, alive: Iterable[ProxyKey]) -> list[ProxyKey]:
        """Drop all records but these; see ``forget``."""
        kept = set(alive)
        gone = [key for key in self._records if key not in kept]
        self.forget(gone)
        return gone

    def forget(self, gone: Iterable[ProxyKey]) -> None:
        """Drop the records of Pods that are gone; their polls wake up and find nothing."""
        for key in gone:
            record = self._records.pop(key, None)
            if record is None:
                continue
            for _, change in record.pending:
                change.proxies -= 1
            record.pending.clear()
            record.wake()

    def publish(self, key: ProxyKey, compiled: Compiled, change: Change | None = None) -> bool:
        """Make a configuration the one that the proxy shall have.

        Args:
            key: the proxy; unknown ones are ignored.
            compiled: what it shall have.
            change: what caused it; ``None`` for the first configuration after a start.

        Returns:
            Whether it differs from what was published before.
        """
        record = self._records.get(key)
        if record is None:
            return False
        record.compile_error = None
        if record.target is not None and record.target.version == compiled.version:
            return False
        record.target = compiled
        if not self.connected(record):
            # Nobody knows when it comes back: what it held is not kept for it.
            record.held = None
        if change is not None:
            change.proxies += 1
            record.pending.append((compiled.version, change))
        if compiled.version == record.applied_version == record.sent_version:
            # Changed and changed back before the proxy looked: there is nothing to fetch.
            self._settle(record, compiled.version, "applied")
        record.wake()
        return True

    def wake_all(self) -> None:
        """Let every poll look again, because something other than its configuration changed."""
        for record in self._records.values():
            record.wake()

    def withdraw(self, key: ProxyKey) -> None:
        """Shall have nothing for a proxy: its Pod is not in the mesh, or not known (yet).

        What it runs stays as it is; nobody waits for it any more.
        """
        record = self._records.get(key)
        if record is not None:
            for _, change in record.pending:
                change.proxies -= 1
            record.pending.clear()
            record.target = None

    def polled(self, record: ProxyRecord, version: str, applied: str) -> bool:
        """Note what a poll says that the proxy has received last, and what it runs.

        That the two are the same is an acknowledgement. After a restart of the controller this is
        how it learns what proxies run; and it closes changes whose configuration went out and back
        in again while a connection was lost.

        Returns:
            Whether that is news.
        """
        if not version and not applied:
            # It has been started anew and runs nothing yet.
            record.applied_version = record.refused_version = record.refused_reason = None
        if not applied:
            return False
        if version == applied and version == record.sent_version != record.applied_version:
            self.acknowledge(record, version, "applied", "")
            return True
        record.applied_version = applied
        if record.target is not None and version == applied == record.target.version:
            self._settle(record, version, "applied")
        return False

    def sent(self, record: ProxyRecord, compiled: Compiled) -> None:
        """Note that a configuration is on its way."""
        record.held = compiled
        record.sent_version = compiled.version
        record.sent_at = self._wall()

    def acknowledge(self, record: ProxyRecord, version: str, outcome: Outcome, reason: str) -> None:
        """Note what a proxy made of a version; late answers about older versions are kept too."""
        record.acked_version = version
        if outcome == "applied":
            record.applied_version = version
            record.applied_at = self._wall()
            record.refused_version = record.refused_reason = None
        else:
            record.refused_version = version
            record.refused_reason = reason
        self._settle(record, version, outcome)

    def refuses(self, key: ProxyKey) -> str:
        """Say why a proxy refuses the configuration that it shall have; empty if it does not."""
        record = self._records.get(key)
        if record is None or record.target is None:
            return ""
        same = record.refused_version == record.target.version
        return (record.refused_reason or "no reason given") if same else ""

    def note(self, name: str, generation: int | None, change: Change) -> None:
        """Note that an object of ours is in force in this state, or with ``None`` no more."""
        self.on_note(name)
        self.gone.pop(name, None)
        if generation is not None:
            self.objects[name] = Known(generation, change)
        elif self.objects.pop(name, None) is not None:
            self.gone[name] = change
            if len(self.gone) > CHANGES_KEPT:
                del self.gone[next(iter(self.gone))]

    def begin_change(self, started: float, objects: tuple[str, ...]) -> Change:
        """Open the book of a new change; see ``Change``."""
        number = self.changes[-1].number + 1 if self.changes else 1
        at = self._wall() - (self._clock() - started)
        change = Change(number, at, started, objects)
        self.changes.append(change)
        if len(self.changes) > TOLD_BY_PROXY:
            self.changes[-1 - TOLD_BY_PROXY].took.clear()
        return change

    def rows(self, change: Change) -> list[tuple[ProxyKey, Outcome | Literal["pending"], str]]:
        """Say what became of a change at each proxy: applied, refused with its reason, pending."""
        found: list[tuple[ProxyKey, Outcome | Literal["pending"], str]] = [
            (key, "applied", "") for key in change.took
        ]
        found += [(key, "refused", why) for key, why in change.refusers.items()]
        found += [
            (record.key, "pending", record.compile_error or "")
            for record in self._records.values()
            if any(pending is change for _, pending in record.pending)
        ]
        return sorted(found)

    def pending_here(self, change: Change) -> int:
        """Count the proxies that have not answered about a change and poll here, not elsewhere."""
        return sum(
            any(pending is change for _, pending in record.pending)
            for record in self._records.values()
            if record.polls or self._clock() - record.seen < PRESENT_S
        )

    def _settle(self, record: ProxyRecord, version: str, outcome: Outcome) -> None:
        """Close the changes that a version brought to a proxy, and all before it."""
        covered = 0
        for index, (pending, _) in enumerate(record.pending):
            if pending == version:
                covered = index + 1
        now = self._clock()
        for index, (_, change) in enumerate(record.pending[:covered]):
            if outcome == "refused":
                change.refused += 1
                if len(change.refusers) < REFUSERS_KEPT:
                    change.refusers[record.key] = record.refused_reason or ""
                continue
            took = now - change.started
            if index == 0:
                record.applied_s = took
            change.applied += 1
            change.slowest_s = max(change.slowest_s, took)
            change.took[record.key] = took
            self._observe_applied(took)
        del record.pending[:covered]
