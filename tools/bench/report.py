"""Tables of a run: for a terminal, as Markdown, as JSON.

All three show the same numbers, made here once as text cells. Ratios are ours divided by the peer's
CPU time per request: below 1, ours is cheaper.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tools.bench.machine import Machine
from tools.bench.peers import PEERS, Installed
from tools.bench.results import Result
from tools.bench.rows import CEILINGS, GOALS, Ceiling, Goal, Row

OURS = PEERS[0].name

_LOAD_COLUMNS = (
    "peer",
    "CPU µs/request",
    "spread",
    "ours/peer",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "RSS MB idle",
    "RSS MB load",
    "core",
    "others",
    "failed",
)
_HOLD_COLUMNS = (
    "peer",
    "CPU µs/connection",
    "spread",
    "ours/peer",
    "KB/idle connection",
    "KB kept after close",
    "RSS MB idle",
    "RSS MB held",
    "core",
    "others",
)

LEGEND = (
    "CPU: median over the rounds, of all processes and threads of the proxy or proxies. Spread: "
    "(highest - lowest) / median. Core: share of their core that the proxies used. Others: share "
    "of it, or of the load's core, that other work on the machine took; where that is high, "
    "requests/s and latencies are worth little, and CPU times are higher than they need be."
)

Outcome = tuple[Row, list[Result]]


def columns(row: Row) -> tuple[str, ...]:
    """Return the column titles of a row's table."""
    return _HOLD_COLUMNS if row.hold else _LOAD_COLUMNS


def cells(row: Row, results: Sequence[Result]) -> list[list[str]]:
    """Return the table of one row, one line per peer.

    A peer without figures has a line of two cells: its name and the reason.
    """
    ours = next((r for r in results if r.peer == OURS), None)
    table = []
    for result in results:
        cpu = result.cpu_us
        if result.problem is not None or cpu is None:
            table.append([result.peer, result.problem or "no round was finished"])
            continue
        line = [
            result.peer,
            f"{cpu.median:.1f}",
            f"{cpu.spread:.0%}",
            "" if result is ours else _ratio(ours, result),
        ]
        if row.hold:
            line += [_kb(result.idle_connection_bytes), _kb(result.kept_connection_bytes)]
        else:
            line += [
                _number(result.median("requests_per_s"), "{:,.0f}"),
                _number(result.median("p50_us"), "{:.2f}", 1e-3),
                _number(result.median("p99_us"), "{:.2f}", 1e-3),
            ]
        line += [
            _number(result.idle_bytes, "{:.1f}", 1 / 2**20),
            _number(result.load_bytes, "{:.1f}", 1 / 2**20),
            _number(result.median("core_share"), "{:.0%}"),
            _number(result.median("foreign_share"), "{:.0%}"),
        ]
        line += [] if row.hold else [str(result.errors)]
        table.append(line)
    return table


def goals(outcomes: Sequence[Outcome]) -> list[tuple[Goal, float | None]]:
    """Return the goals of the rows that were run, with the ratio reached, if there is one."""
    by_row = {row.name: {r.peer: r for r in results} for row, results in outcomes}
    found: list[tuple[Goal, float | None]] = []
    for goal in GOALS:
        other_row = goal.row_of_peer or goal.row
        if goal.row not in by_row or other_row not in by_row:
            continue
        ours = _median_cpu(by_row[goal.row].get(OURS))
        other = _median_cpu(by_row[other_row].get(goal.peer))
        found.append((goal, ours / other if ours and other else None))
    return found


def goal_line(goal: Goal, ratio: float | None) -> str:
    """Return a goal and whether it is met, in words."""
    other = f"{goal.peer}'s {goal.row_of_peer}" if goal.row_of_peer else goal.peer
    what = f"{goal.row} ≤ {goal.ratio_max:g} × {other}"
    if ratio is None:
        return f"{what}: not measured"
    return f"{what}: {ratio:.2f}, {'met' if ratio <= goal.ratio_max else 'MISSED'}"


def ceilings(outcomes: Sequence[Outcome]) -> list[tuple[Ceiling, float | None]]:
    """Return the ceilings of the rows that were run, with what ours took, if that is known."""
    ours = {row.name: r for row, results in outcomes for r in results if r.peer == OURS}
    return [
        (ceiling, None if (r := ours[ceiling.row]).problem else getattr(r, ceiling.figure))
        for ceiling in CEILINGS
        if ceiling.row in ours
    ]


def ceiling_line(ceiling: Ceiling, taken: float | None) -> str:
    """Return a ceiling and whether it holds, in words."""
    what = f"{ceiling.row}: {ceiling.title} in ≤ {ceiling.bytes_max / 1024:,.0f} KB"
    if taken is None:
        return f"{what}: not measured"
    return f"{what}: {taken / 1024:,.1f}, {'met' if taken <= ceiling.bytes_max else 'MISSED'}"


def missed(outcomes: Sequence[Outcome]) -> bool:
    """Whether anything is over its goal or was not measured."""
    slow = any(ratio is None or ratio > goal.ratio_max for goal, ratio in goals(outcomes))
    return slow or any(
        taken is None or taken > ceiling.bytes_max for ceiling, taken in ceilings(outcomes)
    )


def to_terminal(console: Console, machine: Machine, outcomes: Sequence[Outcome]) -> None:
    """Print everything."""
    for row, results in outcomes:
        table = Table(title=f"{row.name}: {row.title}", title_justify="left")
        for number, title in enumerate(columns(row)):
            table.add_column(title, justify="left" if number == 0 else "right")
        problems = []
        for line in cells(row, results):
            if len(line) == 2:
                problems.append(f"{line[0]}: {line[1]}")
            else:
                table.add_row(*line)
        console.print(table)
        for problem in problems:
            console.print(f"  {problem}", markup=False, highlight=False)
    for goal, ratio in goals(outcomes):
        console.print(f"goal: {goal_line(goal, ratio)}", markup=False, highlight=False)
    for ceiling, taken in ceilings(outcomes):
        console.print(f"goal: {ceiling_line(ceiling, taken)}", markup=False, highlight=False)
    console.print(LEGEND, markup=False, highlight=False)
    console.print(f"machine: {machine.line()}", markup=False, highlight=False)


def to_markdown(
    machine: Machine, found: Mapping[str, Installed | str], outcomes: Sequence[Outcome]
) -> str:
    """Return everything as Markdown."""
    lines = [f"Machine: {machine.line()}.", "", f"Versions: {versions(found)}.", ""]
    for row, results in outcomes:
        titles = columns(row)
        lines += [f"**{row.name}**: {row.title}", "", f"| {' | '.join(titles)} |"]
        lines.append("|---|" + "---:|" * (len(titles) - 1))
        table = cells(row, results)
        lines += [f"| {' | '.join(line)} |" for line in table if len(line) > 2]
        lines.append("")
        reasons = [f"- {line[0]}: {line[1]}" for line in table if len(line) == 2]
        lines += [*reasons, ""] if reasons else []
    lines += [f"- {goal_line(goal, ratio)}" for goal, ratio in goals(outcomes)]
    lines += [f"- {ceiling_line(ceiling, taken)}" for ceiling, taken in ceilings(outcomes)]
    lines += ["", LEGEND, ""]
    return "\n".join(lines)


def to_json(
    machine: Machine, found: Mapping[str, Installed | str], outcomes: Sequence[Outcome]
) -> str:
    """Return everything, every sample included, as JSON."""
    document = {
        "machine": dataclasses.asdict(machine),
        "peers": {name: _found(what) for name, what in found.items()},
        "rows": [
            {"row": _row(row), "results": [_result(result) for result in results]}
            for row, results in outcomes
        ],
        "goals": [_goal(goal, ratio) for goal, ratio in goals(outcomes)],
        "ceilings": [
            {**dataclasses.asdict(ceiling), "taken": taken} for ceiling, taken in ceilings(outcomes)
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def versions(found: Mapping[str, Installed | str]) -> str:
    """Return all peers with their versions, in one line."""
    return ", ".join(
        f"{name} missing: {what}" if isinstance(what, str) else f"{name} {what.version}"
        for name, what in found.items()
    )


def _goal(goal: Goal, ratio: float | None) -> dict[str, object]:
    return {**dataclasses.asdict(goal), "ratio": ratio}


def _row(row: Row) -> dict[str, object]:
    script = row.script.value if row.script else None
    return {**dataclasses.asdict(row), "kind": row.kind.value, "script": script}


def _result(result: Result) -> dict[str, object]:
    cpu = result.cpu_us
    return {**dataclasses.asdict(result), "cpu_us": dataclasses.asdict(cpu) if cpu else None}


def _found(what: Installed | str) -> dict[str, str]:
    if isinstance(what, str):
        return {"missing": what}
    return {"version": what.version, "binary": str(what.binary)}


def _median_cpu(result: Result | None) -> float | None:
    if result is None or result.problem is not None or result.cpu_us is None:
        return None
    return result.cpu_us.median


def _ratio(ours: Result | None, other: Result) -> str:
    own, peer = _median_cpu(ours), _median_cpu(other)
    return f"{own / peer:.2f}" if own and peer else "–"


def _kb(value: float | None) -> str:
    return _number(value, "{:.1f}", 1 / 1024)


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "–" if value is None else form.format(value * factor)
