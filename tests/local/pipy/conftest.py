"""A pipy that runs a script: started on free ports, stopped by id, its log kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PIPY = Path(os.environ.get("PIPY") or Path(sys.executable).parent / "pipy")
PATIENCE = 15.0
GRACE = 3.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def run_once(*args: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run pipy to its end."""
    return subprocess.run(
        [PIPY, *args], capture_output=True, text=True, timeout=timeout, check=False
    )


@dataclass
class Running:
    """A script at work. ``ports`` are those of its ``PORT0``, ``PORT1`` …"""

    process: subprocess.Popen[bytes]
    ports: list[int]
    script: Path
    log_file: Path

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_file.read_text()

    def logged(self, text: str) -> str:
        """Wait until the log has this text; the log."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log}"
            time.sleep(0.02)
        return self.log

    def write(self, source: str) -> None:
        """Put another script in place of the one that runs."""
        for number, port in enumerate(self.ports):
            source = source.replace(f"PORT{number}", str(port))
        self.script.write_text(source)

    def reload(self) -> None:
        """Have it loaded."""
        self.process.send_signal(signal.SIGHUP)

    def curl(self, path: str, *args: str, port: int = 0) -> subprocess.CompletedProcess[str]:
        """Ask with curl."""
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        command = ["curl", "-sS", "-m", "10", *args, url]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts scripts; what runs at the end is stopped."""
    running: list[Running] = []

    def begin(source: str, *args: str, ports: int = 1, **files: str) -> Running:
        chosen = free_ports(ports)
        folder = tmp_path / f"script-{len(running)}"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.js").write_text(text)
        log_file = folder / "log"
        script = folder / "main.js"
        made = Running(None, chosen, script, log_file)  # type: ignore[arg-type]
        made.write(source)
        with log_file.open("wb") as log:
            made.process = subprocess.Popen(
                [PIPY, *args, str(script)],
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},
            )
        running.append(made)
        deadline = time.monotonic() + PATIENCE
        while not all(_listening(port) for port in chosen):
            assert made.process.poll() is None, f"pipy has ended:\n{made.log}"
            assert time.monotonic() < deadline, f"pipy does not listen:\n{made.log}"
            time.sleep(0.02)
        return made

    yield begin
    for made in running:
        if made.process.poll() is None:
            made.process.terminate()
            try:
                made.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                # Somebody has connections open still; a second signal ends it at once.
                made.process.terminate()
                made.process.wait(PATIENCE)
