"""``bookwarehouse``: hands out a copy for each order, and counts the orders by who sent them.

What comes in: ``POST /restock-books`` with the header ``client-app``. What goes out: an answer, and
``orders`` with its parts on the page and in ``/counters``.

With ``DATABASE_HOST`` every order is also written into a database (``ledger``), and the counters
begin with what is in there; an order that cannot be written is refused (503) and counted as failed.

The name in ``client-app`` is what the caller says of itself; the warehouse shows it and decides
nothing by it. Who may order is the business of the mesh.
"""

import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from fsm_bookstore import page, settings
from fsm_bookstore.app import App, Response, Work, json_response, log, main
from fsm_bookstore.bookstore import RESTOCK_PATH
from fsm_bookstore.counters import Counters

if TYPE_CHECKING:
    from fsm_bookstore.ledger import Ledger

RETRY_S = 1.0
"""Pause between attempts to read the ledger, seconds."""


def build() -> App:
    """Return the application that the environment describes.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    identity = settings.identity("bookwarehouse")
    counts = Counters("orders", "failed")
    database = settings.database()
    # Imported only where it is needed: the driver is no part of Python.
    ledger = None if database is None else _ledger(database, counts)

    def restock(headers: Mapping[str, str]) -> Response:
        name = headers.get("client-app", "")
        customer = name if settings.IDENTITY.fullmatch(name) else "unknown"
        if ledger is not None and (trouble := ledger.write(customer)):
            counts.fail("write an order", trouble)
            return Response(f"{trouble}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        counts.add("orders", customer)
        return json_response({"identity": identity, "restocked": 1}, {"Identity": identity})

    work: tuple[Work, ...] = () if ledger is None else (ledger.remember,)
    return App(identity, counts, page.BOOKWAREHOUSE, {("POST", RESTOCK_PATH): restock}, work)


class _Book:
    """A ledger whose earlier orders are counted once, before the first new one is written."""

    def __init__(self, ledger: "Ledger", counts: Counters) -> None:
        self._ledger = ledger
        self._counts = counts
        self._lock = threading.Lock()
        self._remembers = False

    def write(self, customer: str) -> str:
        """Write an order; returns what went wrong, or nothing."""
        from fsm_bookstore.ledger import LedgerError

        try:
            self._remember()
            self._ledger.write(customer)
        except LedgerError as error:
            return str(error)
        return ""

    def remember(self, stop: threading.Event) -> None:
        """Begin the counters with the orders of earlier lives, as soon as they can be read."""
        from fsm_bookstore.ledger import LedgerError

        while not stop.is_set():
            try:
                self._remember()
            except LedgerError as error:
                log(f"waiting for the ledger: {error}")
                stop.wait(RETRY_S)
                continue
            log("the ledger is open")
            return

    def _remember(self) -> None:
        with self._lock:
            if not self._remembers:
                for customer, count in self._ledger.totals().items():
                    self._counts.add("orders", customer, count)
                self._remembers = True


def _ledger(database: settings.Database, counts: Counters) -> _Book:
    from fsm_bookstore.ledger import Ledger

    return _Book(Ledger(database), counts)


if __name__ == "__main__":
    main(build)
