"""The shopping loop of ``bookbuyer`` and ``bookthief``: visit after visit, at a steady pace.

A visit is two requests, as in the OSM demo: a look at what was bought (``/books-bought``), then a
book (``/buy-a-book/new``). Which shop answered is what the answer says of itself (``Identity``).

Invariants: a book counts only when an answer with status 2xx arrived; the pace is kept whatever the
answers are, so that a refusal and its end are both seen at the next visit; the headers are those
that the route groups of the demo match (``client-app``, a ``…-http-client/…`` user agent,
``host``).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fsm_bookstore import settings
from fsm_bookstore.app import log
from fsm_bookstore.client import CallFailed, Client, Reply
from fsm_bookstore.counters import Counters

USER_AGENT = "bookstore-http-client/1.1"

LOOK_PATH = "/books-bought"
TAKE_PATH = "/buy-a-book/new"

SUMMARY_EVERY_S = 10.0
"""Seconds between two summaries in the log; changes are logged when they happen."""


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who goes shopping, where, and how often."""

    identity: str
    taken: str
    target: settings.Target
    interval_s: float
    counters: Counters
    clock: Callable[[], float] = time.monotonic

    def run(self, stop: threading.Event) -> None:
        """Visit the shop every ``interval_s`` seconds until ``stop`` is set."""
        client = Client(self.target)
        told = _Changes(self.identity)
        next_visit_at = self.clock()
        next_summary_at = next_visit_at + SUMMARY_EVERY_S
        while not stop.is_set():
            for path in (LOOK_PATH, TAKE_PATH):
                told.outcome(path, self.request(client, path))
            now = self.clock()
            if now >= next_summary_at:
                self._summarise()
                next_summary_at = now + SUMMARY_EVERY_S
            # A visit that took longer than the interval is not made up for by a burst.
            next_visit_at = max(next_visit_at + self.interval_s, now)
            stop.wait(next_visit_at - now)
        client.close()

    def request(self, client: Client, path: str) -> str:
        """Make one request, count it, and return its outcome in words."""
        headers = {"User-Agent": USER_AGENT, "client-app": self.identity, "Accept": "*/*"}
        self.counters.add("requests")
        try:
            reply = client.call("GET", path, headers)
        except CallFailed as error:
            self.counters.fail(f"GET {path}", str(error))
            return str(error)
        if not reply.ok:
            self.counters.fail(f"GET {path}", reply.reason())
            return reply.reason()
        self.counters.add("succeeded")
        if path == TAKE_PATH:
            self.counters.add(self.taken, _shop(reply))
        return f"{reply.status} OK"

    def _summarise(self) -> None:
        counts = self.counters.snapshot()["counters"]
        log(
            f"{self.identity}: {counts[self.taken]} {self.taken.replace('_', ' ')}, "
            f"{counts['succeeded']} of {counts['requests']} requests succeeded"
        )


class _Changes:
    """Logs the outcome of a path when it differs from the one before."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._last: dict[str, str] = {}

    def outcome(self, path: str, outcome: str) -> None:
        before = self._last.get(path)
        if before != outcome:
            was = "" if before is None else f" (was: {before})"
            log(f"{self._identity}: GET {path}: {outcome}{was}")
            self._last[path] = outcome


def counters(taken: str) -> Counters:
    """Return the counters of a shopper that counts its books as ``taken``."""
    return Counters(taken, "requests", "succeeded", "failed")


def _shop(reply: Reply) -> str:
    name = reply.headers.get("identity", "")
    return name if settings.IDENTITY.fullmatch(name) else "unknown"
