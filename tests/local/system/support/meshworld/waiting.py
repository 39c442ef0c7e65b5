"""Waiting for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_S = 30.0
"""Longest wait for a state that should come soon, in seconds; a loaded machine has two cores."""


def until(check: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
    """Ask ``check`` until it returns something true, and return that.

    A check that raises counts as "not yet": what runs is being killed and started all the time.

    Raises:
        AssertionError: it did not come true in time; tells what was seen last.
    """
    deadline = time.monotonic() + limit_s
    seen: object = None
    while time.monotonic() < deadline:
        try:
            found = check()
        except Exception as error:
            seen = error
        else:
            if found:
                return found
            seen = found
        time.sleep(0.05)
    raise AssertionError(f"not within {limit_s:g} s: {what}; seen last: {seen!r}")
