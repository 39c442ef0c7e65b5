"""The controller's log: one line per event, for people, with fields at the end.

What comes in: records of the standard ``logging``. What goes out: lines such as
``2026-03-01T12:00:00.123Z INFO  delivery  a proxy connected proxy=shop/web-1 identity=…``.

Invariants: one event is one line (a traceback follows indented); times are UTC.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

# Attributes that every record has; anything else was given as ``extra`` and is a field.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Renders records as lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        source = record.name.removeprefix("fsm.")
        fields = "".join(
            f" {key}={value}" for key, value in vars(record).items() if key not in _STANDARD
        )
        text = record.getMessage().replace("\n", " | ")
        line = f"{moment}.{int(record.msecs):03d}Z {record.levelname:<7} {source}  {text}{fields}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).replace("\n", "\n    ")
            line = f"{line}\n    {trace}"
        return line


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to a stream (standard error) from the given level on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fsm").setLevel(level.upper())


def set_level(level: str) -> None:
    """Change the level while running; MeshConfig's ``observability.fsmLogLevel`` does."""
    known = {"trace": "DEBUG", "warn": "WARNING", "fatal": "CRITICAL"} | {
        "panic": "CRITICAL",
        "disabled": "CRITICAL",
    }
    name = known.get(level.lower(), level.upper())
    if name in logging.getLevelNamesMapping():
        logging.getLogger("fsm").setLevel(name)
