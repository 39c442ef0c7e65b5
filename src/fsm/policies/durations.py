"""Durations as Kubernetes objects write them: ``1.5s``, ``250ms``, ``1m30s``.

In: text. Out: whole milliseconds. Invariant: what is not a duration is a fault with a hint.
Source: Go, time.ParseDuration.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

from fsm.policies.strict import fault

MS_MAX = 24 * 3600 * 1000
"""LIMIT: a day; a longer one is a slip of the pen."""
_WHOLE = re.compile(r"0|(?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}


def milliseconds(value: object) -> int:
    """Return the milliseconds of a duration."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise fault(f"{value!r} is not a duration", "write a number with a unit, such as 500ms")
    ms = sum(float(number) * _MS[unit] for number, unit in _PART.findall(value))
    if ms > MS_MAX:
        raise fault(f"{value!r} is longer than a day")
    # Anything but nothing is at least something.
    return max(round(ms), 1) if ms else 0


Duration = Annotated[int, BeforeValidator(milliseconds)]
