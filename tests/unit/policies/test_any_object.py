"""Validators of every kind, whatever they are given: they never raise, and they tell all at once.

``tools/fuzz SECONDS policies`` asks the same with coverage to guide it, for as long as one likes.
"""

from __future__ import annotations

import copy
from typing import Any

from any_object import case_objects, disturbed, examine, holder, spots
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.policies import BY_KIND, validate


class Drawn:
    """Choices that hypothesis makes, and can make smaller."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def below(self, limit: int) -> int:
        return self.data.draw(st.integers(0, limit - 1))

    def text(self) -> str:
        return self.data.draw(st.text(max_size=12))


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_whatever_an_object_is_it_is_told_in_words(data: st.DataObject) -> None:
    examine(disturbed(Drawn(data)))


def test_every_kind_is_among_the_objects_and_the_most_are_wrong_in_some_way() -> None:
    assert {obj["kind"] for obj in case_objects()} == set(BY_KIND)
    faulty = [obj for obj in case_objects() if examine(obj)]
    assert 20 < len(faulty) < len(case_objects()) - 20


# No field of ours takes it, but those that take anything.
WRONG: Any = {"neither": ["this", {"nor": "that"}]}


def shape_faults(obj: Any, places: list[tuple[str | int, ...]]) -> set[str]:
    changed = copy.deepcopy(obj)
    for spot in places:
        holder(changed, spot)[spot[-1]] = copy.deepcopy(WRONG)
    return {violation.path for violation in validate(changed)}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_faults_in_several_places_are_told_at_once(data: st.DataObject) -> None:
    right = [obj for obj in case_objects() if "spec" in obj and not validate(obj)]
    obj = data.draw(st.sampled_from(right))
    leaves = [spot for spot in spots(obj["spec"], ("spec",)) if not _has_more(obj, spot)]
    wrong_alone = {spot: shape_faults(obj, [spot]) for spot in leaves}
    places = [spot for spot, found in wrong_alone.items() if found]
    if not places:
        return
    chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=5, unique=True))
    together = shape_faults(obj, chosen)
    missing = {path for spot in chosen for path in wrong_alone[spot]} - together
    assert not missing, (chosen, together)


def _has_more(obj: Any, spot: tuple[str | int, ...]) -> bool:
    return isinstance(holder(obj, spot)[spot[-1]], (dict, list))
