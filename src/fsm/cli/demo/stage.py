"""Shows the story: chapters, commands, manifests, claims, and the counters as they move.

What comes in: what the chapters say, and the observer. What goes out: on a terminal a text that
grows while a panel with live counters stays below it; in a pipe the same text, plain, with a line
of counters after each claim.

Invariants: shows only what it is given; nothing here waits or decides; it takes no input.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fsm.cli.demo.observer import EMPTY, Observer, Reading
from fsm.cli.output import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADLINES = {
    "bookbuyer": ("books_bought", "bought"),
    "bookthief": ("books_stolen", "stolen"),
    "bookstore-v1": ("books_sold", "sold"),
    "bookstore-v2": ("books_sold", "sold"),
    "bookwarehouse": ("orders", "delivered"),
    "stranger": ("books_stolen", "taken"),
}
"""The headline counter of each application, and what it is called."""

COLOURS = {
    "bookbuyer": "cyan",
    "bookthief": "red",
    "bookstore-v1": "blue",
    "bookstore-v2": "magenta",
    "bookwarehouse": "yellow",
    "stranger": "red",
}

SHARE_WIDTH = 40
"""Characters of the bar that shows how a total is shared."""

SPARKS = " ▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24
SAMPLE_S = 0.25
"""Time that one character of a spark line stands for, in seconds."""


class Stage:
    """Where the demo is shown; used with ``with``."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=False)
        self.chapter_number = 0
        self._panel: _Panel | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide_counters()

    def show_counters(self, observer: Observer) -> None:
        """Keep the live counters below the text from now on (on a terminal)."""
        self._panel = _Panel(observer)
        if self.console.is_terminal and self._live is None:
            self._live = Live(
                self._panel, console=self.console, refresh_per_second=8, transient=True
            )
            self._live.start()

    def hide_counters(self) -> None:
        """Take the live counters away."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._panel = None

    def title(self, title: str, line: str) -> None:
        """Open the story."""
        self._gap()
        self._line(Text(title, style="bold"))
        self._line(Text(line, style="dim"))
        self._gap()

    def chapter(self, title: str, *lines: str) -> None:
        """Open a chapter with a sentence or two."""
        self.chapter_number += 1
        self._heading(Text.assemble((f"{self.chapter_number} ", "bold cyan"), (title, "bold")))
        for line in lines:
            self.say(line)

    def ending(self, title: str, *lines: str) -> None:
        """Close the story."""
        self._heading(Text(title, style="bold green"))
        for line in lines:
            self.say(line)

    def command(self, *lines: str) -> None:
        """Show a command that does what happens now."""
        self._gap()
        for number, line in enumerate(lines):
            mark = ("  " if number else "$ ", "dim")
            self._line(Text.assemble(mark, (line, "bold")), 2)

    def excerpt(self, lines: Sequence[str]) -> None:
        """Show a part of a manifest; lines that start with + or - are changes."""
        styles = {"+": "green", "-": "red"}
        for line in lines:
            self._line(Text(f"│ {line}", style=styles.get(line[:1], "dim")), 4)

    def dump(self, lines: Sequence[str], note: str) -> None:
        """Show some bytes as they were on the wire."""
        for line in lines:
            self._line(Text(line, style="dim"), 4)
        self._line(Text(note, style="dim italic"), 4)

    def applied(self, text: str) -> None:
        """Tell how fast a change arrived."""
        self._line(Text.assemble(("→ ", "cyan"), (text, "cyan")), 2)

    def proven(self, claim: str, evidence: str) -> None:
        """Tell a claim that holds, with the numbers that show it."""
        self._line(Text.assemble(("✓ ", "bold green"), claim), 2)
        self._line(Text(evidence, style="dim"), 4)
        if self._panel is not None and not self.console.is_terminal:
            self._line(Text(self._panel.line()), 4)

    def disproven(self, claim: str) -> None:
        """Tell a claim that does not hold."""
        self._line(Text.assemble(("✗ ", "bold red"), (claim, "bold red")), 2)

    def share(self, parts: Mapping[str, int]) -> None:
        """Show how a total is made up of its parts, as one bar."""
        total = sum(parts.values()) or 1
        bar = Text()
        for name, count in parts.items():
            bar.append("█" * round(SHARE_WIDTH * count / total), style=COLOURS.get(name, ""))
        words = "   ".join(f"{n} {c} = {100 * c / total:.1f} %" for n, c in parts.items())
        self._line(Text.assemble(bar, "  ", words), 4)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a small table of results."""
        if not self.console.is_terminal:
            for line in plain_table(columns, rows).splitlines():
                self._line(Text(line), 2)
            return
        drawn = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        for index, name in enumerate(columns):
            drawn.add_column(name, justify="left" if index == 0 else "right")
        for row in rows:
            drawn.add_row(*row)
        self.console.print(Padding(drawn, (0, 0, 0, 2)))

    def say(self, text: str = "", style: str = "") -> None:
        """Show a line of the story."""
        self._line(Text(text, style=style), 2 if text else 0)

    def _heading(self, title: Text) -> None:
        self._gap()
        if self.console.is_terminal:
            self.console.print(Rule(title, align="left", style="dim"))
        else:
            self._line(title)
            self._line(Text("-" * len(title.plain)))

    def _gap(self) -> None:
        self.console.print()

    def _line(self, text: Text, indent: int = 0) -> None:
        if self.console.is_terminal:
            self.console.print(Padding(text, (0, 0, 0, indent)))
        else:
            # In a pipe nobody knows a width: one line of text is one line, without padding.
            self.console.print(Text(" " * indent) + text, soft_wrap=True)


class _Panel:
    """The live counters; drawn anew eight times a second by ``Live``."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def __rich__(self) -> RenderableType:
        rows = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        for app in HEADLINES:
            reading = self._observer.readings.get(app)
            if reading is not None:
                rows.add_row(*self._row(app, reading))
        return Padding(Group(Rule(style="dim"), rows), (1, 0, 0, 0))

    def line(self) -> str:
        """Return the counters as one line of text."""
        parts = [
            f"{app} {HEADLINES[app][1]} {self._observer.readings[app].count(HEADLINES[app][0])}"
            for app in HEADLINES
            if app in self._observer.readings
        ]
        return " · ".join(parts)

    def _row(self, app: str, reading: Reading) -> list[Text]:
        counter, verb = HEADLINES[app]
        count = reading.count(counter)
        rates = self._rates(app, reading, counter)
        top = max([*rates, 1.0])
        spark = "".join(SPARKS[round((len(SPARKS) - 1) * rate / top)] for rate in rates)
        recent = rates[-4:]
        rate = sum(recent) / len(recent) if recent else 0.0
        colour = COLOURS[app]
        return [
            Text(app, style=colour),
            Text(f"{count:,}", style="bold", justify="right"),
            Text(verb, style="dim"),
            Text(f"{rate:5.0f}/s", style="dim" if rate < 0.5 else ""),
            Text(spark.rjust(SPARK_WIDTH), style=colour),
            Text(self._trouble(reading, rate), style="dim", overflow="ellipsis", no_wrap=True),
        ]

    def _trouble(self, reading: Reading, rate: float) -> str:
        # The last failure stays in the counters for ever; it is news only while nothing succeeds.
        if rate >= 0.5 or reading.last_failure is None:
            return ""
        return reading.last_failure

    def _rates(self, app: str, reading: Reading, counter: str) -> list[float]:
        samples = self._samples.setdefault(app, deque(maxlen=SPARK_WIDTH + 1))
        newest = samples[-1] if samples else (0.0, 0)
        if reading is not EMPTY and reading.at >= newest[0] + SAMPLE_S:
            if reading.count(counter) < newest[1]:
                samples.clear()
            samples.append((reading.at, reading.count(counter)))
        pairs = list(samples)
        rates = [(b[1] - a[1]) / max(b[0] - a[0], 0.001) for a, b in itertools.pairwise(pairs)]
        stale = time.monotonic() - reading.at > 1.0
        return [*rates[:-1], 0.0] if stale and rates else rates
