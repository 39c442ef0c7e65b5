"""What a command shows while it waits: on a terminal that it lives, in a pipe nothing."""

from __future__ import annotations

import os
import subprocess
import sys

SLOW = """
import asyncio
from fsm.cli import runner
print(runner.run(asyncio.sleep({seconds}, "done"), "asking the mesh"))
"""


def run(seconds: float, *, terminal: bool) -> tuple[str, str]:
    """Run a command that takes its time; returns what it wrote to stdout and to stderr."""
    ours, theirs = os.openpty() if terminal else os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", SLOW.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        said = os.read(ours, 1 << 16).decode()
    except OSError:
        said = ""
    os.close(ours)
    return done.stdout, said


def test_a_wait_that_is_long_is_told_on_a_terminal_and_leaves_nothing() -> None:
    out, said = run(1.6, terminal=True)
    assert out == "done\n"
    assert "asking the mesh" in said
    # What is left on the screen: the line was taken away and the cursor is back.
    assert said.rstrip().endswith("\x1b[2K")
    assert "\x1b[?25h" in said


def test_a_short_wait_and_one_in_a_pipe_are_silent() -> None:
    assert run(0.0, terminal=True) == ("done\n", "")
    assert run(1.6, terminal=False) == ("done\n", "")
