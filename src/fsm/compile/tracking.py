"""Remembers what each result was made of, so that a change redoes what depends on it and no more.

In: snapshots, each with the cells in which it differs from the last; pure functions of a snapshot.
Out: their results, remembered. While a function runs, it sees the snapshot through a view that
notes every cell it reads, also the ones that are not there; results of other functions that it asks
for (``Snapshot.once``) are noted too. Together these are the node's inputs:

    cell changes ──► nodes that read it are STALE ──► nodes that used those are in DOUBT
    asked for: in doubt ──► its inputs first ──(all the same)──► good as it is
                                             └─(one differs)──► made again
                                     made again, comes to the same ──► nobody notices

Invariants: a result is the one that the function would return now; a function that fails leaves its
node stale and is tried again. A root, which is what is asked for from outside, is ``due`` from the
change that may concern it until it has been asked for. What no root uses is forgotten.

Nobody lists dependencies by hand, so none can be forgotten: what is not read through the view
cannot be read at all. Not here: what the functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar, cast

from fsm.model.drafts import EVERY, Cell
from fsm.model.names import Key
from fsm.model.snapshot import Memo, Snapshot

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

_WHOLE = ("trust_roots",)
"""Fields that are read as plain values, unseen: everything depends on them. They rarely change."""


class _State(Enum):
    GOOD = "good"
    DOUBT = "doubt"
    STALE = "stale"


_UNMADE = object()


class _Node:
    """One result: of what it was made, and who used it."""

    __slots__ = (
        "cells",
        "changed",
        "checked",
        "inputs",
        "key",
        "make",
        "state",
        "users",
        "value",
    )

    def __init__(self, key: Hashable, make: Callable[[Snapshot], Any]) -> None:
        self.key = key
        self.make = make
        self.value: Any = _UNMADE
        self.state = _State.STALE
        self.cells: AbstractSet[Cell] = frozenset()
        self.inputs: Mapping[_Node, None] = {}
        self.users: set[_Node] = set()
        self.changed = 0
        """Number of the snapshot with which its value became what it is."""
        self.checked = 0
        """Number of the snapshot with which it was last found good, or made."""


class _Reading:
    """What one run of one function has read so far."""

    __slots__ = ("cells", "inputs")

    def __init__(self) -> None:
        self.cells: set[Cell] = set()
        self.inputs: dict[_Node, None] = {}


class Tracker(Memo):
    """The remembered results, by the keys that ``Snapshot.once`` is called with."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[Hashable, _Node] = {}
        self._readers: dict[Cell, set[_Node]] = {}
        self._running: list[_Reading] = []
        self._roots: set[Hashable] = set()
        self._loose: list[_Node] = []
        self._view: Snapshot | None = None
        self._number = 0
        self.due: set[Hashable] = set()
        """Roots that may have to be made again."""
        self.runs = 0
        """How many functions were run so far."""

    def __len__(self) -> int:
        return len(self._nodes)

    def move(self, snapshot: Snapshot, cells: Iterable[Cell]) -> None:
        """Go on to the next snapshot.

        Args:
            snapshot: the next.
            cells: where it differs from the last; more does no harm.

        """
        self._number += 1
        self._view = self._view_of(snapshot)
        cells = list(cells)
        if any(cell.field in _WHOLE for cell in cells):
            stale: Iterable[_Node] = self._nodes.values()
        else:
            stale = {node for cell in cells for node in self._readers.get(cell, ())}
        doubted: list[_Node] = []
        for node in stale:
            node.state = _State.STALE
            doubted.append(node)
        while doubted:
            node = doubted.pop()
            if node.key in self._roots:
                self.due.add(node.key)
            for user in node.users:
                if user.state is _State.GOOD:
                    user.state = _State.DOUBT
                    doubted.append(user)

    def root(self, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """Return a result for the snapshot as it is now, and keep it until ``forget``.

        Raises:
            Exception: what ``make`` raised; it is tried again when asked for again.

        """
        assert self._view is not None, "there is a snapshot"
        self._roots.add(key)
        try:
            value = self.recall(self._view, key, make)
        except BaseException:
            self.due.add(key)
            raise
        finally:
            self._sweep()
        self.due.discard(key)
        return value

    def forget(self, key: Hashable) -> None:
        """Drop a root, and what only it used."""
        self._roots.discard(key)
        self.due.discard(key)
        node = self._nodes.get(key)
        if node is not None:
            self._loose.append(node)
        self._sweep()

    def recall(self, snapshot: Snapshot, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """Return a result for the snapshot as it is now; what is running has used it."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(key, make)
        if self._running:
            self._running[-1].inputs[node] = None
        self._settle(node)
        return cast(T, node.value)

    def note(self, cell: Cell) -> None:
        """Note that what is running has read a cell."""
        if self._running:
            self._running[-1].cells.add(cell)

    def _settle(self, node: _Node) -> None:
        if node.state is _State.DOUBT:
            # In the order in which they were used: where an early one differs, the later ones may
            # be about things that are gone, and are not asked for.
            for used in node.inputs:
                self._settle(used)
                if used.changed > node.checked:
                    node.state = _State.STALE
                    break
            else:
                node.state, node.checked = _State.GOOD, self._number
        if node.state is _State.STALE:
            self._make(node)

    def _make(self, node: _Node) -> None:
        assert self._view is not None, "there is a snapshot"
        reading = _Reading()
        self._running.append(reading)
        self.runs += 1
        try:
            value = node.make(self._view)
        except BaseException:
            # Whatever it read before and until it failed may be what has to change.
            reading.cells |= node.cells
            reading.inputs = {**node.inputs, **reading.inputs}
            self._rewire(node, reading)
            raise
        finally:
            self._running.pop()
            self._rewire(node, reading)
        if node.value is _UNMADE or value != node.value:
            node.value, node.changed = value, self._number
        node.state, node.checked = _State.GOOD, self._number

    def _rewire(self, node: _Node, reading: _Reading) -> None:
        for cell in node.cells - reading.cells:
            self._unread(node, cell)
        for cell in reading.cells - node.cells:
            self._readers.setdefault(cell, set()).add(node)
        before, node.inputs = node.inputs, reading.inputs
        node.cells = reading.cells
        for used in reading.inputs:
            used.users.add(node)
        for used in before:
            if used not in reading.inputs:
                used.users.discard(node)
                self._loose.append(used)

    def _sweep(self) -> None:
        # WHY only now: what one function no longer uses, another that still runs may have used,
        # which is noted when it ends.
        while self._loose:
            self._release(self._loose.pop())

    def _release(self, node: _Node) -> None:
        """Forget a node that nobody uses, and then those that only it used."""
        if node.users or node.key in self._roots or self._nodes.get(node.key) is not node:
            return
        del self._nodes[node.key]
        for cell in node.cells:
            self._unread(node, cell)
        for used in node.inputs:
            used.users.discard(node)
            self._loose.append(used)

    def _unread(self, node: _Node, cell: Cell) -> None:
        readers = self._readers[cell]
        readers.discard(node)
        if not readers:
            del self._readers[cell]

    def _view_of(self, snapshot: Snapshot) -> Snapshot:
        watched: dict[str, Any] = {"memo": self}
        for field in fields(snapshot):
            value = getattr(snapshot, field.name)
            if isinstance(value, Mapping):
                watched[field.name] = _Map(self, field.name, value)
            elif isinstance(value, AbstractSet):
                watched[field.name] = _Set(self, field.name, value)
            elif is_dataclass(value):
                watched[field.name] = _Record(self, field.name, value)
            elif field.name not in ("memo", *_WHOLE):
                watched[field.name] = _Sequence(self, field.name, value)
        return replace(snapshot, **watched)


class _Map(Mapping[K, V]):
    """A map that tells what is read of it."""

    __slots__ = ("_map", "_name", "_tracker")

    def __init__(self, tracker: Tracker, name: str, plain: Mapping[K, V]) -> None:
        self._tracker, self._name, self._map = tracker, name, plain

    def __getitem__(self, key: K) -> V:
        self._tracker.note(Cell(self._name, key))
        return self._map[key]

    def get(self, key: K, default: Any = None) -> Any:
        self._tracker.note(Cell(self._name, key))
        return self._map.get(key, default)

    def __contains__(self, key: object) -> bool:
        self._tracker.note(Cell(self._name, key))
        return key in self._map

    def __iter__(self) -> Iterator[K]:
        self._tracker.note(Cell(self._name, EVERY))
        return iter(self._map)

    def __len__(self) -> int:
        self._tracker.note(Cell(self._name, EVERY))
        return len(self._map)


class _Record:
    """A dataclass that tells which of its fields are read, and of the dataclasses within it.

    A property is not a field: it is worked out from fields, which are then noted.
    """

    def __init__(self, tracker: Tracker, name: str, plain: Any, path: str = "") -> None:
        own = self.__dict__
        own["_tracker"], own["_plain"] = tracker, plain
        own["_cells"] = {f.name: Cell(name, path + f.name) for f in fields(plain)}
        for f in fields(plain):
            if is_dataclass(value := getattr(plain, f.name)):
                own[f.name] = _Record(tracker, name, value, f"{path}{f.name}.")

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        cell = own["_cells"].get(name)
        if cell is not None:
            own["_tracker"].note(cell)
            return getattr(own["_plain"], name)
        found = getattr(type(own["_plain"]), name)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)
        return found.__get__(self)


class _Set(AbstractSet[str]):
    """A set that tells what is asked of it."""

    __slots__ = ("_name", "_set", "_tracker")

    def __init__(self, tracker: Tracker, name: str, plain: AbstractSet[str]) -> None:
        self._tracker, self._name, self._set = tracker, name, plain

    def __contains__(self, key: object) -> bool:
        self._tracker.note(Cell(self._name, key))
        return key in self._set

    def __iter__(self) -> Iterator[str]:
        self._tracker.note(Cell(self._name, EVERY))
        return iter(self._set)

    def __len__(self) -> int:
        self._tracker.note(Cell(self._name, EVERY))
        return len(self._set)


class _Sequence(Sequence[Key]):
    """A sequence that tells that it is read."""

    __slots__ = ("_name", "_sequence", "_tracker")

    def __init__(self, tracker: Tracker, name: str, plain: Sequence[Key]) -> None:
        self._tracker, self._name, self._sequence = tracker, name, plain

    def __getitem__(self, index: Any) -> Any:
        self._tracker.note(Cell(self._name, EVERY))
        return self._sequence[index]

    def __iter__(self) -> Iterator[Key]:
        self._tracker.note(Cell(self._name, EVERY))
        return iter(self._sequence)

    def __len__(self) -> int:
        self._tracker.note(Cell(self._name, EVERY))
        return len(self._sequence)
