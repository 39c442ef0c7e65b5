"""Change after change: the configurations are those that would be compiled from nothing."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from changes import Seen, Step, batches, take, worlds_and_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, port

from fsm.compile import Change, IncrementalCompiler, build_snapshot, compile_proxy
from fsm.model import Key

ALL = ("HTTPRouteGroup", "g", "all")


def from_nothing(world: World, seen: Seen) -> dict[str, tuple[str, bytes]]:
    snapshot, _ = build_snapshot(seen.objects(), world.settings, trust_roots=world.roots)
    found = {}
    for uid, pod in snapshot.pods_by_uid.items():
        config = compile_proxy(snapshot, pod, world.settings)
        found[uid] = (config.version, config.to_json())
    return found


@settings(max_examples=100, deadline=None)
@given(worlds_and_steps(), st.randoms(use_true_random=False))
def test_after_every_change_every_configuration_is_the_one_compiled_from_nothing(
    case: tuple[World, list[Step]], shuffle: random.Random
) -> None:
    world, steps = case
    compiler, seen = IncrementalCompiler(world.settings), Seen(world)
    compiler.begin(world.objects(), trust_roots=world.roots)
    held: dict[str, tuple[str, bytes]] = {}

    def bring_up_to_date(uids: list[str]) -> None:
        for uid in uids:
            text = compiler.compile(uid)
            held.pop(uid, None)
            if text is not None:
                held[uid] = (text.version, text.to_json())

    wanted = from_nothing(world, seen)
    bring_up_to_date(list(wanted))
    assert held == wanted
    for step in steps:
        for batch in batches(take(world, step), shuffle):
            compiler.update(batch, trust_roots=world.roots)
            seen.take(batch)
            wanted = from_nothing(world, seen)
            if shuffle.random() < 0.3:
                # Nobody asks for a while: what is due then stays due.
                continue
            due = compiler.due
            assert set(due) <= held.keys()
            new = [uid for uid in wanted if uid not in held]
            shuffle.shuffle(due)
            bring_up_to_date([*due, *new])
            for uid in set(due) - wanted.keys():
                compiler.forget(uid)
            assert held == wanted, step


def shops(count: int) -> World:
    world = World().namespace("shop").mesh()
    world.group("shop", "g", {"name": "all"})
    for index in range(count):
        world.workload("shop", f"client-{index}", port(80))
        world.workload("shop", f"till-{index}", port(80))
        world.target(f"t{index}", ("shop", f"till-{index}"), [("shop", f"client-{index}")], ALL)
    return world


def compiled(world: World) -> IncrementalCompiler:
    compiler = IncrementalCompiler(world.settings)
    for uid in compiler.begin(world.objects(), trust_roots=world.roots).pods_by_uid:
        compiler.compile(uid)
    return compiler


def one_change(world: World) -> tuple[list[str], int]:
    """Let another client in; return who is concerned, and how many parts are made again."""
    compiler = compiled(world)
    before = compiler.runs
    compiler.update(take(world, Step("target", 0, 1, 7)), trust_roots=world.roots)
    due = sorted(compiler.due)
    for uid in due:
        compiler.compile(uid)
    return due, compiler.runs - before


def test_a_policy_costs_those_that_it_names_however_large_the_mesh_is() -> None:
    def add_client(world: World) -> World:
        # The step above lets the workload ("a", "two") in.
        return world.namespace("a").workload("a", "two", port(80))

    small, large = one_change(add_client(shops(2))), one_change(add_client(shops(40)))
    assert small == large
    assert small[0] == ["uid-a-two", "uid-shop-client-0", "uid-shop-till-0"]


def test_what_does_not_bear_on_a_configuration_makes_nobody_due_for_long() -> None:
    world = shops(2)
    compiler = compiled(world)
    before = {uid: compiler.compile(uid) for uid in ("uid-shop-client-0", "uid-shop-till-0")}
    pod = world.found["Pod"][1]
    world.found["Pod"][1] = pod | {
        "metadata": pod["metadata"] | {"annotations": {"note": "of no consequence"}}
    }
    change = Change("Pod", Key("shop", pod["metadata"]["name"]), world.found["Pod"][1])
    compiler.update([change], trust_roots=world.roots)
    runs = compiler.runs
    for uid, text in before.items():
        assert compiler.compile(uid) is text, "the same bytes are the same object"
    # The Pod was looked at, what is its own, its chains, the endpoints; nobody else's half was.
    assert compiler.runs - runs <= 5


def test_a_pod_that_is_forgotten_leaves_nothing_behind() -> None:
    world = shops(3)
    compiler = IncrementalCompiler(world.settings)
    snapshot = compiler.begin(world.objects(), trust_roots=world.roots)
    empty = len(compiler._tracker)
    for uid in snapshot.pods_by_uid:
        compiler.compile(uid)
    assert len(compiler._tracker) > empty
    for uid in snapshot.pods_by_uid:
        compiler.forget(uid)
    assert (len(compiler._tracker), compiler._tracker._readers) == (empty, {})
    assert compiler.due == []


def test_a_configuration_that_fails_stays_due_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fsm.compile import incremental

    world = shops(1)
    compiler = compiled(world)
    real = incremental.assemble
    calls = 0

    def broken(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(incremental, "assemble", broken)
    compiler.update(take(world, Step("group", 0, 1, 5)), trust_roots=world.roots)
    for uid in compiler.due:
        with pytest.raises(RuntimeError, match="a fault"):
            compiler.compile(uid)
    assert calls == 2
    assert sorted(compiler.due) == ["uid-shop-client-0", "uid-shop-till-0"]
    compiler.update(take(world, Step("group", 0, 1, 6)), trust_roots=world.roots)
    monkeypatch.setattr(incremental, "assemble", real)
    wanted = from_nothing(world, Seen(world))
    for uid in compiler.due:
        text = compiler.compile(uid)
        assert text is not None
        assert (text.version, text.to_json()) == wanted[uid]
    assert compiler.due == []


def test_a_setting_of_the_mesh_costs_what_depends_on_it_and_no_more() -> None:
    world = shops(3)
    compiler = compiled(world)
    runs = compiler.runs

    def change(edit: Callable[[dict[str, Any]], None]) -> tuple[list[str], int]:
        nonlocal runs
        mesh = copy.deepcopy(world.found["MeshConfig"][0])
        edit(mesh["spec"])
        world.found["MeshConfig"] = [mesh]
        key = Key("fsm-system", "fsm-mesh-config")
        compiler.update([Change("MeshConfig", key, mesh)], trust_roots=world.roots)
        wanted = from_nothing(world, Seen(world))
        due = sorted(compiler.due)
        for uid in due:
            compiler.compile(uid)
        for uid, expected in wanted.items():
            text = compiler.compile(uid)
            assert text is not None
            assert (text.version, text.to_json()) == expected
        before, runs = runs, compiler.runs
        return due, runs - before

    def log_level(spec: dict[str, Any]) -> None:
        spec["observability"] = {"fsmLogLevel": "debug"}

    def egress(spec: dict[str, Any]) -> None:
        spec["traffic"]["enableEgress"] = False

    assert change(log_level) == ([], 0), "the log of the control plane is no proxy's business"
    due, made = change(egress)
    assert len(due) == 6
    # The proxies, and their outbound halves; no route is made again.
    assert made == 12
