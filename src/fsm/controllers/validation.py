"""All that is wrong, or doubtful, with manifests: what ``fsm validate -f`` and people's CI ask.

What comes in: documents as they stand in files; optionally what a cluster has. What goes out: one
``Finding`` for each fault or doubt, in the order of the documents.

    each document by itself   ──► faults (error) and doubts (warning), as the webhook says them
    a Pod, or what makes Pods ──► whether its sidecar could be injected (error)
    all of them together      ──► what they would come to, as their status would say it

Invariants: an error means that the cluster would refuse the document; a warning, that it would be
taken and do less than it says; a note, that it depends on what is not in the documents. Nothing is
read or written here; whatever the documents hold, there is an answer and no exception.
Not done here: reading files (``fsm.cli``), the judgement (``fsm.policies``, ``fsm.compile``).
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from fsm import policies
from fsm.compile import KINDS, ObjectStatus, assess, build_snapshot, read_object
from fsm.injector import InjectionSettings, Refusal, inject
from fsm.manifests import crds
from fsm.model import MeshConfig
from fsm.model.names import INJECTION_ANNOTATIONS, MONITORED_BY_LABELS
from fsm.settings import Settings

Severity = Literal["error", "warning", "note"]
JsonObject = Mapping[str, Any]
Examine = Callable[
    [JsonObject], Awaitable[tuple[Sequence[policies.Violation], Sequence[policies.Violation]]]
]
"""Finds faults and doubts of an object."""

_FAMILIES = ("smi-spec.io", "flomesh.io", "openservicemesh.io")
"""Ends of the API groups that are the mesh's own."""
_LISTS_DEEP_MAX = 8  # LIMIT: lists within lists; nobody writes more than one.
_TEMPLATES = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the Pod stands in what makes Pods."""
_DEPENDS_ON_THE_CLUSTER = ("NoWorkload", "NoService", "PermissiveMode", "NotReferenced")
"""Reasons of a status that say nothing about the object itself."""
_ELSEWHERE_PERHAPS = ("RefNotFound", "NotEnabled", "NotCarried")
"""Reasons that objects may undo which the documents need not hold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault or doubt.

    Attributes:
        document: index of the document.
        kind: of the object.
        namespace: of the object; empty outside of namespaces.
        name: of the object.
        path: where in the document; empty for the whole.
        message: what is wrong.
        hint: what to write instead; may be empty.
        severity: error, warning or note; see the module's text.
    """

    document: int
    kind: str
    namespace: str
    name: str
    path: str
    message: str
    hint: str
    severity: Severity

    def __str__(self) -> str:
        who = f"{self.kind} {self.namespace}/{self.name}".replace(" /", " ")
        where = f"{self.path}: " if self.path else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{self.severity}: {who}: {where}{self.message}{hint}"


@dataclass(frozen=True, slots=True)
class _Document:
    index: int
    kind: str
    group: str
    namespace: str
    name: str
    obj: dict[str, Any]

    def finding(self, severity: Severity, message: str, path: str = "", hint: str = "") -> Finding:
        return Finding(
            self.index, self.kind, self.namespace, self.name, path, message, hint, severity
        )


def validate_documents(
    documents: Sequence[object],
    world: Mapping[str, Sequence[JsonObject]] | None = None,
    settings: Settings | None = None,
    *,
    namespace: str = "default",
) -> list[Finding]:
    """Find everything that is wrong with manifests.

    Args:
        documents: parsed documents; ``None`` is an empty one, lists of kind ``List`` are opened.
        world: what the cluster has, raw, by kind; the documents are laid over it. ``None``: nothing
            is known of a cluster, and its namespaces are taken to be in the mesh.
        settings: of the mesh; ``None`` means the defaults.
        namespace: of objects that name none.

    Returns:
        the findings, by document, errors first; empty where all is well.

    """
    settings = settings or Settings()
    findings: list[Finding] = []
    read = list(_read(documents, namespace, findings))
    mesh = _mesh_of(read, world, settings)
    for document in read:
        findings += _alone(document, mesh, settings)
        if world is not None or mesh.generation or mesh.raw:
            findings += _shut(document, mesh)
    faulty = {f.document for f in findings if f.severity == "error"}
    sound = [document for document in read if document.index not in faulty]
    findings += _duplicates(read)
    findings += _together(sound, world, settings)
    return in_order(findings)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Sort findings by document, the worst first."""
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda f: (f.document, order[f.severity], f.path, f.message))


async def examine_documents(
    documents: Sequence[object], findings: Sequence[Finding], examine: Examine
) -> list[Finding]:
    """Add what is found by trying out what is valid: the scripts of Plugins.

    Args:
        documents: as for ``validate_documents``.
        findings: what that found.
        examine: finds faults and doubts of an object.

    Returns:
        all findings, in order.

    """
    faulty = {found.document for found in findings if found.severity == "error"}
    added: list[Finding] = []
    for document in _read(documents, "default", []):
        if document.kind == "Plugin" and document.index not in faulty:
            faults, doubts = await examine(document.obj)
            added += [document.finding("error", f.message, f.path, f.hint) for f in faults]
            added += [document.finding("warning", d.message, d.path, d.hint) for d in doubts]
    return in_order([*findings, *added])


def _read(
    documents: Sequence[object], namespace: str, findings: list[Finding]
) -> Iterator[_Document]:
    for index, value in enumerate(documents):
        if value is None:
            continue
        for obj, path in _opened(value):
            found = _document(index, obj, path, namespace)
            if isinstance(found, Finding):
                findings.append(found)
            else:
                yield found


def _opened(value: object, path: str = "", deep: int = 0) -> Iterator[tuple[object, str]]:
    """Yield the objects of a document: itself, or the items of a List."""
    if not isinstance(value, dict) or deep == _LISTS_DEEP_MAX:
        yield value, path
        return
    items = value.get("items")
    kind = value.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            where = f"{path}.items[{index}]" if path else f"items[{index}]"
            yield from _opened(item, where, deep + 1)
        return
    yield value, path


def _document(index: int, value: object, path: str, namespace: str) -> _Document | Finding:
    def broken(message: str, where: str = "", hint: str = "") -> Finding:
        at = ".".join(part for part in (path, where) if part)
        return Finding(index, "document", "", "", at, message, hint, "error")

    if not isinstance(value, dict):
        return broken(
            f"an object is expected, not {_shown(value)}", hint="kind, apiVersion, metadata, spec"
        )
    if any(not isinstance(key, str) for key in value):
        return broken("has keys that are not text", hint="put them in quotes")
    kind, version = value.get("kind"), value.get("apiVersion")
    metadata = value.get("metadata")
    if not isinstance(kind, str) or not kind:
        return broken(f"a kind is expected, not {_shown(kind)}", "kind")
    if not isinstance(version, str) or not version:
        return broken(f"{kind}: an API version is expected, not {_shown(version)}", "apiVersion")
    if not isinstance(metadata, dict):
        return broken(f"{kind}: an object is expected, not {_shown(metadata)}", "metadata")
    name = metadata.get("name")
    group = version.rpartition("/")[0]
    where = metadata.get("namespace")
    if kind in _CLUSTER_SCOPED:
        where = ""
    elif not isinstance(where, str) or not where:
        where = namespace
    obj = value if where in ("", metadata.get("namespace")) else _placed(value, metadata, where)
    return _Document(index, kind, group, where, name if isinstance(name, str) else "", obj)


_CLUSTER_SCOPED = (
    *("Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"),
    *(policy.kind for policy in policies.POLICIES if not policy.namespaced),
)


def _placed(value: dict[str, Any], metadata: dict[str, Any], namespace: str) -> dict[str, Any]:
    wrong = metadata.get("namespace")
    # A namespace that is no text stays, so that it is told.
    if wrong is not None and not isinstance(wrong, str):
        return value
    return {**value, "metadata": {**metadata, "namespace": namespace}}


def _alone(document: _Document, mesh: MeshConfig, settings: Settings) -> Iterator[Finding]:
    ours = document.group.endswith(_FAMILIES)
    policy = policies.BY_KIND.get(document.kind)
    if ours and policy is None:
        if (document.group, document.kind) not in _brought_kinds():
            close = difflib.get_close_matches(document.kind, _known_kinds(), n=1)
            yield document.finding(
                "error",
                f"{document.kind!r} is not a kind of the mesh",
                "kind",
                f"{close[0]}?" if close else ", ".join(sorted(_known_kinds())),
            )
        return
    if policy is not None and (ours or document.group == ""):
        violations = policies.validate(document.obj, settings)
        for fault in violations:
            yield document.finding("error", fault.message, fault.path, fault.hint)
        if not violations:
            for doubt in policies.warnings(document.obj):
                yield document.finding("warning", doubt.message, doubt.path, doubt.hint)
        return
    if document.kind in KINDS and policy is None:
        for problem in read_object(document.kind, document.obj, settings)[1]:
            yield document.finding("error", problem.message, problem.path, problem.hint)
    if document.kind in _TEMPLATES:
        yield from _injection(document, mesh, settings)


def _shut(document: _Document, mesh: MeshConfig) -> Iterator[Finding]:
    """Yield what the webhook says of kinds that are switched off."""
    if document.group.endswith(_FAMILIES):
        for fault in policies.shut(document.obj, mesh.feature_flags):
            yield document.finding("error", fault.message, fault.path, fault.hint)


def _injection(document: _Document, mesh: MeshConfig, settings: Settings) -> Iterator[Finding]:
    """Ask the injector, as if the Pod asked for a sidecar or its namespace did."""
    parts = _TEMPLATES[document.kind]
    pod: object = document.obj
    for part in parts:
        pod = pod.get(part) if isinstance(pod, dict) else None
    if not isinstance(pod, dict):
        return
    home = {
        "metadata": {
            "name": document.namespace,
            "labels": {MONITORED_BY_LABELS[0]: settings.mesh_name},
            "annotations": {INJECTION_ANNOTATIONS[0]: "enabled"},
        }
    }
    try:
        made = inject(
            pod, home, mesh, InjectionSettings(mesh_name=settings.mesh_name), "validation"
        )
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        # The API server checks the shape of Pods before it asks the injector; here nobody has.
        yield document.finding("error", f"is not the shape of a Pod: {error}", ".".join(parts))
        return
    if isinstance(made, Refusal):
        yield document.finding("error", made.reason, ".".join(parts))


def _duplicates(read: Sequence[_Document]) -> Iterator[Finding]:
    first: dict[tuple[str, str, str, str], _Document] = {}
    for document in read:
        if not document.name:
            continue
        who = (document.group, document.kind, document.namespace, document.name)
        before = first.setdefault(who, document)
        if before is not document:
            yield document.finding(
                "warning", f"stands in document {before.index + 1} as well; the last one stays"
            )


def _together(
    sound: Sequence[_Document],
    world: Mapping[str, Sequence[JsonObject]] | None,
    settings: Settings,
) -> Iterator[Finding]:
    ours = {
        (d.kind, d.namespace, d.name): d
        for d in sound
        if d.kind in policies.BY_KIND and d.group.endswith(_FAMILIES)
    }
    if not ours:
        return
    snapshot, _ = build_snapshot(_overlaid(sound, world, settings), settings)
    for status in assess(snapshot, settings):
        document = ours.get((status.kind, status.namespace, status.name))
        if document is not None:
            yield from _said(document, status, offline=world is None)


def _said(document: _Document, status: ObjectStatus, *, offline: bool) -> Iterator[Finding]:
    by_type = {condition.type: condition for condition in status.conditions}
    if not by_type["Accepted"].status:
        return
    conflicted, programmed = by_type["Conflicted"], by_type["Programmed"]
    if conflicted.status:
        yield document.finding("warning", conflicted.message)
    if programmed.status or programmed.reason == "Conflicted":
        return
    if programmed.reason in _DEPENDS_ON_THE_CLUSTER:
        if not offline:
            yield document.finding("note", programmed.message)
    elif programmed.reason in _ELSEWHERE_PERHAPS and offline:
        yield document.finding("note", f"{programmed.message}, as far as these documents say")
    else:
        yield document.finding("warning", programmed.message)


def _overlaid(
    sound: Sequence[_Document],
    world: Mapping[str, Sequence[JsonObject]] | None,
    settings: Settings,
) -> dict[str, list[JsonObject]]:
    found: dict[str, dict[tuple[str, str], JsonObject]] = defaultdict(dict)
    for kind, objects in (world or {}).items():
        for obj in objects:
            meta = obj.get("metadata") or {}
            found[kind][str(meta.get("namespace") or ""), str(meta.get("name"))] = obj
    for document in sound:
        if document.kind in KINDS and (
            document.group.endswith(_FAMILIES) or document.kind not in policies.BY_KIND
        ):
            found[document.kind][document.namespace, document.name] = document.obj
    if world is None:
        label = {MONITORED_BY_LABELS[0]: settings.mesh_name}
        for name in {document.namespace for document in sound if document.namespace}:
            found["Namespace"]["", name] = {"metadata": {"name": name, "labels": label}}
    return {kind: list(objects.values()) for kind, objects in found.items()}


def _mesh_of(
    read: Sequence[_Document],
    world: Mapping[str, Sequence[JsonObject]] | None,
    settings: Settings,
) -> MeshConfig:
    # The first one counts, and a document goes before what it is to replace.
    configs = [d.obj for d in read if d.kind == "MeshConfig" and d.group.endswith(_FAMILIES)]
    configs += [dict(obj) for obj in (world or {}).get("MeshConfig", ())]
    snapshot, _ = build_snapshot({"MeshConfig": configs}, settings)
    return snapshot.mesh


@cache
def _brought_kinds() -> frozenset[tuple[str, str]]:
    return frozenset((crd["spec"]["group"], crd["spec"]["names"]["kind"]) for crd in crds())


def _known_kinds() -> frozenset[str]:
    return frozenset({*policies.BY_KIND, *(kind for _, kind in _brought_kinds())})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
