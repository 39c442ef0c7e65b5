"""READMEs of examples at work: their commands, typed as they stand, but on free ports.

In: an example and the ports that it names. Out: its programs at work in a folder of their own, and
what each command showed.
The files of the example are copied there with the other ports in them, so that nothing has to be
set in the environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .conftest import EXAMPLES, PATIENCE, PIPY, ROOT, free_port, ported

TEXTS = {".js", ".json", ".sh", ".md"}


def blocks(readme: str) -> tuple[str, list[tuple[str, str]]]:
    """What is typed to start an example, and the commands to try, each with what it shows."""
    start: list[str] = []
    shown: list[tuple[str, list[str]]] = []
    fence = ""
    for line in readme.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```sh" and not shown:
            start.append(line)
        elif fence == "```" and line.startswith("$ "):
            shown.append((line[2:], []))
        elif fence == "```" and shown:
            shown[-1][1].append(line)
    return "\n".join(start), [(command, "\n".join(expected)) for command, expected in shown]


@dataclass
class Example:
    """An example at work."""

    folder: Path
    ports: dict[int, int]
    commands: list[tuple[str, str]]
    log: Path
    variables: dict[str, str] = field(default_factory=dict)

    def type(self, command: str) -> str:
        """What a command shows."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def check(self, count: int) -> None:
        """Each of so many commands shows what the README says."""
        assert len(self.commands) == count
        for command, expected in self.commands:
            shown = self.type(command)
            said = f"$ {command}\n{shown}\n-- not:\n{expected}\n-- log:\n{self.log.read_text()}"
            assert shown == expected.strip(), said


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def at_work(folder: Path, name: str, *known: int) -> Iterator[Example]:
    """Starts what the README of an example says, on other ports than those that are known."""
    # In the same order, for commands that sort what they show.
    ports = dict(zip(sorted(known), sorted(free_port() for _ in known), strict=True))
    (folder / "proxy").symlink_to(ROOT / "proxy")
    examples = folder / "examples" / "pipy"
    shutil.copytree(EXAMPLES, examples)
    for path in examples.rglob("*"):
        if path.suffix in TEXTS and (name in path.parts or path.suffix == ".sh"):
            path.write_text(ported(path.read_text(), ports))
    start, commands = blocks((examples / name / "README.md").read_text())
    tools = folder / "bin"
    tools.mkdir()
    (tools / "pipy").symlink_to(PIPY)
    # The python3 of the tests has the libraries that programs of examples need.
    programs = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    log = folder / "log"
    variables = {**os.environ, "LC_ALL": "C", "PATH": programs, "PYTHONDONTWRITEBYTECODE": "1"}
    example = Example(folder, ports, commands, log, variables)
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", f"set -e\n{start}\nwait"],
            cwd=folder,
            env=example.variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while waiting := [old for old, port in ports.items() if not listens(port)]:
            assert shell.poll() is None, f"it has ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"nobody at {waiting}:\n{log.read_text()}"
            time.sleep(0.05)
        yield example
    finally:
        # The shell began a session: its number is that of the group of all that it has started.
        for last in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(shell.pid, last)
                shell.wait(PATIENCE)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
