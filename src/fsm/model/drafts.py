"""Maps on the way from one snapshot to the next: what did not change is shared.

In: the map of the last snapshot, new values. Out: a map for the next one, and the keys whose value
differs. Invariants: a map that a snapshot has is never changed, it is copied when the first value
differs; setting an equal value changes nothing, so what follows from it is not looked at.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from fsm.model.names import Key

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
M = TypeVar("M")


class Cell(NamedTuple):
    """One entry of one map of a snapshot, or with ``EVERY`` as its key the whole of it."""

    field: str
    """Name of the snapshot's field."""
    key: Any


EVERY = "*every*"
"""Key of the cell that changes when anything in its map does."""


def differing(name: str, old: Any, new: Any, path: str = "") -> Iterator[Cell]:
    """Yield a cell for each field in which two dataclasses differ, those within them included.

    The key of a cell is the path of the field: ``traffic.permissive``.
    """
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if is_dataclass(after) and type(before) is type(after):
            yield from differing(name, before, after, f"{path}{field.name}.")
        elif before != after:
            yield Cell(name, path + field.name)


class Draft(Generic[K, V]):
    """A map, copied at the first change."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.map: dict[K, V] = {}
        self._changed: set[K] = set()
        self._added: set[K] = set()

    def get(self, key: K) -> V | None:
        """Return the value as it is now."""
        return self.map.get(key)

    def put(self, key: K, value: V | None) -> bool:
        """Set a value, or remove it with None; return whether that made a difference."""
        before = self.map.get(key)
        if before is value or before == value:
            return False
        if not self._changed:
            self.map = dict(self.map)
        self._changed.add(key)
        if value is None:
            del self.map[key]
            self._added.discard(key)
        else:
            if before is None:
                self._added.add(key)
            self.map[key] = value
        return True

    def close(self, *, in_order: bool = False) -> list[Cell]:
        """Return what has changed since the last time; the map is a snapshot's from now on.

        Args:
            in_order: whether the map is read in the order of its keys.

        """
        if in_order and self._added:
            self.map = {key: self.map[key] for key in self._in_order()}
        cells = [Cell(self.name, key) for key in self._changed]
        if cells:
            cells.append(Cell(self.name, EVERY))
        self._changed, self._added = set(), set()
        return cells

    def _in_order(self) -> list[K]:
        """Return the keys in order: all but those added since the last time are so already."""
        keys: list[Any] = list(self.map)
        old, new = keys[: -len(self._added)], keys[-len(self._added) :]
        if len(new) > len(old) // 8:
            return sorted(keys)
        for key in new:
            insort(old, key)
        return old


class Groups(Draft[K, tuple[V, ...]]):
    """Members by group, each group in the order of its members' keys."""

    def __init__(self, name: str, key_of: Callable[[V], Key]) -> None:
        super().__init__(name)
        self._key_of = key_of

    def move(
        self, old: V | None, new: V | None, before: Iterable[K], after: Iterable[K]
    ) -> list[K]:
        """Take a member out of some groups and put it, as it is now, into others.

        Returns:
            the groups that are different now.

        """
        either = old if old is not None else new
        if either is None:
            # Such as a Pod that had ended before anyone heard of it.
            return []
        member = self._key_of(either)
        wanted = dict.fromkeys(after) if new is not None else {}
        return [
            group
            for group in dict.fromkeys([*before, *wanted])
            if self._set(group, member, new if group in wanted else None)
        ]

    def _set(self, group: K, member: Key, new: V | None) -> bool:
        members = [m for m in self.map.get(group, ()) if self._key_of(m) != member]
        if new is not None:
            members.append(new)
            members.sort(key=self._key_of)
        return self.put(group, tuple(members) or None)


class Links(Generic[K, M]):
    """Which members each key has: helper indexes that no snapshot shows; empty sets are dropped."""

    def __init__(self) -> None:
        self._sets: defaultdict[K, set[M]] = defaultdict(set)

    def of(self, key: K) -> set[M]:
        """Return the members; do not change them."""
        return self._sets.get(key) or set()

    def move(self, member: M, before: Iterable[K], after: Iterable[K]) -> None:
        """Take a member from some keys and give it to others."""
        old, new = set(before), set(after)
        for key in old - new:
            members = self._sets[key]
            members.discard(member)
            if not members:
                del self._sets[key]
        for key in new - old:
            self._sets[key].add(member)
