"""Change after change: the statuses are those that judging everything anew comes to."""

from __future__ import annotations

import random
from typing import Any

import pytest
from changes import Seen, Step, batches, take, worlds_and_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, port

from fsm.compile import Assessments, Change, IncrementalCompiler, assess, build_snapshot
from fsm.compile import assessing as module
from fsm.model import Key

ALL = ("HTTPRouteGroup", "g", "all")


def from_nothing(world: World, seen: Seen) -> list[Any]:
    snapshot, _ = build_snapshot(seen.objects(), world.settings, trust_roots=world.roots)
    return assess(snapshot, world.settings)


@settings(max_examples=100, deadline=None)
@given(worlds_and_steps(), st.randoms(use_true_random=False))
def test_after_every_change_every_status_is_the_one_judged_from_nothing(
    case: tuple[World, list[Step]], shuffle: random.Random
) -> None:
    world, steps = case
    compiler, seen = IncrementalCompiler(world.settings), Seen(world)
    compiler.begin(world.objects(), trust_roots=world.roots)
    found = compiler.assessments
    held: dict[Any, Any] = {}

    def hear() -> None:
        for kind, key in found.bring():
            status = found.find(kind, key)
            assert held.get((kind, key)) != status, "only what differs is told"
            held[kind, key] = status

    hear()
    assert found.all() == from_nothing(world, seen)
    for step in steps:
        for batch in batches(take(world, step), shuffle):
            compiler.update(batch, trust_roots=world.roots)
            seen.take(batch)
            if shuffle.random() < 0.3:
                continue
            hear()
            wanted = from_nothing(world, seen)
            assert found.all() == wanted, step
            told = [status for status in held.values() if status is not None]
            assert sorted(told, key=lambda s: (s.kind, s.namespace, s.name)) == wanted, step


def shops(count: int) -> World:
    world = World().namespace("shop").mesh()
    world.group("shop", "g", {"name": "all"})
    world.namespace("a").workload("a", "two", port(80))
    for index in range(count):
        world.workload("shop", f"till-{index}", port(80))
        world.target(f"t{index}", ("shop", f"till-{index}"), [("shop", "clerk")], ALL)
    return world


def followed(world: World) -> tuple[IncrementalCompiler, Assessments]:
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    compiler.assessments.bring()
    return compiler, compiler.assessments


@pytest.mark.parametrize("count", [3, 30])
def test_a_change_has_those_judged_that_it_may_concern(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shops(count)
    compiler, found = followed(world)
    judged = []
    real = module.assess_one

    def noted(*arguments: Any) -> Any:
        judged.append(arguments[-1].name)
        return real(*arguments)

    monkeypatch.setattr(module, "assess_one", noted)
    compiler.update(take(world, Step("target", 0, 1, 7)), trust_roots=world.roots)
    assert found.bring() == set(), "it is in effect as before"
    assert judged == ["t0"]
    # Its last Pod goes: whoever leads there has no workload.
    compiler.update([Change("Pod", Key("shop", "till-1"), None)], trust_roots=world.roots)
    assert found.bring() == {("TrafficTarget", Key("shop", "t1"))}
    assert judged == ["t0", "t1"]
    status = found.find("TrafficTarget", Key("shop", "t1"))
    assert status is not None
    assert status.current_status == "NoWorkload"


def test_what_fails_to_be_judged_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = shops(2)
    compiler, found = followed(world)
    real = module.assess_one

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, "assess_one", broken)
    group = Change("HTTPRouteGroup", Key("shop", "g"), None)
    compiler.update([group], trust_roots=world.roots)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a fault"):
            found.bring()
    monkeypatch.setattr(module, "assess_one", real)
    assert found.bring() == {
        ("HTTPRouteGroup", Key("shop", "g")),
        ("TrafficTarget", Key("shop", "t0")),
        ("TrafficTarget", Key("shop", "t1")),
    }
    world.found["HTTPRouteGroup"].clear()
    assert found.all() == from_nothing(world, Seen(world))
