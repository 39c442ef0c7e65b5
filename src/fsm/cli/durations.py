"""Durations as people type them (``90s``, ``5m``, ``1m30s``), and as tables show them.

What comes in: text, or seconds. What goes out: the other. Invariant: what is no duration is refused
in words.
"""

from __future__ import annotations

import re

from fsm.cli.errors import ExitCode, Failure


def seconds(text: str) -> float:
    """Return a duration such as ``90s``, ``5m`` or ``1m30s`` in seconds.

    Raises:
        Failure: it is no such duration.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None or not any(match.groups()):
        raise Failure(f"{text!r} is not a duration (90s, 5m, 1m30s)", code=ExitCode.USAGE)
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + rest)


def short(value: float | None) -> str:
    """Return a time to applied for a table: ``7 ms``, ``1.3 s``; ``-`` when there is none."""
    if value is None:
        return "-"
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"
