"""What a proxy used: CPU time, memory, and how much of its core others took.

All figures cover a process and its descendants (nginx has a master and a worker), and count kernel
work done on their behalf: system calls, and the loopback or veth delivery that runs inside them.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError, RowError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment; two of them make a span."""

    at_ns: int
    cpu_ns: dict[int, int]
    """CPU time since its start, by process."""
    softirq_ns: int
    """CPU time of the kernel's packet thread on the proxies' core."""
    core_busy_s: float
    """Time in which the proxies' core was not idle, since boot."""


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two readings."""

    wall_s: float
    cpu_s: float
    """CPU time of the proxies."""
    softirq_s: float
    """CPU time of the kernel's packet thread on the proxies' core."""
    foreign_s: float
    """CPU time on that core that was neither: other work, time stolen by the host included."""


def tree(roots: Iterable[int]) -> list[int]:
    """Return the processes ``roots`` and all their descendants.

    Source: Linux, proc(5), ``/proc/pid/task/tid/children``.
    """
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        for task in _tasks(pid):
            try:
                todo.extend(int(word) for word in (task / "children").read_text().split())
            except OSError:
                continue
    return sorted(found)


def read(pids: Iterable[int], core: int) -> Reading:
    """Read the counters of some processes and of a core."""
    return Reading(
        at_ns=time.monotonic_ns(),
        cpu_ns={pid: cpu_ns(pid) for pid in pids},
        softirq_ns=cpu_ns(_packet_thread(core)),
        core_busy_s=core_busy_s(core),
    )


def span(before: Reading, after: Reading) -> Span:
    """Return what happened between two readings of the same processes."""
    cpu_s = sum(after.cpu_ns[pid] - before.cpu_ns[pid] for pid in before.cpu_ns) / 1e9
    softirq_s = (after.softirq_ns - before.softirq_ns) / 1e9
    return Span(
        wall_s=(after.at_ns - before.at_ns) / 1e9,
        cpu_s=cpu_s,
        softirq_s=softirq_s,
        foreign_s=max(0.0, after.core_busy_s - before.core_busy_s - cpu_s - softirq_s),
    )


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process, all threads, also those that have ended, in ns.

    The scheduler's own clock: nanoseconds, where ``/proc/pid/stat`` counts ticks.
    Source: Linux, include/linux/posix-timers.h (process clocks: ``~pid << 3 | CPUCLOCK_SCHED``).

    Raises:
        RowError: the process has ended.

    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError as error:
        raise RowError(f"process {pid} of the proxy has ended") from error


def core_busy_s(core: int) -> float:
    """Return how long a core was not idle since boot, in s. Source: proc(5), ``/proc/stat``."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
            return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    raise RowError(f"this machine has no core {core}")


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of some processes, in bytes; shared pages count for each.

    Source: proc(5), ``VmRSS`` in ``/proc/pid/status``.

    Raises:
        RowError: one of them has ended.

    """
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError as error:
            raise RowError(f"process {pid} of the proxy has ended") from error
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024
    return total


@functools.cache
def _packet_thread(core: int) -> int:
    """Return the pid of ``ksoftirqd`` of a core."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if name == f"ksoftirqd/{core}":
            return int(process.name)
    raise BenchError(f"no thread ksoftirqd/{core}; is /proc that of the host?")


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
