"""Shows the steps of a command as they happen, with the time each took, on stderr.

What comes in: the name of each step as it begins. What goes out: on a terminal a line that turns
while the step runs and then stays with its time; in a pipe one line per finished step.

Invariant: a step that failed is marked as such, and the exception goes on.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


class Steps:
    """A running list of steps; used with ``with``."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True, highlight=False)
        self._name: str | None = None
        self._began_at = 0.0
        self._spinner: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish(failed=kind is not None)

    def begin(self, name: str) -> None:
        """End the step that runs, if any, and begin the next."""
        self._finish()
        self._name, self._began_at = name, time.monotonic()
        if self._console.is_terminal:
            self._spinner = self._console.status(f"[dim]{name} …", spinner_style="dim")
            self._spinner.start()

    def note(self, text: str) -> None:
        """Write a line that is no step."""
        self._finish()
        self._console.print(text, markup=False, soft_wrap=True)

    def _finish(self, *, failed: bool = False) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if self._name is None:
            return
        took_s = time.monotonic() - self._began_at
        mark = "[red]✗[/red]" if failed else "[green]✓[/green]"
        name = self._name[:1].upper() + self._name[1:]
        self._console.print(f"{mark} {name} [dim]{took_s:.1f} s[/dim]")
        self._name = None
