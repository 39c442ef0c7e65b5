"""The arithmetic of a rollout, driven by simulated Pods until it is done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.standalone.workloads.rollout import Bounds, Replicas, bounds, recreate, rolling


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, None, None, Bounds(1, 1)),
        (1, "25%", "25%", Bounds(1, 0)),
        (10, "25%", "25%", Bounds(3, 2)),
        (3, 0, 0, Bounds(0, 1)),
        (3, 2, "100%", Bounds(2, 3)),
        (0, "25%", "25%", Bounds(0, 1)),
    ],
)
def test_bounds_resolve_percentages(
    replicas: int, surge: Any, unavailable: Any, expected: Bounds
) -> None:
    assert bounds(replicas, surge, unavailable) == expected


@given(
    wanted=st.integers(0, 12),
    old_counts=st.lists(st.integers(0, 12), max_size=3),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
)
def test_rollout_ends_and_never_leaves_its_bounds(
    wanted: int, old_counts: list[int], surge: int, unavailable: int, order: Any
) -> None:
    limits = bounds(wanted, surge, unavailable)
    spec = {"new": 0} | {f"old{n}": count for n, count in enumerate(old_counts)}
    ready = dict(spec)
    begun = sum(spec.values())
    for _ in range(500):
        numbers = [Replicas(n, spec[n], min(spec[n], ready[n]), ready[n]) for n in spec]
        step = rolling(wanted, limits, numbers[0], numbers[1:])
        available = sum(min(spec[n], ready[n]) for n in spec)
        spec |= step
        for name in step:
            ready[name] = min(ready[name], spec[name])
        assert sum(spec.values()) <= max(begun, wanted + limits.surge)
        after = sum(ready.values())
        assert after >= min(available, wanted - limits.unavailable)
        # One Pod, anywhere, becomes ready before the next look; which one is up to chance.
        waiting = [name for name in spec if ready[name] < spec[name]]
        if waiting:
            ready[order.choice(waiting)] += 1
        elif not step:
            break
    assert spec == {"new": wanted} | {name: 0 for name in spec if name != "new"}


def test_broken_old_pods_go_first_and_do_not_hold_the_rollout() -> None:
    new, broken = Replicas("new", 1, 1, 1), Replicas("old", 3, 0, 3)
    assert rolling(3, Bounds(1, 1), new, [broken]) == {"old": 1}


def test_recreate_waits_until_the_old_pods_are_gone() -> None:
    new = Replicas("new", 0, 0, 0)
    assert recreate(2, new, [Replicas("old", 2, 2, 2)]) == {"old": 0}
    assert recreate(2, new, [Replicas("old", 0, 0, 1)]) == {}
    assert recreate(2, new, [Replicas("old", 0, 0, 0)]) == {"new": 2}
