"""The page of an application: one HTML document that follows ``/counters`` twice a second.

What comes in: a ``Look`` (title, words, colour, which counter is the headline). What goes out:
bytes of HTML that need nothing else: no fonts, scripts or images from elsewhere.

Invariants: the page holds no numbers of its own; a browser without JavaScript reloads every two
seconds and sees the JSON; whatever the server said is put into the page as text, never as HTML.
"""

import html
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Look:
    """How one application presents itself."""

    title: str
    tagline: str
    headline: str
    counter: str
    parts: str
    failures: str
    colour: str
    colour_dark: str
    icon: str


BOOKBUYER = Look(
    title="Bookbuyer",
    tagline="buys a book at every visit to the bookstore",
    headline="books bought",
    counter="books_bought",
    parts="bought from",
    failures="visits that failed",
    colour="#0f766e",
    colour_dark="#2dd4bf",
    icon='<path d="M4 5h3l2.2 10.2a2 2 0 0 0 2 1.6h6.2a2 2 0 0 0 2-1.5L21 8.5H8"/>'
    '<circle cx="11.5" cy="20" r="1.2"/><circle cx="17.5" cy="20" r="1.2"/>',
)

BOOKTHIEF = Look(
    title="Bookthief",
    tagline="makes the same requests as the buyer",
    headline="books stolen",
    counter="books_stolen",
    parts="stolen from",
    failures="attempts that failed",
    colour="#b91c1c",
    colour_dark="#f87171",
    icon='<path d="M3 10c2.6-1.7 5.8-2.2 9-.6 3.2-1.6 6.4-1.1 9 .6-.2 3.6-1.7 6-4.5 6-2.1'
    ' 0-3.1-1.6-4.5-1.6S9.6 16 7.5 16C4.7 16 3.2 13.6 3 10z"/>'
    '<path d="M6.8 12.2h2.4M14.8 12.2h2.4"/>',
)

BOOKSTORE = Look(
    title="Bookstore",
    tagline="sells books, and orders a new copy for each one sold",
    headline="books sold",
    counter="books_sold",
    parts="",
    failures="orders to the warehouse that failed",
    colour="#1d4ed8",
    colour_dark="#7aa2ff",
    icon='<path d="M12 6.5C10 5 7.2 4.5 4 4.5v13c3.2 0 6 .5 8 2 2-1.5 4.8-2 8-2v-13'
    'c-3.2 0-6 .5-8 2zM12 6.5v13"/>',
)

BOOKWAREHOUSE = Look(
    title="Bookwarehouse",
    tagline="sends a copy for each order of a bookstore",
    headline="copies delivered",
    counter="orders",
    parts="delivered to",
    failures="orders that failed",
    colour="#b45309",
    colour_dark="#fbbf24",
    icon='<path d="M3.5 9.5 12 5l8.5 4.5V19h-17zM7.5 19v-6h9v6M7.5 16h9"/>',
)


def render(look: Look, identity: str, pod: str) -> bytes:
    """Return the page of the application that calls itself ``identity`` in ``pod``."""
    template = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    # JSON inside a script element: only "</" and "<!--" could end it early.
    words = {"counter": look.counter, "parts": look.parts, "failures": look.failures}
    values = {
        "TITLE": html.escape(identity if identity.startswith("bookstore") else look.title),
        "TAGLINE": html.escape(look.tagline),
        "HEADLINE": html.escape(look.headline),
        "FAILURES": html.escape(look.failures),
        "PARTS": html.escape(look.parts),
        "COLOUR_DARK": look.colour_dark,
        "COLOUR": look.colour,
        "ICON": look.icon,
        "IDENTITY": html.escape(identity),
        "POD": html.escape(pod),
        "LOOK": json.dumps(words).replace("<", "\\u003c"),
    }
    for name, value in values.items():
        template = template.replace("{{" + name + "}}", value)
    return template.encode()
