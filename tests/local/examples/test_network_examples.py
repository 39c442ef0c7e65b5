"""Examples that change the network: their READMEs, typed in a network namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import EXAMPLES, PATIENCE, PIPY, ROOT
from .readme import blocks


def _can() -> bool:
    if not all(shutil.which(program) for program in ("ip", "unshare", "nsenter")):
        return False
    return (
        subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode == 0
    )


needs_root = pytest.mark.skipif(not _can(), reason="needs root and network namespaces")


@dataclass
class Namespace:
    """A network namespace with programs in it; both end with the test."""

    inside: list[str]
    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def type(self, command: str) -> str:
        """What a command shows."""
        done = subprocess.run(
            [*self.inside, "bash", "-c", f"cd {ROOT}\n{command}"],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        return (done.stdout + done.stderr).strip()

    def start(self, command: str) -> None:
        """Begin a program that goes on; its log stays in the folder."""
        log = self.folder / f"log-{len(self.running)}"
        with log.open("wb") as out:
            argv = [*self.inside, "bash", "-c", f"cd {ROOT}\nexec {command}"]
            self.running.append(subprocess.Popen(argv, stdout=out, stderr=out))

    def logs(self) -> str:
        """All that was logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("log-*")))

    def stop(self) -> None:
        """End the last program that was started, as the system would."""
        last = self.running.pop()
        last.terminate()
        assert last.wait(PATIENCE) == 0, self.logs()


@contextmanager
def namespace(folder: Path) -> Iterator[Namespace]:
    holder = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "3600"])
    made = Namespace(["nsenter", "--net", "--mount", "--target", str(holder.pid)], folder)
    try:
        own = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + PATIENCE
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            assert time.monotonic() < deadline, "no namespace"
            time.sleep(0.01)
        yield made
    finally:
        for process in made.running:
            process.kill()
            process.wait()
        holder.kill()
        holder.wait()


@contextmanager
def at_work(folder: Path, name: str, replaced: dict[str, str]) -> Iterator[Namespace]:
    """An example, started as its README says, each of whose commands has shown what it should."""
    start, commands = blocks((EXAMPLES / name / "README.md").read_text())

    def own(text: str) -> str:
        for old, new in replaced.items():
            text = text.replace(old, new)
        return text

    with namespace(folder) as made:
        for line in own(start).splitlines()[1:]:
            command = line.partition("#")[0].rstrip()
            if command.endswith("&"):
                command = command.removesuffix("&")
                made.start(
                    command.replace("pipy ", f"{PIPY} ", 1) if "main.js" in line else command
                )
            else:
                made.type(command)
        for command, expected in commands:
            deadline = time.monotonic() + 2 * PATIENCE
            # What was begun is not done yet; what changes something is typed once.
            while (shown := made.type(own(command))) != expected.strip():
                late = time.monotonic() > deadline
                said = f"$ {command}\n{shown}\n{made.logs()}"
                assert "-X" not in command, said
                assert not late, said
                time.sleep(0.1)
        yield made


@needs_root
def test_links_and_addresses_are_watched_and_changed(tmp_path: Path) -> None:
    with at_work(tmp_path, "19-link-monitor", {}) as example:
        assert "address 10.9.0.1/24 is on inner" in example.logs()
        # A socket that waits for the kernel holds nobody up.
        example.stop()


@needs_root
@pytest.mark.skipif(not shutil.which("bird"), reason="needs bird2")
def test_a_router_learns_routes_and_forgets_them(tmp_path: Path) -> None:
    control = str(tmp_path / "bird.ctl")
    with at_work(tmp_path, "20-bgp-announcer", {"/run/bird-example.ctl": control}) as example:
        example.stop()
        deadline = time.monotonic() + PATIENCE
        while "Administrative shutdown" not in example.logs():
            assert time.monotonic() < deadline, example.logs()
            time.sleep(0.05)
        assert "203.0.113.0" not in example.type(f"birdc -s {control} show route")


@needs_root
@pytest.mark.skipif(not shutil.which("bpf-gcc"), reason="needs gcc-bpf")
def test_a_program_in_the_kernel_counts_and_drops_packets(tmp_path: Path) -> None:
    with at_work(tmp_path, "21-packet-counter", {}) as example:
        assert "xdp" in example.type("ip link show dev lo")
        example.stop()
        assert "xdp" not in example.type("ip link show dev lo")
        assert "packet-counter" not in example.type("ls /mnt/bpf")
