"""``bookwarehouse``: hands out a copy for each order, and counts the orders by who sent them.

What comes in: ``POST /restock-books`` with the header ``client-app``. What goes out: an answer, and
``orders`` with its parts on the page and in ``/counters``.

The name in ``client-app`` is what the caller says of itself; the warehouse shows it and decides
nothing by it. Who may order is the business of the mesh.
"""

from collections.abc import Mapping

from fsm_bookstore import page, settings
from fsm_bookstore.app import App, Response, json_response, main
from fsm_bookstore.bookstore import RESTOCK_PATH
from fsm_bookstore.counters import Counters


def build() -> App:
    """Return the application that the environment describes.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    identity = settings.identity("bookwarehouse")
    counts = Counters("orders", "failed")

    def restock(headers: Mapping[str, str]) -> Response:
        name = headers.get("client-app", "")
        counts.add("orders", name if settings.IDENTITY.fullmatch(name) else "unknown")
        return json_response({"identity": identity, "restocked": 1}, {"Identity": identity})

    return App(identity, counts, page.BOOKWAREHOUSE, {("POST", RESTOCK_PATH): restock})


if __name__ == "__main__":
    main(build)
