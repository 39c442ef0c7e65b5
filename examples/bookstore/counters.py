"""What an application counted: named counters, and failures with their reasons.

Threads of the web server and of the shopping loop add; ``snapshot`` gives one consistent view of
all of them. Names are ``noun_verb`` with an optional ``.part``: ``books_bought`` is the sum of its
parts ``books_bought.bookstore-v1``, ``books_bought.bookstore-v2`` and so on.

Invariants: counters only grow until ``reset``; the failures in ``reasons`` add up to ``failed``.
"""

import threading
import time
from typing import TypedDict

REASONS_MAX = 32
"""LIMIT: distinct reasons kept; a peer that answers ever new texts ends up in ``OTHER``."""

NAMES_MAX = 64
"""LIMIT: distinct counters; a part beyond it is left out, its sum stays right."""

OTHER = "other reasons"


class Snapshot(TypedDict):
    """One consistent view of the counters, as ``GET /counters`` answers it."""

    counters: dict[str, int]
    failures: dict[str, int]
    last_failure: str | None
    resets: int
    since_s: float


class Counters:
    """Thread-safe counters of one application."""

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()
        self._names = names
        self._reasons: dict[str, int] = {}
        self._last_failure: str | None = None
        self._resets = 0
        self._clear()

    def add(self, name: str, part: str | None = None, count: int = 1) -> None:
        """Count one ``name``, or several, and, when given, as many of its part."""
        with self._lock:
            self._add(name, count)
            if part is not None:
                self._add(f"{name}.{part}", count)

    def fail(self, what: str, reason: str) -> None:
        """Count one failed attempt at ``what`` (such as ``GET /books-bought``)."""
        text = f"{what}: {reason}"
        with self._lock:
            self._add("failed")
            known = text in self._reasons or len(self._reasons) < REASONS_MAX
            key = text if known else OTHER
            self._reasons[key] = self._reasons.get(key, 0) + 1
            self._last_failure = text

    def snapshot(self) -> Snapshot:
        """Return all counters as they stand at one moment."""
        with self._lock:
            return Snapshot(
                counters=dict(self._counts),
                failures=dict(self._reasons),
                last_failure=self._last_failure,
                resets=self._resets,
                since_s=round(time.monotonic() - self._since, 3),
            )

    def reset(self) -> None:
        """Forget everything counted so far."""
        with self._lock:
            self._resets += 1
            self._clear()

    def _clear(self) -> None:
        self._counts = dict.fromkeys(self._names, 0)
        self._reasons = {}
        self._last_failure = None
        self._since = time.monotonic()

    def _add(self, name: str, count: int = 1) -> None:
        if name in self._counts or len(self._counts) < NAMES_MAX:
            self._counts[name] = self._counts.get(name, 0) + count
