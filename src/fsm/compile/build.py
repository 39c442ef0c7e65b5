"""From the objects of the API to a snapshot.

In: the JSON of all watched objects, by kind. Out: ``Snapshot``, and every problem met. Invariants:
an object that cannot be read is left out, reported with path and hint, and never disturbs another;
what is reported depends on the objects, not on their order.

``SnapshotBuilder`` remembers what it parsed: an object with the same resourceVersion is not parsed
again, so the cost of a change is the cost of indexing. It also remembers the last MeshConfig that
was right: a slip of the pen there must not change how the whole mesh behaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

from fsm.model import kube
from fsm.model.fields import JsonObject, Malformed
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import ACCESS_LOG_ANNOTATION, Key
from fsm.model.snapshot import ObjectProblem, Parsed, Snapshot, snapshot_of
from fsm.policies import BY_KIND
from fsm.policies.violation import Invalid
from fsm.settings import AccessLog, Settings

_READERS: Mapping[str, Callable[[JsonObject], Any]] = {
    "Namespace": kube.namespace_from,
    "Pod": kube.pod_from,
    "Service": kube.service_from,
    "EndpointSlice": kube.endpoint_slice_from,
}
KINDS = (*_READERS, *BY_KIND)
"""Kinds that a snapshot is made of; others are not looked at."""


class SnapshotBuilder:
    """Builds snapshots, one after the other, of the same world as it changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Whether a TrafficTarget stands in the right namespace is asked of the snapshot, which
        # knows which namespaces count; here it must not hide the object from its own status.
        self._reading = _without_namespace_rule(settings)
        self._parsed: dict[tuple[str, Key], tuple[str, Any, tuple[ObjectProblem, ...]]] = {}
        self._mesh = _default_mesh(settings)

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
        before, self._parsed = self._parsed, {}
        found: dict[str, list[Any]] = {}
        problems: list[ObjectProblem] = []
        for kind in KINDS:
            found[kind] = []
            for obj in objects.get(kind, ()):
                parsed, faults = self._parse(kind, obj, before)
                problems += faults
                if parsed is not None:
                    found[kind].append(parsed)
        problems.sort(key=lambda p: (p.kind, p.namespace, p.name, p.path, p.message))
        self._mesh = self._mesh_config(found["MeshConfig"], objects.get("MeshConfig", ()))
        parsed_world = Parsed(
            mesh=self._mesh,
            namespaces=found["Namespace"],
            pods=found["Pod"],
            services=found["Service"],
            slices=found["EndpointSlice"],
            targets=found["TrafficTarget"],
            route_groups=found["HTTPRouteGroup"],
            tcp_routes=found["TCPRoute"],
            splits=found["TrafficSplit"],
        )
        snapshot = snapshot_of(
            parsed_world,
            self._settings,
            trust_roots=tuple(trust_roots),
            problems=tuple(problems),
        )
        return snapshot, problems

    def _parse(
        self,
        kind: str,
        obj: JsonObject,
        before: Mapping[tuple[str, Key], tuple[str, Any, tuple[ObjectProblem, ...]]],
    ) -> tuple[Any, tuple[ObjectProblem, ...]]:
        try:
            key = kube.key_of(obj)
        except Malformed as malformed:
            return None, (
                ObjectProblem(kind, "", "", malformed.path, malformed.message, malformed.hint),
            )
        metadata = obj["metadata"]
        # WHY: the resourceVersion alone is the version of an object of one server; the uid tells
        # an object from its namesake in another, after a restore for instance.
        version = f"{metadata.get('uid', '')}/{metadata.get('resourceVersion', '')}"
        known = before.get((kind, key))
        if known is not None and known[0] == version and metadata.get("resourceVersion"):
            entry = known
        else:
            entry = (version, *self._read(kind, key, obj))
        self._parsed[kind, key] = entry
        return entry[1], entry[2]

    def _read(self, kind: str, key: Key, obj: JsonObject) -> tuple[Any, tuple[ObjectProblem, ...]]:
        generation = obj["metadata"].get("generation")

        def problem(path: str, message: str, hint: str) -> ObjectProblem:
            return ObjectProblem(
                kind,
                key.namespace,
                key.name,
                path,
                message,
                hint,
                generation if isinstance(generation, int) else 0,
            )

        try:
            if kind in _READERS:
                parsed = _READERS[kind](obj)
            else:
                parsed = BY_KIND[kind].parse(obj, self._reading)
        except Malformed as malformed:
            return None, (problem(malformed.path, malformed.message, malformed.hint),)
        except Invalid as invalid:
            return None, tuple(problem(v.path, v.message, v.hint) for v in invalid.violations)
        access_log = getattr(parsed, "annotations", {}).get(ACCESS_LOG_ANNOTATION)
        if kind in ("Pod", "Namespace") and access_log not in (None, *get_args(AccessLog)):
            return parsed, (
                problem(
                    f"metadata.annotations[{ACCESS_LOG_ANNOTATION}]",
                    f"{access_log!r} is not an access log; the annotation is not heeded",
                    f"one of {', '.join(get_args(AccessLog))}",
                ),
            )
        return parsed, ()

    def _mesh_config(
        self, valid: Iterable[MeshConfig], present: Iterable[JsonObject]
    ) -> MeshConfig:
        wanted = Key(self._settings.fsm_namespace, self._settings.mesh_config_name)
        for mesh in valid:
            if mesh.key == wanted:
                return mesh
        for obj in present:
            metadata = obj.get("metadata") or {}
            if (metadata.get("namespace"), metadata.get("name")) == wanted:
                return self._mesh
        return _default_mesh(self._settings)


def build_snapshot(
    objects: Mapping[str, Iterable[JsonObject]],
    settings: Settings,
    *,
    trust_roots: Iterable[str] = (),
) -> tuple[Snapshot, list[ObjectProblem]]:
    """Build one snapshot, remembering nothing. See ``SnapshotBuilder``."""
    return SnapshotBuilder(settings).build(objects, trust_roots=trust_roots)


def _default_mesh(settings: Settings) -> MeshConfig:
    return MeshConfig(namespace=settings.fsm_namespace, name=settings.mesh_config_name)


def _without_namespace_rule(settings: Settings) -> Settings:
    return replace(settings, require_target_namespace=False)
