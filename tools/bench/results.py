"""What a run found, as data: samples per round, and the figures that are made of them.

Everything here is plain enough to become JSON with ``dataclasses.asdict``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

QUIET_SHARE = 0.05
"""Up to this share of a core for others, a round counts as quiet."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one peer in one row."""

    cpu_us: float
    """CPU time of the proxy or proxies per request (per connection in a ``hold`` row), in µs."""
    core_share: float
    """Share of their core that the proxies used; near 1 they, and not the client, set the pace."""
    foreign_share: float
    """Share that other work took of the proxies' core, or of the load's where that is more."""
    requests_per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """One peer in one row."""

    peer: str
    version: str
    problem: str | None = None
    """Why there are no figures, in words."""
    samples: list[Sample] = field(default_factory=list)
    idle_bytes: int | None = None
    """Resident memory before any load."""
    load_bytes: int | None = None
    """Highest resident memory seen under load."""
    idle_connection_bytes: float | None = None
    """Resident memory per idle connection, in a ``hold`` row."""
    kept_connection_bytes: float | None = None
    """The same, after all connections were closed."""

    rounds: int = 0
    """How many samples the figures are made of: the quietest; all when there are no more."""

    @property
    def quietest(self) -> list[Sample]:
        """The samples that the figures are made of.

        They are chosen by what others did on the cores, never by what they say of the proxy.
        """
        ordered = sorted(self.samples, key=lambda sample: sample.foreign_share)
        return ordered[: self.rounds or None]

    @property
    def settled(self) -> bool:
        """Whether there are enough samples from quiet cores."""
        quiet = [s for s in self.samples if s.foreign_share <= QUIET_SHARE]
        return len(quiet) >= self.rounds

    @property
    def cpu_us(self) -> Figure | None:
        """CPU time per request."""
        return figure([sample.cpu_us for sample in self.quietest])

    @property
    def errors(self) -> int:
        """Failed requests in all rounds."""
        return sum(sum(sample.errors.values()) for sample in self.samples)

    def median(self, name: str) -> float | None:
        """Return the median of one of the samples' numbers."""
        values = [value for sample in self.quietest if (value := getattr(sample, name)) is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A median and the values that it is the middle of."""

    median: float
    lowest: float
    highest: float

    @property
    def spread(self) -> float:
        """Distance of the extremes, as a share of the median."""
        return (self.highest - self.lowest) / self.median if self.median else 0.0


def figure(values: Sequence[float]) -> Figure | None:
    """Return median and extremes, or ``None`` of nothing."""
    if not values:
        return None
    return Figure(statistics.median(values), min(values), max(values))
