"""When lines of a log were written, although applications write their logs themselves.

    every second: size of the log ──grew?──► one more "SIZE TIME" in NAME.log.times

What comes in: a log, and the time. What goes out: the time of any place in it, and the place where
a time begins. A byte was written by the time of the first note that counts it, and after that of
the note before: times are to the second.

Invariants: a log that began anew (a restart, or cut because it grew too long) begins its notes
anew; what was never noted counts as written now; notes that are torn are passed over. LIMIT: notes
are thinned out when there are ``_NOTES_MAX``, so that a log that grows for months keeps days apart.
Not done here: the lines themselves (``logs``).
"""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

_NOTES_MAX = 20_000
_SUFFIX = ".times"


class Times:
    """The notes of one log, as they are now."""

    def __init__(self, notes: list[tuple[int, float]]) -> None:
        self._sizes = [size for size, _ in notes]
        self._times = [seconds for _, seconds in notes]

    def at(self, offset: int, now: float) -> float:
        """Return when the byte at an offset was written."""
        place = bisect.bisect_right(self._sizes, offset)
        return self._times[place] if place < len(self._times) else now

    def begin(self, since: float) -> int:
        """Return where the log stood at a time: what was written later is behind it."""
        place = bisect.bisect_left(self._times, since)
        return self._sizes[place - 1] if place else 0


class Clerk:
    """Takes the notes of the logs of one Pod; call ``note`` about once a second for each."""

    def __init__(self) -> None:
        self._known: dict[Path, list[tuple[int, float]]] = {}

    def note(self, log: Path, now: float) -> None:
        """Note how large a log is, if it has grown; one that cannot be read is passed over."""
        with contextlib.suppress(OSError):
            size = log.stat().st_size
            notes = self._known.get(log)
            if notes is None:
                # Those of an agent before us.
                notes = self._known[log] = _read(log)
            last = notes[-1][0] if notes else 0
            if size == last:
                return
            if size < last or len(notes) >= _NOTES_MAX:
                notes[:] = [] if size < last else notes[::2]
                _write(log, notes)
            if size:
                notes.append((size, now))
                with open(notes_of(log), "a") as file:
                    file.write(f"{size} {now:.3f}\n")


def notes_of(log: Path) -> Path:
    """Return the file with the notes of a log."""
    return log.with_name(log.name + _SUFFIX)


def load(log: Path) -> Times:
    """Read the notes of a log; none where there are none."""
    return Times(_read(log))


async def stamped(
    chunks: AsyncIterator[bytes], times: Times, offset: int, clock: Callable[[], float] = time.time
) -> AsyncIterator[bytes]:
    """Write the time before each line, as ``kubectl logs --timestamps`` shows it.

    Args:
        chunks: of the log, in order.
        times: of the log when reading began.
        offset: of the first chunk; the begin of a line.
        clock: what lines that were not noted are given: seconds since the epoch.

    """
    fresh = True
    async for chunk in chunks:
        made = []
        for line in chunk.splitlines(keepends=True):
            if fresh:
                made.append(_stamp(times.at(offset, clock())))
            made.append(line)
            offset += len(line)
            fresh = line.endswith(b"\n")
        yield b"".join(made)


def _stamp(seconds: float) -> bytes:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()


def _read(log: Path) -> list[tuple[int, float]]:
    notes: list[tuple[int, float]] = []
    try:
        lines = notes_of(log).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return notes
    for line in lines:
        size, _, seconds = line.partition(" ")
        with contextlib.suppress(ValueError):
            note = (int(size), float(seconds))
            # Sizes and times only grow: what does not is left of a write that was cut off.
            if not notes or (note[0] > notes[-1][0] and note[1] >= notes[-1][1]):
                notes.append(note)
    return notes


def _write(log: Path, notes: list[tuple[int, float]]) -> None:
    part = notes_of(log).with_suffix(".part")
    part.write_text("".join(f"{size} {seconds:.3f}\n" for size, seconds in notes))
    os.replace(part, notes_of(log))
