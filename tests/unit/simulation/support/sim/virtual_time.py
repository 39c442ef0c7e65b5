"""An event loop whose clock jumps to the next timer, so that hours pass in milliseconds.

In: a coroutine. Out: its result. Invariants: what runs in it runs in an order that depends on the
program alone; a loop that would wait for ever says so instead.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """Nothing is ready and no timer is set: nothing will ever happen again."""


class _Selector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise Stuck
            self.loop.passed += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; ``passed`` is its clock in seconds."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.passed = 1_000.0
        super().__init__(selector)
        # A timer that is due but for rounding is due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.passed


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
