"""Read a container's log: all of it, its last lines, or as it grows.

What comes in: the path, how many lines, and what tells that no more will come. What goes out:
chunks of bytes. Invariants: a log that began anew (restart, or cut because it grew too long) is
read from its beginning; memory is bounded, however long the lines are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

_CHUNK = 64 << 10
#: How often a growing file is looked at, seconds: inotify has no place in the standard library.
_LOOK_S = 0.1


async def read_log(
    path: Path, tail: int | None = None, done: asyncio.Event | None = None, begin: int = 0
) -> AsyncIterator[bytes]:
    """Read a log.

    Args:
        path: of the file; one that does not exist yet is empty.
        tail: only so many last lines; ``None`` means all.
        done: follow the file until this is set; ``None`` means read what is there.
        begin: nothing before this offset.

    """
    offset = first_offset(path, tail, begin)
    inode: int | None = None
    while True:
        # Asked before reading: what was written before the end is still read.
        last = done is None or done.is_set()
        while True:
            now, size, chunk = _read(path, offset)
            if (inode is not None and now != inode) or size < offset:
                inode, offset = now, 0
                continue
            inode = now
            if not chunk:
                break
            offset += len(chunk)
            yield chunk
        if last:
            return
        assert done is not None
        try:
            async with asyncio.timeout(_LOOK_S):
                await done.wait()
        except TimeoutError:
            continue


def first_offset(path: Path, tail: int | None, begin: int) -> int:
    """Return where reading begins: with the last lines, and with what is behind an offset.

    A line across that offset is read whole.
    """
    offset = _tail_offset(path, tail) if tail is not None else 0
    return max(offset, _line_begin(path, begin)) if begin else offset


def _line_begin(path: Path, offset: int) -> int:
    try:
        with open(path, "rb") as file:
            end = min(offset, file.seek(0, os.SEEK_END))
            while end > 0:
                file.seek(begin := max(0, end - _CHUNK))
                found = file.read(end - begin).rfind(b"\n")
                if found >= 0:
                    return begin + found + 1
                end = begin
    except FileNotFoundError:
        pass
    return 0


def _tail_offset(path: Path, lines: int) -> int:
    """Find where the last ``lines`` lines begin, reading backwards."""
    if lines == 0:
        return _size(path)
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            position, found = end, 0
            while position > 0:
                step = min(_CHUNK, position)
                position -= step
                file.seek(position)
                block = file.read(step)
                for index in range(len(block) - 1, -1, -1):
                    # The line end of the last line itself does not begin another one.
                    if block[index] == 0x0A and position + index != end - 1:
                        found += 1
                        if found == lines:
                            return position + index + 1
    except FileNotFoundError:
        pass
    return 0


def _read(path: Path, offset: int) -> tuple[int | None, int, bytes]:
    """Read a piece; returns it with the identity and the size of the file it is from."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            file.seek(offset)
            return found.st_ino, found.st_size, file.read(_CHUNK)
    except FileNotFoundError:
        return None, offset, b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
