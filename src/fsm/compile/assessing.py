"""Keeps the statuses of all objects true, at the cost of what changed.

In: snapshots, one after the other, each with the cells in which it differs from the last. Out: how
each object is doing, and which are doing otherwise than when last asked. Invariant: whatever
happened before, the statuses are those that ``assess`` comes to.

    an object's own status ── what it read is tracked (``tracking``), as for configurations
    HTTPRouteGroup, TCPRoute ── who names them is counted
    MeshConfig ── the Pods that were made with another are remembered, each with what is other
    what cannot be read ── the snapshot's problems, when they are others

LIMIT: what a judgement reads of all objects of a kind (the Pods that a PluginChain selects, who
names a Plugin or a UDPRoute), it reads again whenever one of these changes.

Not here: judging (``assess``), writing.
"""

from __future__ import annotations

from collections.abc import Iterable

from fsm.compile.assess import (
    REFERRED,
    ObjectStatus,
    assess_invalid,
    assess_mesh,
    assess_one,
    assess_referred,
    by_field,
    find_object,
    outdated_in,
    references,
)
from fsm.compile.tracking import Tracker
from fsm.model.drafts import EVERY, Cell, Links
from fsm.model.names import Key
from fsm.model.snapshot import Snapshot
from fsm.policies import BY_KIND
from fsm.settings import Settings

Ref = tuple[str, Key]
"""A kind and a name."""

_KINDS = {
    "targets": "TrafficTarget",
    "splits": "TrafficSplit",
    "route_groups": "HTTPRouteGroup",
    "tcp_routes": "TCPRoute",
}


class Assessments:
    """How all objects of one world are doing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracker = Tracker()
        self._snapshot: Snapshot | None = None
        self._statuses: dict[Ref, ObjectStatus] = {}
        self._invalid: dict[Ref, ObjectStatus] = {}
        self._changed: set[Ref] = set()
        self._names: dict[Ref, tuple[Ref, ...]] = {}
        self._named_by = Links[Ref, Ref]()
        self._otherwise: dict[Key, tuple[str, ...]] = {}
        self._problems: object = ()
        # What there is to be looked at.
        self._touched: set[Ref] = set()
        self._referees: set[Ref] = set()
        self._pods: set[Key] = set()
        self._homes: set[str] = set()
        self._mesh = True

    def move(self, snapshot: Snapshot, cells: Iterable[Cell]) -> None:
        """Go on to the next snapshot; nothing is judged before someone asks.

        Args:
            snapshot: the next.
            cells: where it differs from the last.

        """
        cells = list(cells)
        self._tracker.move(snapshot, cells)
        self._snapshot = snapshot
        for field, key in cells:
            if key == EVERY:
                self._mesh = self._mesh or field == "mesh"
            elif field in _KINDS:
                self._touched.add((_KINDS[field], key))
            elif field == "policies":
                self._touched.add(key)
            elif field == "pods":
                self._pods.add(key)
            elif field in ("namespaces", "monitored"):
                self._homes.add(key)
            elif field == "mesh":
                self._mesh = True

    def start(self, snapshot: Snapshot) -> None:
        """Begin with a world of which nothing is known yet."""
        self._tracker.move(snapshot, ())
        self._snapshot = snapshot
        self._touched = {
            *(("TrafficTarget", key) for key in snapshot.targets),
            *(("TrafficSplit", key) for key in snapshot.splits),
            *(("HTTPRouteGroup", key) for key in snapshot.route_groups),
            *(("TCPRoute", key) for key in snapshot.tcp_routes),
            *snapshot.policies,
        }
        self._pods = set(snapshot.pods)
        self._mesh = True

    def find(self, kind: str, key: Key) -> ObjectStatus | None:
        """Return how an object is doing, as of the last ``bring``; None: it is not there."""
        return self._invalid.get((kind, key)) or self._statuses.get((kind, key))

    def all(self) -> list[ObjectStatus]:
        """Return how each object is doing, as of the last ``bring``, in order of kind and name."""
        found = {**self._statuses, **self._invalid}
        return [found[ref] for ref in sorted(found)]

    def names(self) -> Iterable[Ref]:
        """Return the objects that can be read, as of the last ``bring``."""
        return self._statuses.keys()

    def bring(self) -> set[Ref]:
        """Judge what may have changed; return the objects that are doing otherwise, or are gone.

        Raises:
            Exception: a fault of ours; what was to be looked at stays so.

        """
        if self._snapshot is None:
            return set()
        self._own(self._snapshot)
        self._referred(self._snapshot)
        self._invalids(self._snapshot)
        self._of_mesh(self._snapshot)
        self._touched.clear()
        self._referees.clear()
        changed, self._changed = self._changed, set()
        return changed

    def _own(self, snapshot: Snapshot) -> None:
        """Judge objects by themselves, and note those that they name, or named before."""
        due = {root for root in self._tracker.due if isinstance(root, tuple)}
        for ref in self._touched:
            kind, key = ref
            if kind not in BY_KIND:
                continue
            obj = find_object(snapshot, kind, key)
            before = self._names.get(ref, ())
            after = tuple(dict.fromkeys(references(kind, obj))) if obj is not None else ()
            self._named_by.move(ref, before, after)
            self._referees |= {*before, *after}
            self._names.pop(ref, None)
            if after:
                self._names[ref] = after
            if kind in REFERRED:
                self._referees.add(ref)
            elif obj is None:
                due.discard(ref)
                self._tracker.forget(ref)
                self._put(ref, None)
            else:
                due.add(ref)
            # WHY: a Plugin that comes or goes is a stage that MeshConfig may have named.
            self._mesh = self._mesh or kind == "Plugin"
        for kind, key in due:
            self._put((kind, key), self._judged(kind, key))

    def _judged(self, kind: str, key: Key) -> ObjectStatus | None:
        settings = self._settings
        return self._tracker.root(
            (kind, key), lambda snapshot: assess_one(snapshot, settings, kind, key)
        )

    def _referred(self, snapshot: Snapshot) -> None:
        for ref in self._referees:
            obj = find_object(snapshot, *ref)
            used = bool(self._named_by.of(ref))
            self._put(ref, assess_referred(obj, used) if obj is not None else None)

    def _invalids(self, snapshot: Snapshot) -> None:
        if snapshot.problems is self._problems:
            return
        found = {(s.kind, Key(s.namespace, s.name)): s for s in assess_invalid(snapshot)}
        for ref in {*found, *self._invalid}:
            if found.get(ref) != self._invalid.get(ref):
                self._changed.add(ref)
        # MeshConfig has one status: where it cannot be read, the last that was right is in force.
        self._mesh = True
        self._invalid, self._problems = found, snapshot.problems

    def _of_mesh(self, snapshot: Snapshot) -> None:
        pods = set(snapshot.pods) if self._mesh else self._pods
        if self._homes:
            pods |= {key for key in snapshot.pods if key.namespace in self._homes}
        for key in pods:
            pod = snapshot.pods.get(key)
            fields = outdated_in(snapshot, pod) if pod is not None else ()
            if fields != self._otherwise.pop(key, ()):
                self._mesh = True
            if fields:
                self._otherwise[key] = fields
        if self._mesh:
            mesh = snapshot.mesh
            kept = Key(mesh.namespace, mesh.name)
            broken = any(
                kind == "MeshConfig" and key.name == mesh.name for kind, key in self._invalid
            )
            status = None if broken else assess_mesh(snapshot, by_field(self._otherwise))
            for ref in [ref for ref in self._statuses if ref[0] == "MeshConfig" and ref[1] != kept]:
                self._put(ref, None)
            self._put(("MeshConfig", kept), status)
        self._pods.clear()
        self._homes.clear()
        self._mesh = False

    def _put(self, ref: Ref, status: ObjectStatus | None) -> None:
        if status == self._statuses.get(ref):
            return
        self._changed.add(ref)
        if status is None:
            del self._statuses[ref]
        else:
            self._statuses[ref] = status
