"""From the objects of the API to a snapshot.

In: the JSON of all watched objects, by kind. Out: ``Snapshot``, and every problem met. Invariants:
an object that cannot be read is left out, reported with path and hint, and never disturbs another;
what is reported depends on the objects, not on their order.

``build_snapshot`` does it once. ``SnapshotBuilder`` remembers what it parsed and indexed, so that
the cost of a change is in proportion to what changed. It also remembers the last MeshConfig that
was right: a slip of the pen there must not change how the whole mesh behaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

from fsm.model import exclusions, kube
from fsm.model.credentials import KIND as CREDENTIALS
from fsm.model.credentials import credentials_from
from fsm.model.drafts import Cell
from fsm.model.fields import JsonObject, Malformed
from fsm.model.index import Index, Parsing
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import ACCESS_LOG_ANNOTATION, Key
from fsm.model.snapshot import ObjectProblem, Parsed, Snapshot, snapshot_of
from fsm.policies import BY_KIND
from fsm.policies.violation import Invalid, fit
from fsm.settings import AccessLog, Settings

_READERS: Mapping[str, Callable[[JsonObject], Any]] = {
    "Namespace": kube.namespace_from,
    "Pod": kube.pod_from,
    "Service": kube.service_from,
    "EndpointSlice": kube.endpoint_slice_from,
    CREDENTIALS: credentials_from,
}
_OWN_MAPS = ("MeshConfig", "TrafficTarget", "HTTPRouteGroup", "TCPRoute", "TrafficSplit")
KINDS = (*_READERS, *BY_KIND)
"""Kinds that a snapshot is made of; others are not looked at."""


class Change(NamedTuple):
    """An object as it is now; None: it is gone."""

    kind: str
    key: Key
    obj: JsonObject | None


class _Entry(NamedTuple):
    version: str
    parsed: Any
    problems: tuple[ObjectProblem, ...]


_NOTHING = _Entry("", None, ())


class SnapshotBuilder:
    """Builds snapshots, one after the other, of the same world as it changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = _Reader(settings)
        self._known: dict[tuple[str, Key], _Entry] = {}
        self._faulty: dict[tuple[str, Key], tuple[ObjectProblem, ...]] = {}
        self._problems: tuple[ObjectProblem, ...] = ()
        self._mesh = _default_mesh(settings)
        self._index = Index(settings)

    def anew(self) -> SnapshotBuilder:
        """Return one that remembers nothing but the last MeshConfig that was right."""
        other = SnapshotBuilder(self._settings)
        other._mesh = self._mesh
        return other

    def build(
        self,
        objects: Mapping[str, Iterable[JsonObject]],
        *,
        trust_roots: Iterable[str] = (),
    ) -> tuple[Snapshot, list[ObjectProblem]]:
        """Build the snapshot of the world as it is now.

        Args:
            objects: all objects, by kind; kinds that are missing are empty.
            trust_roots: root certificates, PEM.

        Returns:
            the snapshot and the problems, which the snapshot has as well.

        """
        present = {
            (kind, _key_of(obj, number)): obj
            for kind in KINDS
            for number, obj in enumerate(objects.get(kind, ()))
        }
        gone = [Change(*known, None) for known in self._known if known not in present]
        changes = [Change(kind, key, obj) for (kind, key), obj in present.items()]
        snapshot, _ = self.update([*gone, *changes], trust_roots=trust_roots)
        return snapshot, list(snapshot.problems)

    def update(
        self, changes: Iterable[Change], *, trust_roots: Iterable[str] = ()
    ) -> tuple[Snapshot, set[Cell]]:
        """Build the next snapshot from the last one.

        Args:
            changes: objects that may have changed, each once; all others are as they were. Kinds
                that a snapshot is not made of are passed over.
            trust_roots: root certificates, PEM.

        Returns:
            the snapshot, and the cells in which it differs from the last.

        """
        parsings = [
            parsing
            for change in changes
            if change.kind in KINDS and (parsing := self._parse(change)) is not None
        ]
        wanted = ("MeshConfig", Key(self._settings.fsm_namespace, self._settings.mesh_config_name))
        if wanted not in self._known:
            self._mesh = _default_mesh(self._settings)
        elif (mesh := self._known[wanted].parsed) is not None:
            self._mesh = mesh
        return self._index.advance(
            parsings,
            mesh=self._mesh,
            trust_roots=tuple(trust_roots),
            problems=self._problems,
        )

    def _parse(self, change: Change) -> Parsing | None:
        """Parse one object; None where that changes nothing."""
        name = (change.kind, change.key)
        before = self._known.get(name, _NOTHING)
        if change.obj is None:
            after = _NOTHING
            self._known.pop(name, None)
        else:
            version = _version_of(change.obj)
            if version and version == before.version:
                return None
            parsed, problems = self._reader.read(change.kind, change.obj)
            if parsed is not None and (own := kube.key_of(change.obj)) != change.key:
                # The rest of the snapshot finds objects by the names under which they came.
                other = ObjectProblem(change.kind, *change.key, "metadata", f"is that of {own}")
                parsed, problems = None, (other,)
            after = self._known[name] = _Entry(version, parsed, problems)
        if after.problems != before.problems:
            self._faulty.pop(name, None)
            if after.problems:
                self._faulty[name] = after.problems
            self._problems = _in_order(p for found in self._faulty.values() for p in found)
        if after.parsed == before.parsed:
            # The indexes keep the object that they have, so that it stays the same one.
            if before.parsed is not None:
                self._known[name] = after._replace(parsed=before.parsed)
            return None
        return Parsing(change.kind, change.key, before.parsed, after.parsed)


def build_snapshot(
    objects: Mapping[str, Iterable[JsonObject]],
    settings: Settings,
    *,
    trust_roots: Iterable[str] = (),
) -> tuple[Snapshot, list[ObjectProblem]]:
    """Build one snapshot, from nothing and remembering nothing. See ``SnapshotBuilder``."""
    reader = _Reader(settings)
    found: dict[str, list[Any]] = {}
    problems: list[ObjectProblem] = []
    for kind in KINDS:
        read = [reader.read(kind, obj) for obj in objects.get(kind, ())]
        found[kind] = [parsed for parsed, _ in read if parsed is not None]
        problems += [problem for _, faults in read for problem in faults]
    wanted = Key(settings.fsm_namespace, settings.mesh_config_name)
    snapshot = snapshot_of(
        Parsed(
            mesh=next(
                (mesh for mesh in found["MeshConfig"] if mesh.key == wanted),
                _default_mesh(settings),
            ),
            namespaces=found["Namespace"],
            pods=found["Pod"],
            services=found["Service"],
            slices=found["EndpointSlice"],
            targets=found["TrafficTarget"],
            route_groups=found["HTTPRouteGroup"],
            tcp_routes=found["TCPRoute"],
            splits=found["TrafficSplit"],
            policies={
                kind: found[kind] for kind in (*BY_KIND, CREDENTIALS) if kind not in _OWN_MAPS
            },
        ),
        settings,
        trust_roots=tuple(trust_roots),
        problems=_in_order(problems),
    )
    return snapshot, list(snapshot.problems)


def read_object(
    kind: str, obj: JsonObject, settings: Settings
) -> tuple[Any, tuple[ObjectProblem, ...]]:
    """Read one object by itself: its dataclass, None where there is none, and what is wrong."""
    return _Reader(settings).read(kind, obj)


class _Reader:
    """From JSON to dataclasses, one object at a time."""

    def __init__(self, settings: Settings) -> None:
        # Whether a TrafficTarget stands in the right namespace is asked of the snapshot, which
        # knows which namespaces count; here it must not hide the object from its own status.
        self._settings = replace(settings, require_target_namespace=False)

    def read(self, kind: str, obj: JsonObject) -> tuple[Any, tuple[ObjectProblem, ...]]:
        """Return the dataclass, None where there is none, and what is wrong with the object."""
        try:
            key = kube.key_of(obj)
        except Malformed as malformed:
            return None, (
                ObjectProblem(kind, "", "", malformed.path, malformed.message, malformed.hint),
            )
        return self._read(kind, key, obj)

    def _read(self, kind: str, key: Key, obj: JsonObject) -> tuple[Any, tuple[ObjectProblem, ...]]:
        generation = obj["metadata"].get("generation")

        def problem(path: str, message: str, hint: str) -> ObjectProblem:
            return ObjectProblem(
                kind,
                key.namespace,
                key.name,
                fit(path),
                fit(message),
                fit(hint),
                generation if isinstance(generation, int) else 0,
            )

        try:
            if kind in _READERS:
                parsed = _READERS[kind](obj)
            else:
                parsed = BY_KIND[kind].parse(obj, self._settings)
        except Malformed as malformed:
            return None, (problem(malformed.path, malformed.message, malformed.hint),)
        except Invalid as invalid:
            return None, tuple(problem(v.path, v.message, v.hint) for v in invalid.violations)
        except Exception as error:
            # WHY: a fault of ours about one object must not keep the mesh from all the others.
            text = f"cannot be read ({type(error).__name__}: {error})"
            return None, (problem("", text, "this is a fault of fsm, please report it"),)
        if kind not in ("Pod", "Namespace"):
            return parsed, ()
        problems = [
            problem(f"metadata.annotations[{where}]", message, hint)
            for where, message, hint in exclusions.faults(parsed.annotations)
        ]
        access_log = parsed.annotations.get(ACCESS_LOG_ANNOTATION)
        if access_log not in (None, *get_args(AccessLog)):
            problems.append(
                problem(
                    f"metadata.annotations[{ACCESS_LOG_ANNOTATION}]",
                    f"{access_log!r} is not an access log; the annotation is not heeded",
                    f"one of {', '.join(get_args(AccessLog))}",
                )
            )
        return parsed, tuple(problems)


def _default_mesh(settings: Settings) -> MeshConfig:
    return MeshConfig(namespace=settings.fsm_namespace, name=settings.mesh_config_name)


def _in_order(problems: Iterable[ObjectProblem]) -> tuple[ObjectProblem, ...]:
    return tuple(sorted(problems, key=lambda p: (p.kind, p.namespace, p.name, p.path, p.message)))


def _key_of(obj: JsonObject, number: int) -> Key:
    try:
        return kube.key_of(obj)
    except Malformed:
        # It has no name that could be anyone's; "#" is in none.
        return Key("#", str(number))


def _version_of(obj: JsonObject) -> str:
    # WHY: the resourceVersion alone is the version of an object of one server; the uid tells an
    # object from its namesake in another, after a restore for instance.
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
        return ""
    return f"{metadata.get('uid', '')}/{metadata['resourceVersion']}"
