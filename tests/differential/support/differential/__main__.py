"""``python -m differential``: all cases, all servers, as a page and as an exit code.

``--write`` puts the page down as ``docs/reference/conformance-strict.md``. Exit codes: 0 nothing
found; 1 something was, or fewer than eight servers are there.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from differential import corpus, direct, report, run, servers

_PAGE = Path(__file__).parents[4] / "docs" / "reference" / "conformance-strict.md"
_SERVERS_MIN = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="differential", description=__doc__)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    kinds = servers.installed()
    if len(kinds) < _SERVERS_MIN:
        print(f"only {len(kinds)} servers are installed; run `tools/setup peers`")
        return 1
    families = corpus.load()
    directory = Path(tempfile.mkdtemp(prefix="differential-"))
    # Servers that give up their privileges have to enter it.
    directory.chmod(0o755)
    try:
        verdicts, alone = asyncio.run(_run(kinds, families, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = report.page(families, verdicts, alone)
    if flags.write:
        _PAGE.write_text(text)
    else:
        print(text)
    findings = [f"{name}: {v}" for name, some in verdicts.items() for v in some if v.findings]
    print(*findings, f"{len(findings)} findings", sep="\n")
    return 1 if findings else 0


async def _run(
    kinds: list[servers.Kind], families: list[corpus.Family], directory: Path
) -> tuple[dict[str, list[run.Verdict]], dict[str, dict[str, int]]]:
    async def one(kind: servers.Kind) -> tuple[list[run.Verdict], dict[str, int]]:
        async with servers.Server(kind, directory / kind.name) as server:
            through = await run.through(families, server, directory / f"{kind.name}-pipy")
        # A server of its own, as the tags are the same.
        async with servers.Server(kind, directory / f"{kind.name}-alone") as server:
            return through, await direct.lenient(families, server)

    async with asyncio.TaskGroup() as group:
        tasks = {kind.name: group.create_task(one(kind)) for kind in kinds}
    results = {name: task.result() for name, task in tasks.items()}
    return {n: r[0] for n, r in results.items()}, {n: r[1] for n, r in results.items()}


if __name__ == "__main__":
    raise SystemExit(main())
