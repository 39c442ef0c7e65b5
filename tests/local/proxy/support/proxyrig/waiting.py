"""Waiting for a state, with a deadline. Nothing here waits for time to pass."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 10.0


async def until(
    state: Callable[[], T | Awaitable[T]], what: str, deadline_s: float = DEADLINE_S
) -> T:
    """Ask until the answer is true; fail with what was awaited and the last answer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        answer = state()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() > end:
            raise AssertionError(
                f"not within {deadline_s} s: {what}; the last answer was {value!r}"
            )
        await asyncio.sleep(0.005)
