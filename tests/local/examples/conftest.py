"""Examples at work: started as their README says, on free ports, and stopped by id."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "pipy"
PIPY = Path(os.environ.get("PIPY", Path(sys.executable).parent / "pipy"))
PATIENCE = 15.0

# Starts a command with variables; it listens on the port when this returns. The log's path.
Start = Callable[..., Path]


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Starts programs in a folder; what runs at the end is stopped."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(port: int, *command: str | Path, **variables: str) -> Path:
        path = folder / f"log-{len(running)}"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **variables},
                cwd=folder,
                start_new_session=True,
            )
        running.append(process)
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            assert process.poll() is None, f"{command} has ended:\n{path.read_text()}"
            assert time.monotonic() < deadline, f"{command} does not listen:\n{path.read_text()}"
            time.sleep(0.02)
        return path

    yield begin
    for process in reversed(running):
        process.terminate()
        try:
            # A session of UDP has no end but its time; the second signal does not wait for it.
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
        # What a script has started, and was killed before it could end it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs for one test."""
    with starting(tmp_path) as begin:
        yield begin


def ported(text: str, ports: dict[int, int]) -> str:
    """The text with other ports: all at once, for a new one may be another's old one."""
    return re.sub(r"\d+", lambda found: str(ports.get(int(found[0]), found[0])), text)


def said_and_done(
    readme: Path, ports: dict[int, int], **variables: str
) -> list[tuple[str, str, str]]:
    """Runs what a README shows after ``$``: command, the output that it shows, and the real one."""
    shown: list[tuple[str, list[str]]] = []
    fence = ""
    for line in readme.read_text().splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```" and line.startswith("$ "):
            shown.append((line[2:], []))
        elif fence == "```" and shown:
            shown[-1][1].append(line)
    results = []
    for command, expected in shown:
        done = subprocess.run(
            ["bash", "-c", ported(command, ports)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=ROOT,
            env={**os.environ, "LC_ALL": "C", **variables},
        )
        results.append((command, "\n".join(expected), (done.stdout + done.stderr).strip()))
    return results
