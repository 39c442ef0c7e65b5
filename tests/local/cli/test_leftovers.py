"""What is left of a box is found, and what only looks like it is not."""

import os
import subprocess
import sys
import time

from fsm.cli.demo import leftovers

CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']).wait()"


def start():
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while len(leftovers.of_box(process.pid).processes) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_box_is_its_first_process_and_all_that_descend_from_it():
    process = start()
    try:
        there = leftovers.of_box(process.pid)
        assert len(there.processes) == 2
        assert os.getpid() not in {pid for pid, _ in there.processes}
        # Processes of our own namespaces do not make these namespaces part of a box.
        assert there.namespaces == frozenset()
        assert str(process.pid) in leftovers.still_there(there)
    finally:
        process.communicate(b"\n")
    assert leftovers.still_there(there) == ""


def test_a_pid_that_is_used_again_is_no_leftover():
    there = leftovers.Belongings(frozenset({(os.getpid(), 1)}), frozenset(), 0)
    assert leftovers.still_there(there) == ""


def test_a_namespace_counts_while_an_older_process_holds_it():
    own = os.readlink("/proc/self/ns/net")
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    held = leftovers.Belongings(frozenset(), frozenset({own}), now)
    assert leftovers.still_there(held) == f"namespace {own}"
    reused = leftovers.Belongings(frozenset(), frozenset({own}), -1)
    assert leftovers.still_there(reused) == ""
