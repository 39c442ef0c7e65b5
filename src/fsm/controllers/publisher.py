"""Turns changes of the world into configurations of the proxies that are connected.

What comes in: batches of changes, new proxies, a compiler. What goes out: what the registry of
delivery hands to the proxies.

    batch of changes ──► snapshot ──► for each proxy it may concern: compile ──► differs? publish
    new proxy ──────────────────────► for this one

Which proxies a change may concern the compiler knows: it remembers what it read for each.

Invariants: a proxy whose configuration cannot be compiled keeps the one it has, and the reason is
reported, and it is tried again with every change; where the next snapshot cannot be made from the
last, it is made from nothing, and if that fails too the last one stays in force; while it compiles
for many, the event loop goes on serving (a pause of at most ``SLICE_S``).
Not done here: the meaning of objects (``fsm.compile``), when a batch is closed (``world``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from fsm.controllers.world import Batch, Touched, World
from fsm.delivery import Change, Compiled, ProxyKey, ProxyRegistry
from fsm.delivery.registry import Known, ProxyRecord

log = logging.getLogger("fsm.publisher")

# LIMIT: how long one turn of the event loop may compile; polls and webhooks wait meanwhile.
SLICE_S = 0.01

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Compiler(Protocol[S_co]):
    """What makes configurations; ``engine`` is the real one."""

    def begin(self, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> S_co:
        """Index all objects, whatever was known; broken ones are left out and reported."""
        ...

    def update(self, touched: Iterable[Touched]) -> S_co:
        """Index what there is news of."""
        ...

    def due(self) -> list[ProxyKey]:
        """Return the proxies that ``compile`` was called for and whose result may be another."""
        ...

    def compile(self, proxy: ProxyKey) -> Compiled | None:
        """Compile for one proxy; ``None``: its Pod is not known (yet), or not in the mesh."""
        ...

    def forget(self, proxy: ProxyKey) -> None:
        """Compile for this proxy no more."""
        ...


class Publisher(Generic[S]):
    """Keeps every connected proxy's configuration the one that the world demands."""

    def __init__(
        self,
        world: World,
        registry: ProxyRegistry,
        compiler: Compiler[S],
        metrics: CollectorRegistry,
        *,
        coalesce_s: float,
        on_snapshot: Callable[[S, Change | None], None] = lambda snapshot, change: None,
        prepare: Callable[[Iterable[Mapping[str, Any]]], Awaitable[None]] | None = None,
    ) -> None:
        """Put it together.

        Args:
            world: tells of changes.
            registry: knows the proxies.
            compiler: compiles.
            metrics: where the figures go.
            coalesce_s: how long a batch of changes stays open, seconds.
            on_snapshot: is told of each snapshot once it is published, with what caused it.
            prepare: is given the Plugins that changed before they are compiled.
        """
        self._world = world
        self._registry = registry
        self._compiler = compiler
        self._coalesce_s = coalesce_s
        self._on_snapshot = on_snapshot
        self._prepare = prepare
        self._new: dict[ProxyKey, None] = {}
        self._new_arrived = asyncio.Event()
        self._lock = asyncio.Lock()
        self._lost = False
        self._anew = False
        self.snapshot: S | None = None
        self.active_at = time.monotonic()
        """When there was something to do last, monotonic seconds."""
        self._update_time = Histogram(
            "fsm_proxy_config_update_time",
            "Seconds to compile and publish one change for all connected proxies.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=metrics,
        )
        self._broadcasts = Counter(
            "fsm_proxy_broadcast_event_count", "Changes that were published.", registry=metrics
        )
        self._failures = Counter(
            "fsm_compile_failure_count",
            "Configurations that could not be compiled.",
            registry=metrics,
        )

    def new_proxy(self, record: ProxyRecord) -> None:
        """Note a proxy that has no configuration yet; it gets one in a moment."""
        self._new[record.key] = None
        self._new_arrived.set()

    async def first(self) -> None:
        """Build the first snapshot; call it when the world is synced, before ``run``.

        Unlike later ones it must succeed, for without it there is nothing to go on with.
        """
        objects = self._world.objects()
        await self._prepared(objects.get("Plugin", ()))
        self.snapshot = self._compiler.begin(objects)
        self._registry.objects = {
            name: Known(generation or 0, None) for name, generation in self._world.ours().items()
        }
        self._on_snapshot(self.snapshot, None)

    async def run(self) -> None:
        """Follow the world until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_changes())
            tasks.create_task(self._serve_new())

    async def _follow_changes(self) -> None:
        while True:
            batch = await self._world.next_batch(self._coalesce_s)
            async with self._lock:
                try:
                    await self._publish(batch)
                except Exception:
                    # The objects are read leniently; what gets here is a fault of ours, and the
                    # proxies are better served by yesterday's truth than by none.
                    self._failures.inc()
                    log.exception("cannot make a snapshot of %s", ", ".join(batch.objects))

    async def _publish(self, batch: Batch) -> None:
        self._registry.forget(batch.gone)
        for key in batch.gone:
            self._compiler.forget(key)
        await self._prepared(
            found.obj for found in batch.touched if found.kind == "Plugin" and found.obj is not None
        )
        snapshot = self._next_snapshot(batch)
        self.snapshot = snapshot
        change = self._registry.begin_change(batch.started, batch.objects)
        self._note(batch, change)
        await self._compile_all(self._concerned(), change)
        change.published = True
        self.active_at = time.monotonic()
        change.compile_s = time.monotonic() - batch.started
        self._update_time.observe(change.compile_s)
        self._broadcasts.inc()
        # A change that concerns nobody is no news.
        log.log(
            logging.INFO if change.proxies else logging.DEBUG,
            "change published number=%d proxies=%d took_ms=%.1f objects=%s",
            change.number,
            change.proxies,
            change.compile_s * 1000,
            ",".join(batch.objects),
        )
        self._on_snapshot(snapshot, change)

    async def _prepared(self, plugins: Iterable[Mapping[str, Any]]) -> None:
        listed = list(plugins)
        if listed and self._prepare is not None:
            await self._prepare(listed)

    def _note(self, batch: Batch, change: Change) -> None:
        for name, generation in batch.ours.items():
            self._registry.note(name, generation, change)

    def _concerned(self) -> list[ProxyKey]:
        if not self._anew:
            return self._compiler.due()
        self._anew = False
        return [record.key for record in self._registry.records()]

    def _next_snapshot(self, batch: Batch) -> S:
        if not self._lost:
            try:
                return self._compiler.update(batch.touched)
            except Exception:
                self._failures.inc()
                log.exception("cannot apply a change, starting anew %s", ", ".join(batch.objects))
        # Until it has succeeded, what the compiler remembers is not to be built upon.
        self._lost = True
        snapshot = self._compiler.begin(self._world.objects())
        self._lost = False
        self._anew = True
        return snapshot

    async def _serve_new(self) -> None:
        while True:
            await self._new_arrived.wait()
            async with self._lock:
                self._new_arrived.clear()
                keys = list(self._new)
                self._new.clear()
                # A Pod that the snapshot does not know yet comes with the batch that brings it.
                await self._compile_all(keys, None)
                self.active_at = time.monotonic()

    async def _compile_all(self, keys: list[ProxyKey], change: Change | None) -> None:
        turn = time.monotonic()
        for key in keys:
            record = self._registry.get(key)
            if record is None:
                continue
            self._compile_one(record, change)
            if time.monotonic() - turn > SLICE_S:
                await asyncio.sleep(0)
                turn = time.monotonic()

    def _compile_one(self, record: ProxyRecord, change: Change | None) -> None:
        try:
            compiled = self._compiler.compile(record.key)
        except Exception as error:
            self._failures.inc()
            record.compile_error = f"{type(error).__name__}: {error}"
            log.exception("cannot compile, the proxy keeps what it has proxy=%s", record.key)
            return
        if compiled is None:
            self._registry.withdraw(record.key)
        else:
            self._registry.publish(record.key, compiled, change)
