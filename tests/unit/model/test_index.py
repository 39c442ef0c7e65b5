"""From snapshot to snapshot by what changed, held against a snapshot made from nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

import pytest
from changes import Seen, Step, batches, take, worlds_and_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, bookstore, bookstore_access, port

from fsm.compile import SnapshotBuilder, build_snapshot
from fsm.model import Key, Snapshot
from fsm.model.drafts import EVERY, Cell, Draft

PLAIN = (
    "namespaces",
    "pods",
    "services",
    "targets",
    "route_groups",
    "tcp_routes",
    "splits",
    "policies",
)


def leaves(record: object, path: str = "") -> Iterator[tuple[str, object]]:
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{path}{field.name}.")
        else:
            yield path + field.name, value


def differing(before: Snapshot, after: Snapshot) -> set[Cell]:
    """Return the cells in which two snapshots differ, found by looking at all of them."""
    cells = set()
    for field in fields(Snapshot):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new or field.name in ("memo", "problems"):
            continue
        if field.name == "mesh":
            cells |= {Cell("mesh", path) for path, v in leaves(new) if v != dict(leaves(old))[path]}
            continue
        cells.add(Cell(field.name, EVERY))
        if field.name == "monitored":
            cells |= {Cell(field.name, name) for name in old ^ new}
        elif isinstance(new, Mapping):
            keys = {*old, *new}
            cells |= {Cell(field.name, k) for k in keys if old.get(k) != new.get(k)}
    return cells


@settings(max_examples=100, deadline=None)
@given(worlds_and_steps(), st.randoms(use_true_random=False))
def test_after_every_change_the_snapshot_is_the_one_made_from_nothing(
    case: tuple[World, list[Step]], shuffle: random.Random
) -> None:
    world, steps = case
    builder, seen = SnapshotBuilder(world.settings), Seen(world)
    last, _ = builder.build(world.objects(), trust_roots=world.roots)
    for step in steps:
        for batch in batches(take(world, step), shuffle):
            kept = {field.name: repr(getattr(last, field.name)) for field in fields(last)}
            snapshot, cells = builder.update(batch, trust_roots=world.roots)
            seen.take(batch)
            wanted, _ = build_snapshot(seen.objects(), world.settings, trust_roots=world.roots)
            assert snapshot == wanted, step
            for name in PLAIN:
                assert list(getattr(snapshot, name)) == list(getattr(wanted, name)), name
            assert differing(last, snapshot) <= cells, step
            assert kept == {f.name: repr(getattr(last, f.name)) for f in fields(last)}, (
                "a snapshot that was given out has changed"
            )
            last = snapshot


def test_nothing_is_copied_where_nothing_changed() -> None:
    world = bookstore_access(bookstore(), "bookbuyer")
    builder = SnapshotBuilder(world.settings)
    first, _ = builder.build(world.objects())
    changes = take(world, Step("target", 0, 0, 0))
    second, cells = builder.update(changes)
    assert {cell.field for cell in cells} == {
        "targets",
        "targets_by_source",
        "targets_by_destination",
    }
    for name in ("pods", "services", "endpoints", "services_by_pod", "splits"):
        assert getattr(first, name) is getattr(second, name)


@pytest.mark.parametrize("monitored", [True, False])
def test_a_namespace_that_joins_or_leaves_takes_its_objects_along(monitored: bool) -> None:
    world = World().namespace("a").namespace("b", monitored=not monitored).mesh()
    world.workload("a", "one", port(80)).workload("b", "two", port(80))
    world.group("b", "g", {"name": "all"})
    world.target("t", ("b", "two"), [("a", "one")], ("HTTPRouteGroup", "g", "all"))
    builder = SnapshotBuilder(world.settings)
    builder.build(world.objects())
    changes = take(world, Step("namespace", 1, 0, 0))
    snapshot, cells = builder.update(changes)
    assert snapshot == build_snapshot(world.objects(), world.settings)[0]
    assert ("b" in snapshot.monitored) is monitored
    assert (Key("b", "two") in snapshot.endpoints) is monitored
    assert Cell("monitored", "b") in cells
    assert Cell("monitored", "a") not in cells


@given(st.lists(st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=9), max_size=9))
def test_a_map_that_grows_and_shrinks_stays_in_order(steps: list[list[tuple[int, bool]]]) -> None:
    draft = Draft[int, int]("pods")
    wanted = dict.fromkeys(range(0, 100, 2), 1)
    for number in reversed(list(wanted)):
        draft.put(number, 1)
    draft.close(in_order=True)
    for turn, step in enumerate(steps):
        for number, there in step:
            draft.put(number, turn if there else None)
            wanted.pop(number, None)
            if there:
                wanted[number] = turn
        draft.close(in_order=True)
        assert list(draft.map.items()) == sorted(wanted.items())


def test_a_pod_that_had_ended_before_anyone_heard_of_it_is_no_fault() -> None:
    world = World().namespace("a").mesh()
    world.pod("a", "job")
    world.found["Pod"][0]["status"]["phase"] = "Succeeded"
    builder = SnapshotBuilder(world.settings)
    snapshot, problems = builder.build(world.objects())
    assert problems == []
    assert snapshot == build_snapshot(world.objects(), world.settings)[0]
