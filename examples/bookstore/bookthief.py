"""``bookthief``: makes the same requests as the buyer, under its own name.

What comes in: ``BOOKSTORE_URL`` (default ``http://bookstore.bookstore:14001``),
``SHOP_INTERVAL_MS``, ``PORT``. What goes out: the visits of ``shopper``, a page and ``/counters``
with ``books_stolen``.

Nothing in its requests is forged: whether it gets a book is decided by the identity that its
ServiceAccount proves, and by the policies.
"""

from fsm_bookstore import page, settings
from fsm_bookstore.app import App, main
from fsm_bookstore.shopper import Shopper, counters


def build() -> App:
    """Return the application that the environment describes.

    Raises:
        SettingsError: a variable holds something unusable.
    """
    identity = settings.identity("bookthief")
    counts = counters("books_stolen")
    shopper = Shopper(
        identity=identity,
        taken="books_stolen",
        target=settings.target("BOOKSTORE_URL", "http://bookstore.bookstore:14001"),
        interval_s=settings.interval_ms() / 1000,
        counters=counts,
    )
    return App(identity, counts, page.BOOKTHIEF, work=(shopper.run,))


if __name__ == "__main__":
    main(build)
