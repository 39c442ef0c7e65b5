"""Follows the counters of the applications while the story goes on.

What comes in: the Pods of the applications. What goes out: the newest ``Reading`` of each, and the
``Window`` between an earlier moment and now.

Invariants: a reading is what ``/counters`` answered, and is dated to the moment it was asked for,
so that it never seems newer than it is; an application that starts anew (its counters shrink) makes
windows over that moment invalid, and they say so; losing an application for a while is not hidden,
its reading just grows old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsm.cli.errors import Failure
from fsm.cli.podhttp import PodHttp

if TYPE_CHECKING:
    from fsm.kube import KubeClient

APP_PORT = 14001

POLL_S = 0.1
"""Pause between two readings of an application, in seconds."""

FRESH_TIMEOUT_S = 10.0
"""How long an application may be silent before the story cannot go on, in seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one application at one moment."""

    at: float
    counters: Mapping[str, int]
    failures: Mapping[str, int]
    last_failure: str | None

    def count(self, name: str) -> int:
        """Return one counter; one that was never touched is 0."""
        return self.counters.get(name, 0)


EMPTY = Reading(0.0, {}, {}, None)


class RestartedApp(Exception):
    """An application lost its counters in the middle of a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two moments."""

    before: Mapping[str, Reading]
    after: Mapping[str, Reading]

    def count(self, app: str, name: str) -> int:
        """Return by how much a counter grew.

        Raises:
            RestartedApp: the application was started anew meanwhile.
        """
        grown = self._now(app).count(name) - self._then(app).count(name)
        if grown < 0:
            raise RestartedApp(f"{app} lost its counters (did its process end?)")
        return grown

    def failures(self, app: str) -> dict[str, int]:
        """Return the failures that happened, by reason, the most frequent first."""
        then, now = self._then(app).failures, self._now(app).failures
        grown = {reason: n - then.get(reason, 0) for reason, n in now.items()}
        return dict(sorted(((r, n) for r, n in grown.items() if n > 0), key=lambda item: -item[1]))

    def seconds(self, app: str) -> float:
        """Return the time between the two readings of an application, in seconds."""
        return max(0.0, self._now(app).at - self._then(app).at)

    def _then(self, app: str) -> Reading:
        return self.before.get(app, EMPTY)

    def _now(self, app: str) -> Reading:
        return self.after.get(app, EMPTY)


@dataclass(slots=True)
class Observer:
    """Polls the applications it was told of, each in its own task."""

    client: KubeClient
    readings: dict[str, Reading] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def follow(self, app: str, namespace: str, pod: str) -> None:
        """Follow ``app`` in this Pod from now on."""
        if app in self._tasks:
            self._tasks[app].cancel()
        self.readings.pop(app, None)
        self._tasks[app] = asyncio.create_task(self._poll(app, namespace, pod), name=app)

    def mark(self) -> dict[str, Reading]:
        """Return the readings as they are now: the beginning of a window."""
        return dict(self.readings)

    def since(self, mark: Mapping[str, Reading]) -> Window:
        """Return the window from ``mark`` to now."""
        return Window(mark, dict(self.readings))

    async def fresh(self) -> dict[str, Reading]:
        """Return readings that were all asked for after this call, as the beginning of a window.

        Raises:
            Failure: an application gave none within ``FRESH_TIMEOUT_S``.
        """
        start = time.monotonic()
        while old := [app for app in self._tasks if self._age(app) <= start]:
            if time.monotonic() > start + FRESH_TIMEOUT_S:
                names = ", ".join(old)
                raise Failure(f"no counters from {names} for {FRESH_TIMEOUT_S:g} s")
            await self.news()
        return self.mark()

    async def news(self) -> None:
        """Wait for the next reading of any application, or for two polls without one."""
        self._news.clear()
        try:
            async with asyncio.timeout(2 * POLL_S):
                await self._news.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def _age(self, app: str) -> float:
        return self.readings.get(app, EMPTY).at

    async def _poll(self, app: str, namespace: str, pod: str) -> None:
        from fsm.kube import ApiError

        http = PodHttp(self.client, namespace, pod, APP_PORT)
        try:
            while True:
                try:
                    asked_at = time.monotonic()
                    answer = await http.get_json("/counters", timeout_s=2.0)
                    self.readings[app] = _reading(asked_at, answer)
                    self._news.set()
                except (Failure, ApiError):
                    # The application may be starting, or its Pod be on its way out. What the
                    # story claims is decided by readings; a missing one can prove nothing.
                    pass
                await asyncio.sleep(POLL_S)
        finally:
            await http.close()


def _reading(asked_at: float, answer: Any) -> Reading:
    if not isinstance(answer, dict):
        raise Failure("the application does not answer with its counters")
    return Reading(
        asked_at,
        {str(k): int(v) for k, v in answer.get("counters", {}).items()},
        {str(k): int(v) for k, v in answer.get("failures", {}).items()},
        answer.get("last_failure"),
    )
