"""What a proxy used: CPU time, memory, and how much of both cores others took.

All figures cover a process and its descendants (nginx has a master and a worker), and count kernel
work done on their behalf: system calls, and the loopback or veth delivery that runs inside them.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import addresses as at
from tools.bench.errors import RowError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment; two of them make a span."""

    at_ns: int
    proxies_ns: dict[int, int]
    """CPU time of each process of the proxies, since its start."""
    load_ns: dict[int, int]
    """CPU time of each process that makes or answers requests."""
    bench_ns: int
    """CPU time of the bench itself, and of its children that have ended (wrk)."""
    busy_s: tuple[float, float]
    """Time in which the proxies' core and the load's were not idle, since boot."""


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two readings."""

    wall_s: float
    cpu_s: float
    """CPU time of the proxies."""
    foreign_s: tuple[float, float]
    """CPU time on the proxies' core and the load's that was none of ours: other work on the
    machine, time stolen by the host included."""


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


def read(proxies: Iterable[int], load: Iterable[int]) -> Reading:
    """Read the counters of the proxies, of those who load them, and of both cores."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Reading(
        at_ns=time.monotonic_ns(),
        proxies_ns={pid: cpu_ns(pid) for pid in proxies},
        load_ns={pid: cpu_ns(pid) for pid in load},
        bench_ns=time.process_time_ns() + int((usage.ru_utime + usage.ru_stime) * 1e9),
        busy_s=(core_busy_s(at.PROXY_CORE), core_busy_s(at.LOAD_CORE)),
    )


def span(before: Reading, after: Reading) -> Span:
    """Return what happened between two readings of the same proxies.

    A process of the load may have started in between.
    """
    cpu_s = sum(after.proxies_ns[pid] - ns for pid, ns in before.proxies_ns.items()) / 1e9
    load_ns = sum(ns - before.load_ns.get(pid, 0) for pid, ns in after.load_ns.items())
    load_s = (load_ns + after.bench_ns - before.bench_ns) / 1e9
    first = after.busy_s[0] - before.busy_s[0] - cpu_s
    second = after.busy_s[1] - before.busy_s[1] - load_s
    # Proxies with two workers have both cores: what did not happen on theirs happened on the other.
    foreign = (first, second) if first >= 0 else (0.0, second + first)
    return Span(
        wall_s=(after.at_ns - before.at_ns) / 1e9,
        cpu_s=cpu_s,
        # Cores are counted in ticks, processes in nanoseconds: the difference may pass below 0.
        foreign_s=(max(0.0, foreign[0]), max(0.0, foreign[1])),
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


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
