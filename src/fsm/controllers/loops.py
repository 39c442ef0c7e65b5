"""The loop that every controller here is: look, act, wait for a signal or the period, look again.

What comes in: a reconciling coroutine function without arguments. What goes out: it is called
again and again.

``Loops`` are those of one replica: they begin in one task group, and what only the leader may write
waits until we lead.

Invariants: ``reconcile`` is never told what changed; two runs of one loop never overlap; a failure
is logged in words, repeated with a growing pause, and stops nothing else.
Not done here: anything particular.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from fsm.kube import ApiError, Backoff, Unavailable

log = logging.getLogger("fsm.controllers")

_BACKOFF = Backoff(first_s=0.2, last_s=10.0)


class Reconciler:
    """One named loop; ``poke`` wakes it, ``run`` is its task."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[], Awaitable[None]],
        *,
        period_s: float,
        delay_s: float = 0.0,
    ) -> None:
        """Make a loop.

        Args:
            name: for the log.
            reconcile: looks at the state and acts; may raise.
            period_s: the longest pause, seconds.
            delay_s: pause between a signal and the look, seconds, so that a burst makes one.
        """
        self._name = name
        self._reconcile = reconcile
        self._period_s = period_s
        self._delay_s = delay_s
        self._signal = asyncio.Event()
        self._signal.set()
        self.runs = 0

    def poke(self, *_: object) -> None:
        """Ask for another look; fits as an informer's callback."""
        self._signal.set()

    async def run(self) -> None:
        """Loop until cancelled."""
        failures = 0
        while True:
            if failures == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._period_s):
                        await self._signal.wait()
                await asyncio.sleep(self._delay_s)
            # Cleared before the look: what changes during it is looked at again.
            self._signal.clear()
            try:
                await self._reconcile()
                failures = 0
            except ApiError as error:
                failures += 1
                # An API that is away is one warning of the informers, not of every loop.
                level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
                log.log(level, "%s will be tried again: %s", self._name, error)
            except Exception:
                failures += 1
                log.exception("%s failed and will be tried again", self._name)
            self.runs += 1
            if failures:
                await asyncio.sleep(_BACKOFF.wait_s(failures, random.random()))


class Source(Protocol):
    """What tells of changes: an informer, the election, the authority."""

    def subscribe(self, callback: Callable[..., None], /) -> None:
        """Call back on each change from now on; it must not block."""


class Leader(Source, Protocol):
    """Who knows whether this replica leads, and tells when that changes."""

    @property
    def leads(self) -> bool:
        """Whether this replica leads at the moment."""


class Loops:
    """The loops of one replica."""

    def __init__(self, tasks: asyncio.TaskGroup, leader: Leader, *, period_s: float) -> None:
        """Begin none yet.

        Args:
            tasks: what they run in.
            leader: wakes every loop when it changes.
            period_s: the longest pause of a loop that names none, seconds.
        """
        self._tasks = tasks
        self._leader = leader
        self._period_s = period_s

    def always(
        self,
        name: str,
        reconcile: Callable[[], Awaitable[None]],
        *woken_by: Source,
        delay_s: float = 0.0,
        period_s: float | None = None,
    ) -> Reconciler:
        """Begin a loop that runs in every replica."""
        made = Reconciler(name, reconcile, period_s=period_s or self._period_s, delay_s=delay_s)
        for source in (self._leader, *woken_by):
            source.subscribe(made.poke)
        self._tasks.create_task(made.run())
        return made

    def leading(
        self,
        name: str,
        reconcile: Callable[[], Awaitable[None]],
        *woken_by: Source,
        delay_s: float = 0.0,
    ) -> Reconciler:
        """Begin a loop that acts only in the replica that leads."""

        async def if_ours() -> None:
            if self._leader.leads:
                await reconcile()

        return self.always(name, if_ours, *woken_by, delay_s=delay_s)
