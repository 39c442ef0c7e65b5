"""One line per log record: time, level, message, then the fields that were given with it.

What comes in: ``logging`` records with ``extra`` fields. What goes out: lines on standard error,
which is a file in ``STATE/log``. Invariant: a value never breaks the line.
"""

from __future__ import annotations

import logging
import sys
import time

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """``2026-11-21T02:00:00.123Z INFO  removing leftovers uid=…``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line, followed by its traceback if it has one."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = "".join(
            f" {key}={_word(value)}" for key, value in vars(record).items() if key not in _PLAIN
        )
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname:<7} {record.getMessage()}"
        if record.exc_info:
            return f"{line}{fields}\n{self.formatException(record.exc_info)}"
        return line + fields


def set_up(level: int) -> None:
    """Send all records of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Their reports about single connections are no news here.
    for noisy in ("aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def _word(value: object) -> str:
    text = str(value)
    return repr(text) if any(c in text for c in ' "\n\t=') or not text else text
