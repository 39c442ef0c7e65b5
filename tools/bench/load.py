"""Puts load on a proxy: wrk for requests, ``hold`` for connections that stay open.

In: a site. Out: what the client saw. wrk keeps a fixed number of connections busy, each with one
request at a time, as fast as the proxy lets it; latencies are therefore those of a saturated proxy
and shrink as it gets cheaper.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import addresses as at
from tools.bench.errors import RowError
from tools.bench.processes import pass_on_niceness, wrap
from tools.bench.sites import Site

_MARKER = "bench-result "

# Only ``done`` is defined: hooks per request would slow wrk down.
_WRK_SCRIPT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write('bench-result ', string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "bytes": %d, '
    .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.bytes, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw in one round."""

    requests: int
    duration_s: float
    p50_us: float
    p99_us: float
    bytes_per_request: float
    errors: dict[str, int]
    """Failed requests by kind; empty when all went well."""


def run_wrk(
    site: Site,
    directory: Path,
    *,
    seconds: int,
    connections: int,
    close: bool,
    while_running: Callable[[], None],
) -> Load:
    """Load a site for some seconds.

    Args:
        site: what to load.
        directory: for the script.
        seconds: how long.
        connections: how many at once.
        close: ask for a new connection per request.
        while_running: called a few times a second.

    Raises:
        RowError: wrk failed, or no request succeeded.

    """
    script = directory / "wrk.lua"
    script.write_text(_WRK_SCRIPT)
    address, port = site.target
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "4s"]
    command += ["-H", f"Host: {at.HOST}", "-H", "User-Agent: bench", "-H", "Accept: */*"]
    command += ["-H", "Connection: close"] if close else []
    command += ["-s", str(script), f"http://{address}:{port}{at.PATH}"]
    output = _run(command, site, seconds, while_running)
    return parse_wrk(output)


def run_h2load(
    site: Site,
    directory: Path,
    *,
    seconds: int,
    connections: int,
    streams: int,
    grpc: bool,
    while_running: Callable[[], None],
) -> Load:
    """Load a site with HTTP/2 for some seconds, by prior knowledge.

    Args:
        site: what to load.
        directory: for the body of calls and the file of latencies.
        seconds: how long; 0: a single request.
        connections: how many at once.
        streams: requests at once on each.
        grpc: send unary calls.
        while_running: called a few times a second.

    Raises:
        RowError: h2load failed, or no request succeeded.

    """
    address, port = site.target
    times = directory / "h2load.times"
    times.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"--log-file={times}"]
    command += [f"-D{seconds}"] if seconds else ["-n1"]
    command += ["-H", f":authority: {at.HOST}", "-H", "user-agent: bench"]
    if grpc:
        message = directory / "message"
        message.write_bytes(b"\0" + (100).to_bytes(4, "big") + b"x" * 100)
        command += ["-d", str(message), "-H", "content-type: application/grpc"]
        command += ["-H", "te: trailers"]
    command.append(f"http://{address}:{port}{at.PATH}")
    output = _run(command, site, seconds, while_running)
    return parse_h2load(output, times.read_text() if times.exists() else "", seconds or 1)


def parse_h2load(output: str, times: str, seconds: float) -> Load:
    """Read what h2load printed, and its file: start, status and microseconds of each request.

    Raises:
        RowError: nothing was printed, or no request succeeded.

    """
    counts = _H2LOAD_COUNTS.search(output)
    traffic = _H2LOAD_TRAFFIC.search(output)
    if counts is None or traffic is None:
        words = " / ".join(output.splitlines()[-3:]) or "no output"
        raise RowError(f"h2load gave no result: {words}")
    done, failed, errored, timeout = (int(counts[name]) for name in counts.groupdict())
    rows = [line.split("\t") for line in times.splitlines()]
    status = sum(row[1] != "200" for row in rows)
    errors = {"status": status, "failed": failed, "errored": errored, "timeout": timeout}
    good = done - status
    if good <= 0:
        raise RowError(f"no request succeeded: {errors}")
    latencies = sorted(int(row[2]) for row in rows)
    return Load(
        requests=done,
        duration_s=seconds,
        p50_us=latencies[len(latencies) // 2],
        p99_us=latencies[len(latencies) * 99 // 100],
        bytes_per_request=int(traffic[1]) / done,
        errors={kind: count for kind, count in errors.items() if count},
    )


_H2LOAD_COUNTS = re.compile(
    r"requests: .* (?P<done>\d+) done, \d+ succeeded, (?P<failed>\d+) failed,"
    r" (?P<errored>\d+) errored, (?P<timeout>\d+) timeout"
)
_H2LOAD_TRAFFIC = re.compile(r"^traffic: .*\((\d+)\) total", re.MULTILINE)


def _run(command: list[str], site: Site, seconds: int, while_running: Callable[[], None]) -> str:
    """Run a load generator in the namespace of the site's clients and return what it said."""
    popen = subprocess.Popen(
        wrap(command, core=at.LOAD_CORE, namespace_pid=site.client_namespace),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    pass_on_niceness(popen)
    try:
        return _wait(popen, seconds + 15.0, while_running)
    finally:
        if popen.poll() is None:
            popen.kill()
            popen.wait()


def _wait(popen: subprocess.Popen[str], timeout_s: float, while_running: Callable[[], None]) -> str:
    step_s = 0.25
    for _ in range(int(timeout_s / step_s)):
        try:
            return popen.communicate(timeout=step_s)[0]
        except subprocess.TimeoutExpired:
            while_running()
    raise RowError(f"wrk still running after {timeout_s:g} s")


def parse_wrk(output: str) -> Load:
    """Read what the script of this module printed.

    Raises:
        RowError: nothing was printed, or no request succeeded.

    """
    lines = [line for line in output.splitlines() if line.startswith(_MARKER)]
    if not lines:
        raise RowError(f"wrk gave no result: {' / '.join(output.splitlines()[-3:]) or 'no output'}")
    numbers = json.loads(lines[-1].removeprefix(_MARKER))
    errors = {
        kind: numbers[kind]
        for kind in ("connect", "read", "write", "status", "timeout")
        if numbers[kind]
    }
    if numbers["requests"] <= numbers["status"]:
        raise RowError(f"no request succeeded: {errors or 'none was answered'}")
    return Load(
        requests=numbers["requests"],
        duration_s=numbers["duration_us"] / 1e6,
        p50_us=numbers["p50_us"],
        p99_us=numbers["p99_us"],
        bytes_per_request=numbers["bytes"] / numbers["requests"],
        errors=errors,
    )
