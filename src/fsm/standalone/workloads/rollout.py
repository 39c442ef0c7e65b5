"""The arithmetic of a rollout: how many replicas each ReplicaSet should have now. Pure.

    new ReplicaSet ── grows while total ≤ replicas + maxSurge
    old ReplicaSets ── shrink while available ≥ replicas − maxUnavailable, broken ones first

What comes in: numbers of the Deployment and of its ReplicaSets. What goes out: the number of
replicas to set for each. Invariants: the bounds above hold at every step, whatever the Pods do in
between; with nothing to do the numbers do not change.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Replicas:
    """One ReplicaSet in numbers.

    Attributes:
        name: of the ReplicaSet.
        spec: replicas it is told to have.
        ready: of these, available.
        exist: Pods that it has, available or not.
    """

    name: str
    spec: int
    ready: int
    exist: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a rollout may stray from the wanted number of replicas."""

    surge: int
    unavailable: int


def bounds(replicas: int, max_surge: Any, max_unavailable: Any) -> Bounds:
    """Resolve the two settings, numbers or percentages (surge rounds up, unavailable down)."""
    surge = _resolve(max_surge, replicas, up=True)
    unavailable = _resolve(max_unavailable, replicas, up=False)
    if surge == 0 and unavailable == 0:
        # Otherwise nothing could ever move; small percentages of few replicas get here.
        unavailable = 1
    return Bounds(surge, unavailable)


def rolling(wanted: int, limits: Bounds, new: Replicas, old: list[Replicas]) -> dict[str, int]:
    """Compute the next step of a rolling update: ReplicaSet name to replicas, changes only."""
    step: dict[str, int] = {}
    total = new.spec + sum(rs.spec for rs in old)
    if new.spec > wanted:
        step[new.name] = wanted
    elif new.spec < wanted:
        room = wanted + limits.surge - total
        if room > 0:
            step[new.name] = new.spec + min(room, wanted - new.spec)
    if step:
        # One direction at a time: the next look sees what came of it.
        return step
    least = wanted - limits.unavailable
    missing = max(0, new.spec - new.ready)
    spare = total - least - missing
    for rs in sorted(old, key=lambda rs: rs.name):
        broken = min(rs.spec - rs.ready, spare)
        if broken > 0:
            step[rs.name] = rs.spec - broken
            spare -= broken
    surplus = new.ready + sum(rs.ready for rs in old) - least
    for rs in sorted(old, key=lambda rs: rs.name):
        present = step.get(rs.name, rs.spec)
        fewer = min(present, surplus, max(0, spare))
        if fewer > 0:
            step[rs.name] = present - fewer
            surplus -= fewer
            spare -= fewer
    return step


def recreate(wanted: int, new: Replicas, old: list[Replicas]) -> dict[str, int]:
    """Compute the next step of Recreate: first all old ones end, then new ones start."""
    step = {rs.name: 0 for rs in old if rs.spec}
    if not step and not any(rs.exist for rs in old) and new.spec != wanted:
        step[new.name] = wanted
    return step


def _resolve(value: Any, replicas: int, *, up: bool) -> int:
    if value is None:
        value = "25%"
    text = str(value)
    if text.endswith("%"):
        share = replicas * float(text[:-1]) / 100
        return math.ceil(share) if up else math.floor(share)
    return max(0, int(text))
