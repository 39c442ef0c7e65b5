"""Runs rows: all peers of a row are set up first, then loaded in turn, round by round.

Before a round the bench waits, within limits, for other work on the machine to end. A round in
which other work took a good part of a core is run again, up to as many extra rounds as were asked
for; the figures are those of the quietest rounds.

Interleaving (A B C, A B C, …) spreads whatever else the machine does over all peers alike; medians
drop what is left. Peers that wait for their turn are idle and cost nothing that is measured:
figures are CPU time of processes.

A peer that is missing, cannot do a row or fails in it has a result that says so; the others go on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.bench import addresses as at
from tools.bench import load, measure, probe, script_probe
from tools.bench.certs import Certificates
from tools.bench.errors import BenchError, RowError
from tools.bench.peers import Installed, Job, Peer
from tools.bench.peers.base import Kind, Side
from tools.bench.processes import Child, Children, pass_on_niceness, wait_for_listener, wrap
from tools.bench.results import QUIET_SHARE, Result, Sample
from tools.bench.rows import Row
from tools.bench.sites import Site, pair_site, plain_site

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: int
    patience_s: float = 60.0
    """How long to wait, in all, for other work on the machine to end."""
    warm_up_s: int = 1


@dataclass(slots=True)
class _Runner:
    """One peer, set up for one row."""

    result: Result
    row: Row
    site: Site
    directory: Path
    certificates: Certificates | None
    pids: list[int]
    """Processes that are measured."""
    load_pids: list[int]
    """Processes of the backend."""
    proxies: list[Child]

    def ensure_running(self) -> None:
        for proxy in self.proxies:
            proxy.ensure_running()


def find(peers: Iterable[Peer]) -> dict[str, Installed | str]:
    """Look for every peer; the value is what was found or why there is nothing."""
    found: dict[str, Installed | str] = {}
    for peer in peers:
        try:
            found[peer.name] = peer.find()
        except BenchError as error:
            found[peer.name] = str(error)
    return found


def run_rows(
    rows: Sequence[Row],
    peers: Sequence[Peer],
    found: dict[str, Installed | str],
    certificates: Certificates,
    directory: Path,
    plan: Plan,
    progress: Progress,
) -> list[tuple[Row, list[Result]]]:
    """Measure some rows with all peers, interleaved; leaves no process behind.

    Args:
        rows: what to do; rows that are compared with each other belong in one call.
        peers: with whom.
        found: what :func:`find` returned for them.
        certificates: for pairs.
        directory: for the files of these rows; must exist.
        plan: how long and how often.
        progress: told, in words, what is going on.

    """
    outcomes: list[tuple[Row, list[Result]]] = []
    ready: list[_Runner] = []
    with ExitStack() as stack:
        for row in rows:
            results: list[Result] = []
            outcomes.append((row, results))
            for peer in peers:
                installed = found[peer.name]
                if isinstance(installed, str):
                    results.append(Result(peer.name, "missing", problem=installed))
                    continue
                result = Result(peer.name, installed.version, rounds=plan.rounds)
                results.append(result)
                progress(f"{row.name}: starting {peer.name}")
                place = directory / row.name / peer.name
                place.mkdir(parents=True)
                try:
                    ready.append(
                        _set_up(stack, row, peer, installed, certificates, place, result, plan)
                    )
                except BenchError as error:
                    result.problem = str(error)
        _rounds(ready, plan, progress)
    return outcomes


def _rounds(ready: Sequence[_Runner], plan: Plan, progress: Progress) -> None:
    patience_s = plan.patience_s
    for number in range(plan.rounds * 2):
        for runner in ready:
            result = runner.result
            if result.problem is not None or result.settled:
                continue
            again = " again: the cores were not quiet" if number >= plan.rounds else ""
            progress(f"{runner.row.name}: round {number + 1}, {result.peer}{again}")
            patience_s -= _wait_for_quiet(patience_s)
            try:
                _round(runner, plan, first=number == 0)
            except BenchError as error:
                result.problem = str(error)


def _wait_for_quiet(patience_s: float) -> float:
    """Wait until other work leaves both cores alone, but not for ever; returns how long, in s.

    None of the bench's own processes has anything to do meanwhile.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < patience_s:
        before = measure.read([], [])
        time.sleep(0.3)
        idle = measure.span(before, measure.read([], []))
        if max(idle.foreign_s) / idle.wall_s <= QUIET_SHARE:
            break
    return time.monotonic() - begin


def _set_up(
    stack: ExitStack,
    row: Row,
    peer: Peer,
    installed: Installed,
    certificates: Certificates,
    directory: Path,
    result: Result,
    plan: Plan,
) -> _Runner:
    pair = row.kind is Kind.PAIR
    members = certificates if pair else None
    job = Job(
        row.kind,
        row.access_log,
        directory,
        members,
        row.http2,
        row.services,
        row.plugin,
        row.script,
        row.body_bytes,
        row.workers,
    )
    wanted = peer.proxies(installed, job)
    children = Children(directory)
    stack.callback(children.stop)
    site = (pair_site if pair else plain_site)(children, body_bytes=row.body_bytes, http2=row.http2)
    measured, proxies = [], []
    for proxy in wanted:
        namespace = site.client_namespace if proxy.side is Side.CLIENT else site.server_namespace
        child = children.start(
            proxy.name,
            proxy.command,
            core=at.PROXY_CORE if row.workers == 1 else f"{at.PROXY_CORE},{at.LOAD_CORE}",
            namespace_pid=namespace,
            stdout=proxy.stdout,
        )
        wait_for_listener(child, proxy.port)
        proxies.append(child)
        if not (row.hold and proxy.side is Side.CLIENT):
            measured.append(child.pid)
    runner = _Runner(
        result=result,
        row=row,
        site=site,
        directory=directory,
        certificates=job.certificates,
        pids=measure.tree(measured),
        load_pids=measure.tree([site.backend]),
        proxies=proxies,
    )
    result.idle_bytes = measure.resident_bytes(runner.pids)
    if row.http2.client:
        # The probe speaks HTTP/1.1; that strangers are refused is shown by the rows of that.
        _send(runner, 0)
    else:
        probe.check(site, row.kind, row.body_bytes, job.certificates)
    if row.script:
        script_probe.check(site, row.script, row.body_bytes)
    runner.ensure_running()
    if not row.hold:
        _load(runner, plan.warm_up_s)
    return runner


def _round(runner: _Runner, plan: Plan, *, first: bool) -> None:
    try:
        sample = _hold(runner, first=first) if runner.row.hold else _load(runner, plan.seconds)
    except RowError:
        # That a proxy has ended explains more than what the client saw of it.
        runner.ensure_running()
        raise
    runner.ensure_running()
    runner.result.samples.append(sample)


def _load(runner: _Runner, seconds: int) -> Sample:
    """Load for some seconds, the proxies' counters read around it."""
    before = measure.read(runner.pids, runner.load_pids)
    seen = _send(runner, seconds)
    used = measure.span(before, measure.read(runner.pids, runner.load_pids))
    if seen.bytes_per_request < runner.row.body_bytes:
        raise RowError(
            f"responses of {seen.bytes_per_request:.0f} bytes on average,"
            f" {runner.row.body_bytes} and a head expected; errors: {seen.errors or 'none'}"
        )
    return Sample(
        cpu_us=used.cpu_s / seen.requests * 1e6,
        core_share=used.cpu_s / used.wall_s,
        foreign_share=max(used.foreign_s) / used.wall_s,
        requests_per_s=seen.requests / seen.duration_s,
        p50_us=seen.p50_us,
        p99_us=seen.p99_us,
        errors=seen.errors,
    )


def _send(runner: _Runner, seconds: int) -> load.Load:
    """Send requests in the version of HTTP that the row's clients speak."""

    def watch_memory() -> None:
        now = measure.resident_bytes(runner.pids)
        runner.result.load_bytes = max(runner.result.load_bytes or 0, now)

    row = runner.row
    if row.http2.client:
        return load.run_h2load(
            runner.site,
            runner.directory,
            seconds=seconds,
            connections=row.connections if seconds else 1,
            streams=row.streams,
            grpc=row.http2.grpc,
            while_running=watch_memory,
        )
    return load.run_wrk(
        runner.site,
        runner.directory,
        seconds=seconds,
        connections=row.connections,
        close=row.close,
        while_running=watch_memory,
    )


def _hold(runner: _Runner, *, first: bool) -> Sample:
    """Open connections and leave them idle.

    Memory counts only in the first round: later ones use again what was freed.
    """
    row, site = runner.row, runner.site
    address, port = site.target
    arguments: dict[str, object] = {"address": address, "port": port, "count": row.hold}
    if runner.certificates is not None:
        client = runner.certificates.client
        arguments |= {
            "address": at.SERVER_IP,
            "port": at.SERVICE_PORT,
            "roots": str(runner.certificates.roots),
            "chain": str(client.chain),
            "key": str(client.key),
        }
    command = [sys.executable, "-m", "tools.bench.hold", json.dumps(arguments)]
    resident = measure.resident_bytes(runner.pids)
    before = measure.read(runner.pids, runner.load_pids)
    popen = subprocess.Popen(
        wrap(command, core=at.LOAD_CORE, namespace_pid=site.client_namespace),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pass_on_niceness(popen)
    try:
        assert popen.stdout is not None
        if popen.stdout.readline().strip() != "open":
            raise RowError(
                f"holding {row.hold} connections: {popen.communicate(timeout=5)[1].strip()}"
            )
        used = measure.span(before, measure.read(runner.pids, [*runner.load_pids, popen.pid]))
        if first:
            grown = measure.resident_bytes(runner.pids) - resident
            runner.result.idle_connection_bytes = grown / row.hold
            runner.result.load_bytes = resident + grown
        popen.communicate("", timeout=30)
        if first:
            kept = _lowest_resident(runner.pids, within_s=3.0) - resident
            runner.result.kept_connection_bytes = kept / row.hold
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.communicate()
    return Sample(
        cpu_us=used.cpu_s / row.hold * 1e6,
        core_share=used.cpu_s / used.wall_s,
        foreign_share=max(used.foreign_s) / used.wall_s,
    )


def _lowest_resident(pids: Sequence[int], *, within_s: float) -> int:
    """Return the least resident memory seen for a while: it is given back late, if at all."""
    deadline = time.monotonic() + within_s
    lowest = measure.resident_bytes(pids)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        lowest = min(lowest, measure.resident_bytes(pids))
    return lowest
