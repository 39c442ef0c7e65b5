"""A whole run with a small mesh, and what makes a run fail."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from fsm.kube.resources import TRAFFICTARGETS
from tools.bench import machine
from tools.bench_control import run as runs
from tools.bench_control.mesh import Mesh
from tools.bench_control.process import Failed, started
from tools.bench_control.report import as_json, quantile, table


@pytest.mark.parametrize("permissive", [False, True])
async def test_a_small_mesh_gives_figures_that_fit_together(permissive: bool) -> None:
    result = await runs.Run(Mesh(12, 24, permissive)).measure(changes=4)
    by_kind = {change.kind: change for change in result.changes}
    assert by_kind["MeshConfig"].proxies == 24
    # The destination stays, one source leaves, one comes; in permissive mode nobody is asked.
    target = by_kind["TrafficTarget"]
    assert target.proxies == (0 if permissive else 6)
    assert all(0 < seconds < runs.CHANGE_S for c in result.changes for seconds in c.applied_s)
    assert 10 < result.rss_mb <= result.peak_mb
    text = table([result], machine.describe())
    assert ("open" in text) is permissive
    read = orjson.loads(as_json([result], machine.describe()))
    assert read["results"][0]["proxies"] == 24


async def test_a_proxy_that_holds_something_else_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = runs.Run(Mesh(3, 3))
    finished = run._change

    async def tamper(*arguments: object) -> None:
        await finished(*arguments)  # type: ignore[arg-type]
        run._versions[1] = "another"

    monkeypatch.setattr(run, "_change", tamper)
    with pytest.raises(Failed, match="1 proxies hold a wrong configuration"):
        await run.measure(changes=1)


async def test_a_process_that_ends_says_its_last_words() -> None:
    async with started("controller", "tools.bench_control.controller", KUBECONFIG="/no") as process:
        async with asyncio.timeout(30):
            await process.lines(lambda line: None, errors=True)
            await process._process.wait()
        with pytest.raises(Failed, match="no kubeconfig at /no"):
            process.check()


def test_the_same_sizes_give_the_same_mesh() -> None:
    assert list(Mesh(7, 15).objects()) == list(Mesh(7, 15).objects())
    assert sum(1 for res, _ in Mesh(7, 15).objects() if res is TRAFFICTARGETS) == 7


@pytest.mark.parametrize(("part", "wanted"), [(0.5, 50), (0.99, 99), (1, 100), (0, 1)])
def test_quantiles_are_samples(part: float, wanted: int) -> None:
    assert quantile(list(range(100, 0, -1)), part) == wanted
    assert quantile([], part) == 0
