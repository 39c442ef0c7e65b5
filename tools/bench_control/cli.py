"""What people type: ``python -m tools.bench_control --services 1000 --proxies 2000 [--json]``.

In: arguments. Out: a table or JSON on standard output, progress on standard error, 1 when a run
failed. The sizes below the one that is asked for show how the cost of a change grows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from tools.bench import machine
from tools.bench_control.mesh import Mesh
from tools.bench_control.process import Failed
from tools.bench_control.report import as_json, table
from tools.bench_control.run import Run

SMALLER = (100, 300)


def main(arguments: list[str] | None = None) -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_control", description=__doc__)
    parser.add_argument("--services", type=_count, default=1000, help="Services of the mesh")
    parser.add_argument("--proxies", type=_count, default=2000, help="Pods, each with a proxy")
    parser.add_argument("--changes", type=_count, default=20, help="TrafficTargets to change")
    parser.add_argument("--only", action="store_true", help="leave out the smaller meshes")
    parser.add_argument("--permissive", action="store_true", help="everyone may reach everything")
    parser.add_argument(
        "--check",
        type=_count,
        metavar="N",
        help="compare N configurations with those compiled from nothing, instead of all",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with every sample")
    chosen = parser.parse_args(arguments)
    described = machine.describe()
    sizes = [] if chosen.only else [size for size in SMALLER if size < chosen.services]
    results = []
    for services in [*sizes, chosen.services]:
        proxies = max(1, chosen.proxies * services // chosen.services)
        print(f"{services} services, {proxies} proxies …", file=sys.stderr, flush=True)
        try:
            run = Run(Mesh(services, proxies, chosen.permissive), chosen.check)
            results.append(asyncio.run(run.measure(chosen.changes)))
        except (Failed, TimeoutError) as error:
            print(f"error: {error or 'it took too long'}", file=sys.stderr)
            return 1
    print(as_json(results, described) if chosen.json else table(results, described))
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
