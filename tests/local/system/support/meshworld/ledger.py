"""What the callers noted: one outcome per request, read from their logs on this machine's disk.

The files are read as they lie, without the node agent or the API: those are being killed while the
callers call.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshworld.shell import Shell
from meshworld.waiting import until


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when it began and ended (seconds since the epoch), and what came of it."""

    name: str
    began: float
    ended: float
    outcome: str

    @property
    def ok(self) -> bool:
        return self.outcome == "200"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The log of one caller."""

    log: Path

    @classmethod
    def of(cls, shell: Shell, namespace: str, app: str) -> Ledger:
        shell.ready(namespace, app)
        (pod,) = shell.pods(namespace, app)
        return cls(shell.state / "pods" / pod["metadata"]["uid"] / "main.log")

    def calls(self, name: str) -> Iterator[Call]:
        for line in self.log.read_text().splitlines():
            # The last line may still be on its way.
            if line.startswith("{") and line.endswith("}"):
                call = Call(**json.loads(line))
                if call.name == name:
                    yield call

    def since(self, name: str, moment: float) -> list[Call]:
        """The calls that began after a moment."""
        return [call for call in self.calls(name) if call.began > moment]

    def flows(self, name: str, moment: float, *, in_a_row: int = 5, limit_s: float = 30.0) -> float:
        """Wait until requests succeed again, several in a row; returns when the first did."""

        def look() -> list[Call]:
            last = self.since(name, moment)[-in_a_row:]
            return last if len(last) == in_a_row and all(c.ok for c in last) else []

        found = until(look, f"{name}: {in_a_row} requests in a row succeed", limit_s)
        return found[0].ended

    def many(self, name: str, moment: float, count: int, limit_s: float = 30.0) -> list[Call]:
        """Wait for a number of calls after a moment, whatever came of them."""

        def look() -> list[Call]:
            found = self.since(name, moment)
            return found if len(found) >= count else []

        return until(look, f"{name}: {count} calls", limit_s)

    def summary(self, name: str, moment: float = 0.0) -> Counter[str]:
        return Counter(call.outcome for call in self.since(name, moment))
