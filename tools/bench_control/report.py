"""The figures of all runs, as a table for people or as JSON.

In: results. Out: text. Invariants: quantiles are of all samples, by nearest rank, never of means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from tools.bench.machine import Machine
from tools.bench_control.run import Result

_ROW = "{:>8} {:>7} {:>6}  {:<15} {:>7} {:>8} {:>8} {:>8} {:>8}"


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the smallest sample that at least this part of all does not exceed; 0 of none."""
    if not samples:
        return 0.0
    return sorted(samples)[max(0, math.ceil(part * len(samples)) - 1)]


def table(results: Sequence[Result], machine: Machine) -> str:
    """Return the figures for people."""
    lines = [
        machine.line(),
        "",
        "{:>8} {:>7} {:>6}  {:>8} {:>8} {:>9} {:>9} {:>11} {:>10}".format(
            "services",
            "proxies",
            "mode",
            "RSS MB",
            "peak MB",
            "start s",
            "CPU s",
            "anew CPU s",
            "bytes",
        ),
    ]
    for r in results:
        lines.append(
            f"{r.services:>8} {r.proxies:>7} {_mode(r):>6}  {r.rss_mb:>8.0f} {r.peak_mb:>8.0f}"
            f" {r.start_s:>9.1f} {r.start_cpu_s:>9.1f} {r.nothing_s:>11.2f} {r.bytes_mean:>10.0f}"
        )
    lines += [
        "",
        "start: until all proxies have a certificate and a configuration;"
        " anew: to compile all of them from nothing.",
        "",
        _ROW.format(
            "services",
            "proxies",
            "mode",
            "one change of",
            "changes",
            "p50 ms",
            "p99 ms",
            "max ms",
            "CPU ms",
        ),
    ]
    for r in results:
        for c in r.changes:
            times = [f"{1000 * quantile(c.applied_s, part):.0f}" for part in (0.5, 0.99, 1)]
            lines.append(
                _ROW.format(
                    r.services,
                    r.proxies,
                    _mode(r),
                    c.kind,
                    f"{c.proxies:.0f}",
                    *times,
                    f"{1000 * c.cpu_s:.0f}",
                )
            )
    lines += [
        "",
        "changes: proxies that got a new configuration; p50, p99, max: from the write into the API",
        "until such a proxy has it (20 ms of this gathers changes); CPU: of the controller.",
    ]
    return "\n".join(lines)


def as_json(results: Sequence[Result], machine: Machine) -> str:
    """Return the figures for programs, every sample included."""
    whole: dict[str, Any] = {"machine": asdict(machine), "results": [asdict(r) for r in results]}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode()


def _mode(result: Result) -> str:
    return "open" if result.permissive else "SMI"
