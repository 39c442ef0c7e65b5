"""The loop that every controller shares: one queue, one worker per object, retries with back-off.

    event ─► key ─► queue (each key once) ─► reconcile(key) ─► done
                      ▲                          │ Retry(after_s) or an error
                      └──────── later ◄──────────┘

What comes in: keys, from events and from a clock (every key again each ``_RESYNC_S``). What goes
out: calls of ``reconcile``, never two at once for the same key.

Invariants: ``reconcile`` takes no hint of what changed; a key that changes while it is worked on is
worked on again; an error of one key delays that key only.
Not done here: what a key means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable

from fsm.kube import ApiError, Conflict

Key = tuple[str, str]
logger = logging.getLogger(__name__)

_WORKERS = 4
_RESYNC_S = 60.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 30.0


class Retry(Exception):
    """Nothing is wrong, but there is something to look at later.

    Attributes:
        after_s: when, seconds from now.
    """

    def __init__(self, after_s: float) -> None:
        super().__init__(f"look again in {after_s:g} s")
        self.after_s = after_s


class Controller(ABC):
    """One controller; run ``run()`` in a TaskGroup."""

    name = "controller"

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    @abstractmethod
    async def reconcile(self, key: Key) -> None:
        """Compare what should be with what is, for one object, and act.

        Raises:
            Retry: to be called again without anything having changed.
        """

    @abstractmethod
    def keys(self) -> Iterable[Key]:
        """List all objects, for the periodic look."""

    def look(self, key: Key) -> None:
        """Ask for a look at one object, soon."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._resync())
            for _ in range(_WORKERS):
                group.create_task(self._work())

    async def _resync(self) -> None:
        while True:
            for key in list(self.keys()):
                self.look(key)
            await asyncio.sleep(_RESYNC_S)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            self._active.add(key)
            try:
                await self._once(key)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.look(key)

    async def _once(self, key: Key) -> None:
        try:
            await self.reconcile(key)
            self._failures.pop(key, None)
        except Retry as retry:
            self._failures.pop(key, None)
            self._later(key, retry.after_s)
        except Conflict:
            # Someone else was faster; the change that beat us is on its way here.
            self._later(key, _FIRST_RETRY_S)
        except ApiError as error:
            self._failed(key, str(error))
        except Exception:
            logger.exception("a bug in a controller", extra={"controller": self.name, "key": key})
            self._failed(key, "see the traceback")

    def _failed(self, key: Key, why: str) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(count - 1, 12))
        where = "/".join(filter(None, key))
        logger.warning(
            "will try again",
            extra={"controller": self.name, "object": where, "in_s": wait_s, "why": why},
        )
        self._later(key, wait_s)

    def _later(self, key: Key, wait_s: float) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()

        def due() -> None:
            self._timers.pop(key, None)
            self.look(key)

        self._timers[key] = loop.call_later(wait_s, due)

    def close(self) -> None:
        """Cancel what is planned for later."""
        for timer in self._timers.values():
            timer.cancel()
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._queue.get_nowait()
