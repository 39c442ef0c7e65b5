"""One mesh per module, in a box of its own, opened and closed by the commands of users."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from meshworld.machine import why_no_box
from meshworld.shell import Shell


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory for everything of one mesh."""
    if reason := why_no_box():
        pytest.skip(reason)
    # Not under pytest's own directory: paths of unix sockets must be short.
    path = Path(tempfile.mkdtemp(prefix="fsm-sys-", dir="/var/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shell(home: Path) -> Iterator[Shell]:
    """A terminal; the box that is opened in it is closed in any case."""
    made = Shell(home)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def mesh(shell: Shell) -> Shell:
    """A terminal beside a mesh that is up, with nothing in it."""
    shell.up()
    return shell
