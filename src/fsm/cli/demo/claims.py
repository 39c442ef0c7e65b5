"""Decides whether what the story says is true, by counters, within a deadline.

What comes in: an observer, a condition over a ``Window``, a deadline. What goes out: the window in
which the claim was decided, or ``ClaimFailed``.

There are three kinds. ``becomes`` waits for something to happen, ``settles`` for something to
happen no more. ``holds`` collects evidence, a number of requests, and looks at all of it at once: a
single request that contradicts the claim fails it.

Invariant: no claim passes without evidence; too little of it within the deadline is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fsm.cli.demo.observer import Observer, Reading, RestartedApp, Window
from fsm.cli.errors import Failure

DEADLINE_S = 20.0
"""Longest time for any claim, in seconds. On an idle laptop they take a tenth of it."""


class ClaimFailed(Failure):
    """A claim of the story is not true. The demo ends."""

    def __init__(self, claim: str, expected: str, seen: str) -> None:
        super().__init__(
            f"this does not hold: {claim}\n  expected: {expected}\n  seen:     {seen}",
        )
        self.claim = claim


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a window shows or not.

    Attributes:
        expected: in words, what must be seen.
        met: whether the window shows it.
        seen: in words, what the window shows instead.
    """

    expected: str
    met: Callable[[Window], bool]
    seen: Callable[[Window], str]


async def becomes(
    observer: Observer,
    claim: str,
    condition: Condition,
    mark: Mapping[str, Reading],
    deadline_s: float = DEADLINE_S,
) -> Window:
    """Wait until the window from ``mark`` shows ``condition``.

    Raises:
        ClaimFailed: it does not within ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    while True:
        window = observer.since(mark)
        if _met(condition, window):
            return window
        if time.monotonic() > end:
            raise ClaimFailed(
                claim, f"{condition.expected}, within {deadline_s:g} s", _seen(condition, window)
            )
        await observer.news()


async def holds(
    observer: Observer,
    claim: str,
    evidence: Condition,
    condition: Condition,
    deadline_s: float = DEADLINE_S,
) -> Window:
    """Collect ``evidence`` from now on, then judge it by ``condition``.

    Raises:
        ClaimFailed: too little evidence within ``deadline_s`` seconds, or it contradicts.
    """
    window = await becomes(observer, claim, evidence, await observer.fresh(), deadline_s)
    if not _met(condition, window):
        raise ClaimFailed(claim, condition.expected, _seen(condition, window))
    return window


async def settles(
    observer: Observer,
    claim: str,
    evidence: Condition,
    condition: Condition,
    deadline_s: float = DEADLINE_S,
) -> float:
    """Wait until a whole piece of ``evidence`` shows ``condition``; return when it began.

    For changes that show by something that no longer happens.

    Raises:
        ClaimFailed: no piece of evidence shows it within ``deadline_s`` seconds.
    """
    end = time.monotonic() + deadline_s
    while True:
        mark = await observer.fresh()
        began_at = time.monotonic()
        window = await becomes(observer, claim, evidence, mark, max(1.0, end - began_at))
        if _met(condition, window):
            return began_at
        if time.monotonic() > end:
            raise ClaimFailed(
                claim, f"{condition.expected}, within {deadline_s:g} s", _seen(condition, window)
            )


def _met(condition: Condition, window: Window) -> bool:
    try:
        return condition.met(window)
    except RestartedApp:
        return False


def _seen(condition: Condition, window: Window) -> str:
    try:
        return condition.seen(window)
    except RestartedApp as error:
        return str(error)
