"""``bookbuyer``: buys a book at every visit to the bookstore, and counts from which version.

What comes in: ``BOOKSTORE_URL`` (default ``http://bookstore.bookstore:14001``),
``SHOP_INTERVAL_MS``, ``PORT``. What goes out: the visits of ``shopper``, a page and ``/counters``
with ``books_bought``.
"""

from fsm_bookstore import page, settings
from fsm_bookstore.app import App, main
from fsm_bookstore.shopper import Shopper, counters


def build() -> App:
    """Return the application that the environment describes.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    identity = settings.identity("bookbuyer")
    counts = counters("books_bought")
    shopper = Shopper(
        identity=identity,
        taken="books_bought",
        target=settings.target("BOOKSTORE_URL", "http://bookstore.bookstore:14001"),
        interval_s=settings.interval_ms() / 1000,
        counters=counts,
    )
    return App(identity, counts, page.BOOKBUYER, work=(shopper.run,))


if __name__ == "__main__":
    main(build)
