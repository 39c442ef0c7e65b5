"""One mesh per module, in a box of its own, opened and closed by the commands of users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from meshworld.shell import BIN, Shell


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory for everything of one mesh."""
    if reason := _why_not():
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


def _why_not() -> str | None:
    """Say what this machine lacks to open a box, or ``None``."""
    if not (BIN / "pipy").exists():
        return "the proxy is not built (`make build` puts it there)"
    for tool in ("ip", "nft", "nsenter", "kubectl", "curl"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"`{tool}` is not installed (`make system` installs it)"
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    tried = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else None
