"""What is measured is what was used: real processes that burn a known amount."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.bench import measure
from tools.bench.errors import RowError

# Burns CPU in a second thread and in a child, then says so and waits.
_BURN = """
import subprocess, sys, threading, time
def burn(seconds):
    while time.thread_time() < seconds: pass
thread = threading.Thread(target=burn, args=(0.2,))
thread.start(); thread.join()
child = subprocess.Popen([sys.executable, "-c", '''
import sys, time
while time.process_time() < 0.2: pass
print(flush=True)
sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print("done", flush=True)
sys.stdin.read()
"""


@contextmanager
def _burner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == b"done\n"
        yield popen


def test_cpu_time_covers_ended_threads_and_children() -> None:
    with _burner() as popen:
        pids = measure.tree([popen.pid])
        used = sum(measure.cpu_ns(pid) for pid in pids) / 1e9
    assert len(pids) == 2
    # Two burns of 0.2 s, and what it takes to start two interpreters.
    assert 0.4 <= used < 2.0


def test_resident_memory_grows_with_what_is_held() -> None:
    hold = "import sys; held = bytearray(range(256)) * 131072; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        assert 32 * 2**20 < measure.resident_bytes([popen.pid]) < 128 * 2**20


def test_process_that_ended_is_an_error_not_a_zero() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as popen:
        popen.wait()
    with pytest.raises(RowError, match="has ended"):
        measure.cpu_ns(popen.pid)
    with pytest.raises(RowError, match="has ended"):
        measure.resident_bytes([popen.pid])


def test_span_counts_own_work_as_ours_and_not_as_foreign() -> None:
    before = measure.Reading(0, {7: 0}, {8: 0}, 0, (10.0, 20.0))
    after = measure.Reading(
        2_000_000_000,
        {7: 1_000_000_000},
        {8: 500_000_000, 9: 250_000_000},
        250_000_000,
        (11.5, 21.0),
    )
    span = measure.span(before, after)
    assert span == measure.Span(wall_s=2.0, cpu_s=1.0, foreign_s=(0.5, 0.0))


def test_core_is_busy_while_it_works() -> None:
    core = min(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        before, end = measure.core_busy_s(core), time.process_time() + 0.2
        while time.process_time() < end:
            pass
        # Counted in ticks: one may be missing at either end.
        assert measure.core_busy_s(core) - before >= 0.15
    finally:
        os.sched_setaffinity(0, allowed)
