"""What the agent remembers of a container and of a Pod, in files that outlive the agent.

What comes in and goes out: ``ContainerState`` and ``PodRecord``, as JSON. Invariants: files are
replaced at once, never written in place; one that is torn or of another version reads as new.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Terminated:
    """An end of a container; times in seconds since the epoch."""

    exit_code: int
    signal: int | None
    reason: str
    started_at: float
    finished_at: float
    message: str


@dataclass(slots=True)
class ContainerState:
    """Everything that the status of a container shows.

    Attributes:
        waiting: reason and message while it does not run, ``None`` otherwise.
        running_since: seconds since the epoch, while it runs.
        terminated: its end, when it is final.
        last: the end before the present run.
        restarts: how often it was started again.
        crashes: ends in a row, for the back-off.
        started: whether its startup probe succeeded (or it has none) in this run.
        started_pid: the process that ``started`` speaks of.
        ready: whether it takes traffic.

    """

    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    running_since: float | None = None
    terminated: Terminated | None = None
    last: Terminated | None = None
    restarts: int = 0
    crashes: int = 0
    started: bool = False
    started_pid: int = 0
    ready: bool = False


@dataclass(frozen=True, slots=True)
class PodRecord:
    """What belongs to a Pod on this node, to be found, adopted or removed later."""

    uid: str
    namespace: str
    name: str
    ip: str
    netns: str | None
    link: str
    started_at: float
    ip6: str = ""

    def exists(self) -> bool:
        """Tell whether its network namespace is there."""
        return self.netns is None or Path(self.netns).exists()


def load(directory: Path) -> ContainerState:
    """Read the state of a container; a fresh one when there is none."""
    values = _read(directory / "state.json")
    try:
        for key in ("terminated", "last"):
            if values.get(key) is not None:
                values[key] = Terminated(**values[key])
        if values.get("waiting") is not None:
            values["waiting"] = (values["waiting"][0], values["waiting"][1])
        return ContainerState(**values)
    except (TypeError, IndexError):
        return ContainerState()


def save(directory: Path, state: ContainerState) -> None:
    """Write the state of a container."""
    _write(directory / "state.json", asdict(state))


def load_pod(directory: Path) -> PodRecord | None:
    """Read the record of a Pod; ``None`` when there is none or it is torn."""
    try:
        return PodRecord(**_read(directory / "pod.json"))
    except TypeError:
        return None


def save_pod(directory: Path, record: PodRecord) -> None:
    """Write the record of a Pod."""
    _write(directory / "pod.json", asdict(record))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    # A Pod that was just removed has no directory any more; a full disk must not stop Pods.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(value))
        part.replace(path)
