"""What a run found, as data: samples per round, and the figures that are made of them.

Everything here is plain enough to become JSON with ``dataclasses.asdict``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one peer in one row."""

    cpu_us: float
    """CPU time of the proxy or proxies per request (per connection in a ``hold`` row), in µs."""
    core_share: float
    """Share of their core that the proxies used; near 1 they, and not the client, set the pace."""
    softirq_share: float
    """Share of that core that the kernel's packet thread took. It works for the proxies, but only
    where packets come faster than system calls can deliver them, so it is not added to ``cpu_us``.
    """
    foreign_share: float
    """Share of that core that other work on the machine took."""
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

    @property
    def cpu_us(self) -> Figure | None:
        """CPU time per request."""
        return figure([sample.cpu_us for sample in self.samples])

    @property
    def errors(self) -> int:
        """Failed requests in all rounds."""
        return sum(sum(sample.errors.values()) for sample in self.samples)

    def median(self, name: str) -> float | None:
        """Return the median of one of the samples' numbers."""
        values = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
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
