"""Looks whether anything of a box is left after it was closed.

What comes in: the PID 1 of a box while it runs. What goes out: its processes and namespaces, and
afterwards those of them that still exist.

Invariants: a process is known by pid and start time. A namespace is known by its inode, which the
kernel gives to the next namespace at once; so it counts as left only while a process holds it that
is older than the look at the box. What cannot be read (it ended meanwhile) is not there.
Source: proc(5) stat fields 4 and 22, namespaces(7).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

KINDS = ("mnt", "net", "pid")


@dataclass(frozen=True, slots=True)
class Belongings:
    """What makes up a box on this machine."""

    processes: frozenset[tuple[int, int]]
    namespaces: frozenset[str]
    seen_at_ticks: int


NOTHING = Belongings(frozenset(), frozenset(), 0)


def of_box(pid: int) -> Belongings:
    """Return the processes of the box with this PID 1, and the namespaces they are in."""
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    parents = {p: parent for p, parent, _ in _processes()}
    ours: set[int] = {pid}
    grown = True
    while grown:
        # Everything in a box descends from its PID 1, orphans included (pid_namespaces(7)).
        more = {p for p, parent in parents.items() if parent in ours} - ours
        ours |= more
        grown = bool(more)
    own = {_namespace(os.getpid(), kind) for kind in KINDS}
    found = {_namespace(p, kind) for p in ours for kind in KINDS}
    processes = {(p, start) for p, _, start in _processes() if p in ours}
    ticks = int(now_s * os.sysconf("SC_CLK_TCK"))
    return Belongings(frozenset(processes), frozenset(found - own - {""}), ticks)


def still_there(there: Belongings) -> str:
    """Return in words what of ``there`` still exists; empty when nothing does."""
    words = [f"process {p}" for p, _, start in _processes() if (p, start) in there.processes]
    old = [p for p, _, start in _processes() if start <= there.seen_at_ticks]
    seen = {_namespace(p, kind) for p in old for kind in KINDS}
    words += [f"namespace {name}" for name in sorted(seen & there.namespaces)]
    return ", ".join(words)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield pid, parent and start time of every process that is no zombie."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name, in brackets, may hold anything; what follows the last bracket is numbers.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        if fields[0] != "Z":
            yield int(entry.name), int(fields[1]), int(fields[19])


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(PROC / str(pid) / "ns" / kind)
    except OSError:
        return ""
