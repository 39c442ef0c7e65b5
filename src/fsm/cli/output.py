"""Tables and data on stdout: for eyes on a terminal, for programs in a pipe.

What comes in: rows of text, or plain data. What goes out: on a terminal a table with a heading
that stands out; in a pipe the same columns, plain, one line per row; with ``-o json`` or ``yaml``
the data.

Invariants: nothing but data goes to stdout; in a pipe a cell never spans lines; colours follow
``NO_COLOR`` and the kind of terminal.
"""

import enum
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

MIN_WIDTH = 6
PADDING = 3
"""Columns of plain tables are at least 6 wide and 3 apart, as users of these tables know them."""


class Format(enum.StrEnum):
    """How a command writes its data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="How to write it.", show_default=True)
]

Data = dict[str, object] | list[dict[str, object]]


def emit(output: Format, data: Data, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write ``data``, or the table that stands for it."""
    if output is Format.JSON:
        print(json.dumps(data, indent=2, default=str))
    elif output is Format.YAML:
        import yaml

        # Through JSON, so that both formats say exactly the same.
        print(yaml.safe_dump(json.loads(json.dumps(data, default=str)), sort_keys=False), end="")
    else:
        table(columns, rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout."""
    if sys.stdout.isatty():
        _rich_table(columns, rows)
    else:
        print(plain_table(columns, rows))


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the columns as lines of text, without trailing blanks."""
    lines = [list(columns), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [
        max(MIN_WIDTH, *(len(line[i]) + PADDING for line in lines)) for i in range(len(columns))
    ]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, PADDING, 0, 0), header_style="bold")
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell.split(" ")[0], "")) for cell in row))
    Console(highlight=False).print(drawn)


_STYLES = {
    "enabled": "green",
    "applied": "green",
    "ready": "green",
    "running": "green",
    "disabled": "yellow",
    "waiting": "yellow",
    "refused": "red",
    "failed": "red",
    "-": "dim",
}


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
