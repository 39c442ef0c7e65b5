"""Differences: carried out, they lead to the configuration itself; and they are short."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator

import pytest
from changes import Step, batches, take, worlds_and_steps
from differences import carry_out
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, port

from fsm.compile import Change, IncrementalCompiler, Text, difference
from fsm.model import Key

MODULE = importlib.import_module("fsm.compile.difference")


@pytest.fixture(autouse=True, scope="module")
def nothing_is_too_short() -> Iterator[None]:
    before = MODULE.WHOLE_BYTES_MAX
    MODULE.WHOLE_BYTES_MAX = 0
    yield
    MODULE.WHOLE_BYTES_MAX = before


@settings(max_examples=80, deadline=None)
@given(worlds_and_steps(), st.randoms(use_true_random=False))
def test_a_difference_carried_out_is_the_configuration_itself(
    case: tuple[World, list[Step]], shuffle: random.Random
) -> None:
    world, steps = case
    compiler = IncrementalCompiler(world.settings)
    snapshot = compiler.begin(world.objects(), trust_roots=world.roots)
    held: dict[str, Text] = {}
    for uid in snapshot.pods_by_uid:
        text = compiler.compile(uid)
        assert text is not None
        held[uid] = text
    for step in steps:
        for batch in batches(take(world, step), shuffle):
            compiler.update(batch, trust_roots=world.roots)
            for uid in list(held):
                now = compiler.compile(uid)
                if now is None:
                    del held[uid]
                    continue
                said = difference(held[uid], now)
                if said is not None:
                    assert carry_out(held[uid].to_json(), said) == now.to_json()
                    assert len(said) < len(now.to_json())
                if shuffle.random() < 0.7:
                    held[uid] = now


def large(services: int = 60) -> World:
    world = World().namespace("shop").mesh(permissive=True, mode="mixed")
    for number in range(services):
        world.workload("shop", f"till-{number:03}", port(80))
    return world


def first(compiler: IncrementalCompiler, world: World) -> Text:
    text = compiler.compile(world.found["Pod"][0]["metadata"]["uid"])
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("what", "limit"), [("egress", 600), ("endpoint", 3_000), ("service", 3_000)]
)
def test_a_change_that_concerns_everyone_is_short_for_each(what: str, limit: int) -> None:
    world = large()
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    before = first(compiler, world)
    assert len(before.to_json()) > 50_000
    if what == "egress":
        world.mesh(permissive=True, mode="mixed", egress=False)
        changes = [Change("MeshConfig", Key("fsm-system", "fsm-mesh-config"), _last(world))]
    elif what == "endpoint":
        world.found["Pod"][30]["status"]["podIP"] = "10.244.9.9"
        changes = [
            Change(kind, Key("shop", obj["metadata"]["name"]), obj)
            for kind in ("Pod", "EndpointSlice")
            for obj in world.objects()[kind]
        ]
    else:
        world.workload("shop", "till-0305", port(80))
        changes = [
            Change(kind, Key("shop", obj["metadata"]["name"]), obj)
            for kind in ("Pod", "Service", "EndpointSlice")
            for obj in world.objects()[kind]
        ]
    compiler.update(changes, trust_roots=world.roots)
    after = first(compiler, world)
    assert after.version != before.version
    said = difference(before, after)
    assert said is not None
    assert len(said) < limit
    assert carry_out(before.to_json(), said) == after.to_json()
    back = difference(after, before)
    assert back is not None
    assert carry_out(after.to_json(), back) == before.to_json()


def _last(world: World) -> dict[str, object]:
    return world.found["MeshConfig"][-1]


def test_a_short_configuration_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    world = large(3)
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    before = first(compiler, world)
    monkeypatch.setattr(MODULE, "WHOLE_BYTES_MAX", 32 * 1024)
    assert difference(before, before) is None
