"""What is remembered, what is made again, and what is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsm.compile.tracking import Tracker
from fsm.model import Namespace, Snapshot, snapshot_of
from fsm.model.drafts import EVERY, Cell, differing
from fsm.model.snapshot import Parsed
from fsm.settings import Settings


def snapshot(**annotations: str) -> Snapshot:
    """Return a snapshot with a namespace for each argument, annotated with its value."""
    namespaces = [Namespace(name, {}, {"v": value}) for name, value in annotations.items()]
    return snapshot_of(Parsed(namespaces=namespaces), Settings())


class Worker:
    """Functions that note their calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.tracker = Tracker()
        self.fail = ""

    def leaf(self, view: Snapshot, name: str) -> str:
        def make(view: Snapshot) -> str:
            self.calls.append(f"leaf {name}")
            if self.fail == name:
                raise RuntimeError(name)
            namespace = view.namespaces.get(name)
            # Only the first letter matters.
            return namespace.annotations["v"][0] if namespace else "-"

        return view.once(("leaf", name), make)

    def root(self, *names: str) -> str:
        def make(view: Snapshot) -> str:
            self.calls.append(f"root {''.join(names)}")
            return "".join(self.leaf(view, name) for name in names)

        return self.tracker.root(("root", *names), make)

    def move(self, *changed: str, **annotations: str) -> None:
        self.calls.clear()
        cells = [Cell("namespaces", name) for name in changed]
        self.tracker.move(snapshot(**annotations), [*cells, Cell("namespaces", EVERY)])


@pytest.fixture
def worker() -> Worker:
    made = Worker()
    made.move(a="1", b="2")
    return made


def test_what_nothing_touched_is_not_made_again(worker: Worker) -> None:
    assert (worker.root("a"), worker.root("b")) == ("1", "2")
    worker.move("b", a="1", b="3")
    assert worker.tracker.due == {("root", "b")}
    assert (worker.root("a"), worker.root("b")) == ("1", "3")
    assert worker.calls == ["leaf b", "root b"]


def test_a_part_that_comes_to_the_same_is_not_noticed_by_who_uses_it(worker: Worker) -> None:
    worker.root("a", "b")
    worker.move("b", a="1", b="2 and more")
    assert worker.root("a", "b") == "12"
    assert worker.calls == ["leaf b"]


def test_a_shared_part_is_made_once(worker: Worker) -> None:
    worker.root("a", "b")
    worker.root("b")
    worker.move("b", a="1", b="3")
    assert (worker.root("b"), worker.root("a", "b")) == ("3", "13")
    assert worker.calls.count("leaf b") == 1


def test_a_change_that_others_asked_about_earlier_is_not_missed(worker: Worker) -> None:
    worker.root("a", "b")
    worker.root("b")
    worker.move("b", a="1", b="3")
    worker.root("b")
    worker.move("a", a="1", b="3")
    assert worker.root("a", "b") == "13"


def test_what_was_not_there_when_it_was_looked_for_is_missed_no_more(worker: Worker) -> None:
    assert worker.root("c") == "-"
    worker.move("c", a="1", b="2", c="9")
    assert worker.tracker.due == {("root", "c")}
    assert worker.root("c") == "9"


def test_a_failure_is_tried_again_also_when_nothing_changed_for_it(worker: Worker) -> None:
    worker.root("a", "b")
    worker.fail = "b"
    worker.move("b", a="1", b="3")
    with pytest.raises(RuntimeError, match="b"):
        worker.root("a", "b")
    worker.move("a", a="4", b="3")
    assert worker.tracker.due == {("root", "a", "b")}
    worker.fail = ""
    assert worker.root("a", "b") == "43"
    assert worker.tracker.due == set()


def test_a_part_dropped_by_one_and_picked_up_by_another_stays_true(worker: Worker) -> None:
    tracker, chosen = worker.tracker, {"dropper": "a"}

    def dropper(view: Snapshot) -> str:
        found = worker.leaf(view, "a") if chosen["dropper"] == "a" else "none"
        return found + (view.namespaces["b"].annotations["v"] if "b" in view.namespaces else "")

    def user(view: Snapshot) -> str:
        switch = view.namespaces["b"].annotations["v"]
        used = worker.leaf(view, "a") if switch != "2" else ""
        return used + view.once(("dropper",), dropper)

    assert tracker.root(("user",), user) == "12"
    chosen["dropper"] = "nothing"
    worker.move("b", a="1", b="7")
    assert tracker.root(("user",), user) == "1none7"
    worker.move("a", a="5", b="7")
    assert tracker.root(("user",), user) == "5none7"


def test_whoever_looks_at_the_whole_notices_every_change(worker: Worker) -> None:
    def names(view: Snapshot) -> str:
        return ",".join(view.namespaces)

    assert worker.tracker.root(("names",), names) == "a,b"
    worker.move("c", a="1", b="2", c="3")
    assert worker.tracker.root(("names",), names) == "a,b,c"


def test_a_field_of_mesh_config_concerns_those_that_read_it(worker: Worker) -> None:
    def mode(view: Snapshot) -> bool:
        return view.mesh.traffic.permissive

    def called(view: Snapshot) -> str:
        return view.mesh.origin

    assert worker.tracker.root(("mode",), mode) is False
    assert worker.tracker.root(("called",), called) == "MeshConfig/fsm-system/fsm-mesh-config"
    before = snapshot()
    traffic = replace(before.mesh.traffic, permissive=True)
    after = replace(before, mesh=replace(before.mesh, traffic=traffic))
    worker.tracker.move(after, differing("mesh", before.mesh, after.mesh))
    assert worker.tracker.due == {("mode",)}
    assert worker.tracker.root(("mode",), mode) is True
    renamed = replace(after, mesh=replace(after.mesh, name="other"))
    worker.tracker.move(renamed, differing("mesh", after.mesh, renamed.mesh))
    assert worker.tracker.due == {("called",)}
    assert worker.tracker.root(("called",), called) == "MeshConfig/fsm-system/other"


def test_what_no_root_uses_is_forgotten(worker: Worker) -> None:
    empty = len(worker.tracker)
    worker.root("a", "b")
    worker.root("b")
    worker.tracker.forget(("root", "a", "b"))
    assert len(worker.tracker) == empty + 2
    worker.tracker.forget(("root", "b"))
    assert len(worker.tracker) == empty
    assert worker.tracker.due == set()
    worker.tracker.forget(("root", "b"))
