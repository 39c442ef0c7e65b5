"""``bookstore``: sells books, says which version it is, and orders a new copy for each one sold.

What comes in: ``GET /books-bought`` and ``GET /buy-a-book/new``; ``IDENTITY`` or
``BOOKSTORE_VERSION``; ``BOOKWAREHOUSE_URL`` (default ``http://bookwarehouse.bookwarehouse:14001``).
What goes out: answers with the headers ``Identity`` and ``Booksbought``, and one ``POST
/restock-books`` to the warehouse per sale.

Invariants: a book is sold even when the warehouse cannot be reached (the shop sells from its
shelf); each order that failed is counted with its reason. Trace headers of the caller travel on
with the order, so that a trace shows the whole chain.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fsm_bookstore import page, settings
from fsm_bookstore.app import App, Response, json_response, main
from fsm_bookstore.client import CallFailed, ClientPool
from fsm_bookstore.counters import Counters
from fsm_bookstore.shopper import LOOK_PATH, TAKE_PATH, USER_AGENT

RESTOCK_PATH = "/restock-books"

RESTOCK_TIMEOUT_S = 2.0
"""Longest time, in seconds, that a customer waits for an order the warehouse does not answer."""

TRACE_HEADERS = (
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-request-id",
)
"""What tracers (W3C Trace Context, B3 propagation) expect an application to hand on."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop: its name, its counters, its line to the warehouse."""

    identity: str
    counters: Counters
    warehouse: ClientPool

    def books_sold(self, _: Mapping[str, str]) -> Response:
        """Answer how many books were sold so far."""
        return self._answer()

    def sell(self, headers: Mapping[str, str]) -> Response:
        """Sell one book and order the next."""
        self.counters.add("books_sold")
        self._restock({name: headers[name] for name in TRACE_HEADERS if name in headers})
        return self._answer()

    def _restock(self, trace: Mapping[str, str]) -> None:
        headers = {
            "User-Agent": USER_AGENT,
            "client-app": self.identity,
            "Content-Length": "0",
            **trace,
        }
        try:
            with self.warehouse.client() as client:
                reply = client.call("POST", RESTOCK_PATH, headers)
        except CallFailed as error:
            self.counters.fail(f"POST {RESTOCK_PATH}", str(error))
            return
        if reply.ok:
            self.counters.add("books_restocked")
        else:
            self.counters.fail(f"POST {RESTOCK_PATH}", reply.reason())

    def _answer(self) -> Response:
        sold = self.counters.snapshot()["counters"]["books_sold"]
        return json_response(
            {"identity": self.identity, "books_sold": sold},
            {"Identity": self.identity, "Booksbought": str(sold)},
        )


def build() -> App:
    """Return the application that the environment describes.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    identity = settings.identity("bookstore")
    counts = Counters("books_sold", "books_restocked", "failed")
    target = settings.target("BOOKWAREHOUSE_URL", "http://bookwarehouse.bookwarehouse:14001")
    shop = Shop(identity, counts, ClientPool(target, RESTOCK_TIMEOUT_S))
    routes = {("GET", LOOK_PATH): shop.books_sold, ("GET", TAKE_PATH): shop.sell}
    return App(identity, counts, page.BOOKSTORE, routes)


if __name__ == "__main__":
    main(build)
