"""What a run ran on: only figures of one run on one machine are comparable."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, as far as it explains figures."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    mitigations: str
    """The kernel's words on Spectre v2; what it does about it is paid on every system call."""
    load_average: float
    """Runnable processes in the minute before the run: other work."""

    def line(self) -> str:
        """Return it in one line."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_mb / 1024:.0f} GB, Linux {self.kernel}, "
            f"spectre_v2: {self.mitigations}, load average before the run {self.load_average:.2f}"
        )


def describe() -> Machine:
    """Look at this machine. Source: proc(5)."""
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown CPU",
        cores=os.cpu_count() or 1,
        memory_mb=int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) // 1024,
        kernel=platform.release(),
        mitigations=_mitigations(),
        load_average=os.getloadavg()[0],
    )


def _mitigations() -> str:
    path = Path("/sys/devices/system/cpu/vulnerabilities/spectre_v2")
    try:
        return path.read_text().split(";")[0].strip()
    except OSError:
        return "unknown"


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
