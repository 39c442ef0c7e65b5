"""Whole runs: real proxies in real namespaces, good ones, lax ones and dead ones."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from tools.bench import addresses as at
from tools.bench import certs, runner
from tools.bench.errors import MissingError
from tools.bench.peers import Installed, Job, Peer, Proxy
from tools.bench.peers.nginx import Nginx
from tools.bench.peers.pipy import Pipy
from tools.bench.processes import Child, Children
from tools.bench.results import Result
from tools.bench.rows import ROWS, Row

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces, which needs root"),
]

BY_NAME = {row.name: row for row in ROWS}


class Altered(Nginx):
    """nginx with something in its configuration replaced."""

    def __init__(self, before: str, after: str) -> None:
        self.before, self.after = before, after

    def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
        proxies = super().proxies(installed, job)
        replaced = 0
        for path in job.directory.glob("nginx*.conf"):
            text = path.read_text()
            replaced += text.count(self.before)
            path.write_text(text.replace(self.before, self.after))
        assert replaced, f"{self.before!r} is in no configuration"
        return proxies


def _run(peer: Peer, row: Row, directory: Path) -> Result:
    found = runner.find([peer])
    if isinstance(found[peer.name], str):
        pytest.skip(str(found[peer.name]))
    plan = runner.Plan(rounds=1, seconds=1, patience_s=0)
    certificates = certs.issue(directory)
    [(_, [result])] = runner.run_rows(
        [row], [peer], found, certificates, directory, plan, lambda words: None
    )
    return result


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """Every process that a run starts."""
    children: list[Child] = []
    start = Children.start

    def remember(*args: object, **kwargs: object) -> Child:
        child = start(*args, **kwargs)  # type: ignore[arg-type]
        children.append(child)
        return child

    monkeypatch.setattr(Children, "start", remember)
    return children


@pytest.mark.parametrize("name", ["plain", "pair"])
def test_run_gives_figures_and_leaves_no_process(
    name: str, tmp_path: Path, started: list[Child]
) -> None:
    result = _run(Nginx(), BY_NAME[name], tmp_path)
    assert result.problem is None
    assert result.samples
    assert all(s.cpu_us > 1 and s.requests_per_s for s in result.samples)
    assert result.idle_bytes
    assert started
    assert all(child.popen.returncode is not None for child in started)


def test_script_that_does_not_look_at_its_request_gets_no_figures(tmp_path: Path) -> None:
    class Deaf(Pipy):
        def proxies(self, installed: Installed, job: Job) -> list[Proxy]:
            proxies = super().proxies(installed, job)
            script = job.directory / "pipy.js"
            text = script.read_text()
            assert "msg.head.path" in text
            script.write_text(text.replace("msg.head.path", f"'{at.PATH}'"))
            return proxies

    result = _run(Deaf(), BY_NAME["script-header"], tmp_path)
    assert result.problem is not None
    assert "the backend has seen '/books/a-book/new'" in result.problem
    assert not result.samples


def test_held_connections_give_cost_and_memory_per_connection(tmp_path: Path) -> None:
    row = dataclasses.replace(BY_NAME["mtls-hold"], hold=50)
    result = _run(Nginx(), row, tmp_path)
    assert result.problem is None
    assert result.samples[0].cpu_us > 10
    assert result.idle_connection_bytes


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param("default 0;", "default 1;", "another identity at proxy B", id="identity"),
        pytest.param(
            "ssl_verify_client on;",
            "ssl_verify_client optional;",
            "no certificate at proxy B: status 403",
            id="certificate",
        ),
        pytest.param(
            "location / { return 404; }",
            "location / { proxy_pass http://app; }",
            "another path at proxy B",
            id="path",
        ),
        pytest.param("15003 ssl", "15003", "plain text at proxy B", id="plaintext"),
    ],
)
def test_proxy_that_lets_too_much_through_gets_no_figures(
    before: str, after: str, words: str, tmp_path: Path
) -> None:
    result = _run(Altered(before, after), BY_NAME["pair"], tmp_path)
    assert result.problem is not None
    assert words in result.problem
    assert not result.samples


def test_proxy_that_cannot_start_is_reported_with_its_words(tmp_path: Path) -> None:
    result = _run(Altered("worker_processes 1;", "no_such_directive;"), BY_NAME["plain"], tmp_path)
    assert result.problem is not None
    assert "no_such_directive" in result.problem


def test_proxy_that_dies_under_load_is_reported(
    tmp_path: Path, started: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = runner._load
    rounds = iter(["warm-up", "round"])

    def kill_then_load(*args: object) -> object:
        if next(rounds) == "round":
            proxy = next(child for child in started if child.name == "nginx")
            proxy.popen.kill()
            proxy.popen.wait()
        return load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "_load", kill_then_load)
    result = _run(Nginx(), BY_NAME["plain"], tmp_path)
    assert result.problem is not None
    assert "nginx ended with status -9" in result.problem
    # The worker, which outlives its master, is gone too.
    group = next(child.pid for child in started if child.name == "nginx")
    deadline = time.monotonic() + 5
    while _has_running_member(group):
        assert time.monotonic() < deadline


def _has_running_member(group: int) -> bool:
    """Whether a process group has a member that is no zombie (proc(5), ``/proc/pid/stat``)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


def test_peer_that_is_not_installed_is_reported_not_skipped(tmp_path: Path) -> None:
    class Absent(Nginx):
        def find(self) -> Installed:
            raise MissingError("install it")

    peer = Absent()
    found = runner.find([peer])
    plan = runner.Plan(rounds=1, seconds=1)
    [(_, [result])] = runner.run_rows(
        [BY_NAME["plain"]], [peer], found, certs.issue(tmp_path), tmp_path, plan, lambda words: None
    )
    assert result.problem == "install it"
