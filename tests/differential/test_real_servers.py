"""No server reads a request that the proxy did not read, none reads a body otherwise.

Every case of the corpus goes through a proxy to each server; each must be read alike or be refused.
One test runs them all at once, as the servers are what takes the time.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from differential import corpus, direct, run, servers

FAMILIES = corpus.load()


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not the test's own directory: servers that give up their privileges could not enter it.
    path = Path(tempfile.mkdtemp(prefix="differential-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def test_no_server_reads_what_the_proxy_did_not(directory):
    kinds = servers.installed()
    assert len(kinds) >= 8, f"only {[kind.name for kind in kinds]} are installed"

    async def one(kind: servers.Kind) -> list[str]:
        async with servers.Server(kind, directory / kind.name) as server:
            verdicts = await run.through(FAMILIES, server, directory / f"{kind.name}-pipy")
        # A server that refuses everything would agree with every proxy.
        assert sum(verdict.read for verdict in verdicts) > 60, kind.name
        return [f"{kind.name}: {verdict}" for verdict in verdicts if verdict.findings]

    async with asyncio.TaskGroup() as group:
        found = [group.create_task(one(kind)) for kind in kinds]
    findings = [line for task in found for line in task.result()]
    assert not findings, "\n".join(findings)


async def test_the_corpus_bites_where_no_proxy_stands_before(directory):
    """The same comparison, without the proxy, must have findings: else it could find nothing."""
    kind = next(kind for kind in servers.installed() if kind.name == "aiohttp")
    async with servers.Server(kind, directory / kind.name) as server:
        lenient = await direct.lenient(FAMILIES, server)
    assert sum(lenient.values()) > 20, lenient


def test_cases_have_names_of_their_own():
    names = [(case.family, case.name) for family in FAMILIES for case in family.cases]
    assert len(names) == len(set(names))
    assert len(names) > 500
