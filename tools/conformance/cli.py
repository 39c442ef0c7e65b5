"""Flags of the run, its order, the table.

Exit codes: 0 every case passed; 1 one did not, or the run could not be done; 2 wrong flags.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.bench import certs
from tools.conformance import h2spec, rig
from tools.conformance.h2spec import Section
from tools.conformance.rig import ConformanceError

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "reference" / "conformance.md"

WAYS = {
    "plain": "prior knowledge, towards an application of HTTP/1",
    "mtls": "mutual TLS with ALPN `h2`, towards an application of HTTP/1",
    "grpc": "prior knowledge, towards an application of HTTP/2",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.conformance", description=__doc__)
    parser.add_argument("sections", nargs="*", help="such as http2/6.5; all without any")
    parser.add_argument("--pipy", type=Path, default=_ROOT / ".venv" / "bin" / "pipy")
    parser.add_argument("--h2spec", type=Path, default=_ROOT / ".venv" / "bin" / "h2spec")
    parser.add_argument("--way", choices=WAYS, action="append", help="default: all")
    parser.add_argument("--write", action="store_true", help=f"write {_PAGE.relative_to(_ROOT)}")
    flags = parser.parse_args()
    for program in (flags.pipy, flags.h2spec):
        if not program.exists():
            print(f"{program} is missing; run `make conformance`", file=sys.stderr)
            return 1
    if flags.write and (flags.sections or flags.way):
        parser.error("--write takes a whole run")
    results: dict[str, list[Section]] = {}
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        for way in flags.way or WAYS:
            with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
                found = _run(way, flags.pipy, flags.h2spec, Path(directory), flags.sections)
                results[way] = asyncio.run(found)
            console.print(_table(way, results[way]))
    except ConformanceError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    if flags.write:
        _PAGE.write_text(page(results))
    sections = [section for found in results.values() for section in found]
    failed = sum(len(section.failed) + section.skipped for section in sections)
    passed = sum(section.passed for section in sections)
    print(f"{passed} cases passed, {failed} did not")
    return 1 if failed else 0


async def _run(
    way: str, pipy: Path, program: Path, directory: Path, sections: list[str]
) -> list[Section]:
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(rig.backend())
        if way == "mtls":
            issued = certs.issue(directory)
            member = (issued, issued.server)
            at = await stack.enter_async_context(rig.pipy(pipy, directory / "b", at, member))
            at = await stack.enter_async_context(rig.tunnel(at, issued, issued.client))
        else:
            at = await stack.enter_async_context(rig.pipy(pipy, directory / "b", at, None))
        if way == "grpc":
            grpc = rig.pipy(pipy, directory / "a", at, None, protocol="grpc")
            at = await stack.enter_async_context(grpc)
        return await h2spec.run(program, at, directory, strict=True, sections=sections)


def _table(way: str, sections: list[Section]) -> Table:
    table = Table(title=f"{way}: {WAYS[way]}".replace("`", ""), title_justify="left")
    for column in ("section", "title"):
        table.add_column(column)
    for column in ("passed", "failed", "skipped"):
        table.add_column(column, justify="right")
    for section in sections:
        title = "\n".join([section.title, *(f"  failed: {case}" for case in section.failed)])
        counts = (section.passed, len(section.failed), section.skipped)
        table.add_row(section.name, title, *map(str, counts))
    return table


def page(results: dict[str, list[Section]]) -> str:
    """Write the page of the last whole run."""
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`, from its last whole run; the run fails when any case does.",
        "The cases are those of h2spec (RFC 9113, RFC 7541 and its own), strict ones included,",
        "against a running sidecar. Ways in:",
        "",
        *(f"- **{way}**: {title}" for way, title in WAYS.items()),
        "",
        "h2spec cannot show a client certificate, so a tunnel that looks at nothing adds it.",
        "",
        "| section | " + " | ".join(results) + " |",
        "|---|" + "---|" * len(results),
    ]
    first = next(iter(results.values()))
    for index, section in enumerate(first):
        counts = []
        for found in results.values():
            other = found[index]
            total = other.passed + len(other.failed) + other.skipped
            counts.append(f"{other.passed} of {total}")
        lines.append(f"| {section.name} {section.title} | {' | '.join(counts)} |")
    sums = (
        f"{sum(s.passed for s in found)} of "
        f"{sum(s.passed + len(s.failed) + s.skipped for s in found)}"
        for found in results.values()
    )
    lines.append(f"| **all** | {' | '.join(sums)} |")
    lines += [
        "",
        "What h2spec does not ask is tested beside it: gRPC of the real library through a pair of",
        "sidecars (`tests/local/proxy/test_grpc.py`), floods (`test_http2_floods.py`), conversions",
        "between the versions (`test_http2.py`).",
        "",
    ]
    return "\n".join(lines)
