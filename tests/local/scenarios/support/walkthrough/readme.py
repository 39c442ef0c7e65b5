"""Reads what a README tells its readers to type, and what it promises.

What comes in: Markdown. What goes out: one `Step` per command of its blocks of kind `console`:
lines that begin with `$ ` (and `> ` where they go on), followed by what the command shows.

What is shown is compared line by line, blanks at ends and runs of blanks aside. `...` within a line
stands for any text, alone on a line for any lines; a command that shows nothing may print anything,
but must succeed. A last line `command terminated with exit code N` promises that exit code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_EXIT = re.compile(r"command terminated with exit code (\d+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One command and its promised outcome."""

    line: int
    command: str
    shows: tuple[str, ...]
    exit_code: int

    def __str__(self) -> str:
        return f"line {self.line}: $ {self.command}"

    def fits(self, output: str, exit_code: int) -> bool:
        """Whether an outcome is the promised one."""
        if exit_code != self.exit_code:
            return False
        return not self.shows or bool(_pattern(self.shows).fullmatch(_plain(output)))


def read(path: Path) -> list[Step]:
    """Return the steps of a README; there must be some."""
    steps: list[Step] = []
    inside = False
    open_step: tuple[int, list[str], list[str]] | None = None

    def finish() -> None:
        nonlocal open_step
        if open_step is not None:
            line, command, shows = open_step
            while shows and not shows[-1].strip():
                shows.pop()
            found = _EXIT.fullmatch(shows[-1].strip()) if shows else None
            code = int(found[1]) if found else 0
            steps.append(Step(line, "\n".join(command), tuple(shows), code))
        open_step = None

    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith("```"):
            finish()
            inside = text == "```console"
        elif inside and text.startswith("$ "):
            finish()
            open_step = (number, [text[2:]], [])
        elif inside and open_step is not None:
            if text.startswith("> ") and not open_step[2]:
                open_step[1].append(text[2:])
            else:
                open_step[2].append(text)
    finish()
    assert steps, f"{path} shows no command"
    return steps


def _plain(output: str) -> str:
    lines = [" ".join(line.split()) for line in output.strip().splitlines()]
    # Documents ask for a terminal with -t; kubectl says that a test has none.
    return "\n".join(line for line in lines if not line.startswith("Unable to use a TTY"))


def _pattern(shows: tuple[str, ...]) -> re.Pattern[str]:
    parts = []
    for index, line in enumerate(shows):
        text = " ".join(line.split())
        last = index == len(shows) - 1
        if text == "...":
            parts.append(r"(?:.*(?:\n|\Z))*?")
            continue
        # Four dots are a dot and three more: `10....` is an address.
        escaped = ".*".join(map(re.escape, re.split(r"\.{3,}", text)))
        parts.append(escaped + (r"\n?" if last else r"(?:\n|\Z)"))
    return re.compile("".join(parts))
