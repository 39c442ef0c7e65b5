"""Which namespaces the mesh watches: add, remove, ignore, list.

What comes in: a client and names. What goes out: labels and annotations on Namespace objects, and
whether anything had to change.

Invariants: nothing but these labels and annotations is touched; asking twice changes nothing; the
names of the old mesh are read, and removed, but never written.
Not done here: sentences for people (``fsm.cli.namespace``), injection (``fsm.injector``).
Source: fsm-interfaces section 3.2.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsm.kube import KubeClient
from fsm.kube.resources import NAMESPACES
from fsm.model.names import IGNORE_LABELS, INJECTION_ANNOTATIONS, MONITORED_BY_LABELS

MONITORED_BY, IGNORE, INJECTION = MONITORED_BY_LABELS[0], IGNORE_LABELS[0], INJECTION_ANNOTATIONS[0]
METRICS = "flomesh.io/metrics"
# What an installation writes on the namespace of its control plane.
APP_NAME, OURS = "app.kubernetes.io/name", "flomesh.io"


class NamespaceRefused(Exception):
    """The namespace cannot be added; the message says why."""


class Removed(enum.Enum):
    """From what a namespace was taken."""

    FROM_THE_MESH = enum.auto()
    FROM_THE_IGNORED = enum.auto()
    FROM_NOTHING = enum.auto()


@dataclass(frozen=True, slots=True)
class MeshNamespace:
    """One row of ``fsm namespace list``.

    Attributes:
        name: of the namespace.
        mesh: that watches it; ``-`` for one that is only ignored.
        injection: ``enabled``, ``disabled``, ``disabled (ignored)``, or ``-`` when nothing is said.
    """

    name: str
    mesh: str
    injection: str


async def add(
    client: KubeClient, name: str, mesh_name: str, *, sidecar_injection: bool = True
) -> bool:
    """Put a namespace into a mesh.

    Args:
        client: talks to the API.
        name: of the namespace.
        mesh_name: of the mesh.
        sidecar_injection: whether new Pods get a sidecar unless they say otherwise.

    Returns:
        Whether anything changed; ``False`` means that it was added before.

    Raises:
        NamespaceRefused: it is ignored, belongs to another mesh, or has the control plane.
        NotFound: there is no such namespace.
    """
    labels, annotations = _of(await client.get(NAMESPACES, name))
    if _ignored(labels):
        raise NamespaceRefused(f"Cannot add ignored namespace [{name}]")
    if labels.get(APP_NAME) == OURS:
        raise NamespaceRefused(f"Cannot add namespace [{name}]: a control plane runs in it")
    mesh = _mesh(labels)
    if mesh and mesh != mesh_name:
        raise NamespaceRefused(
            f"Namespace [{name}] belongs to mesh [{mesh}]; remove it there first"
        )
    wanted = "enabled" if sidecar_injection else "disabled"
    if labels.get(MONITORED_BY) == mesh_name and annotations.get(INJECTION) == wanted:
        return False
    metadata = {"labels": {MONITORED_BY: mesh_name}, "annotations": {INJECTION: wanted}}
    await client.patch(NAMESPACES, name, {"metadata": metadata})
    return True


async def remove(client: KubeClient, name: str, mesh_name: str) -> Removed:
    """Take a namespace out of a mesh; its Pods keep their sidecars until they are made anew.

    Returns:
        From what it was taken.

    Raises:
        NamespaceRefused: it belongs to another mesh.
        NotFound: there is no such namespace.
    """
    labels, annotations = _of(await client.get(NAMESPACES, name))
    mesh = _mesh(labels)
    if mesh and mesh != mesh_name:
        raise NamespaceRefused(f"Namespace [{name}] belongs to mesh [{mesh}], not to [{mesh_name}]")
    gone = {key: None for key in (*MONITORED_BY_LABELS, *IGNORE_LABELS) if key in labels}
    notes = {key: None for key in (*INJECTION_ANNOTATIONS, METRICS) if key in annotations}
    if gone or notes:
        await client.patch(NAMESPACES, name, {"metadata": {"labels": gone, "annotations": notes}})
    if mesh:
        return Removed.FROM_THE_MESH
    return Removed.FROM_THE_IGNORED if gone else Removed.FROM_NOTHING


async def ignore(client: KubeClient, name: str) -> bool:
    """Keep a namespace out of every mesh; returns whether that changed anything.

    Raises:
        NotFound: there is no such namespace.
    """
    labels, _ = _of(await client.get(NAMESPACES, name))
    if labels.get(IGNORE) == "true":
        return False
    await client.patch(NAMESPACES, name, {"metadata": {"labels": {IGNORE: "true"}}})
    return True


async def list_(client: KubeClient, mesh_name: str = "") -> list[MeshNamespace]:
    """List the namespaces of a mesh, in order of name; of all meshes if none is named."""
    found = []
    for obj in (await client.list(NAMESPACES)).items:
        labels, annotations = _of(obj)
        mesh = _mesh(labels)
        if (mesh or (_ignored(labels) and not mesh_name)) and mesh_name in ("", mesh):
            row = MeshNamespace(obj["metadata"]["name"], mesh or "-", _says(labels, annotations))
            found.append(row)
    return sorted(found, key=lambda row: row.name)


def _of(obj: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    meta = obj.get("metadata") or {}
    return meta.get("labels") or {}, meta.get("annotations") or {}


def _mesh(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in MONITORED_BY_LABELS if labels.get(key)), "")


def _ignored(labels: Mapping[str, str]) -> bool:
    return any(labels.get(key) == "true" for key in IGNORE_LABELS)


def _says(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    if _ignored(labels):
        return "disabled (ignored)"
    word = next((annotations[key] for key in INJECTION_ANNOTATIONS if key in annotations), "")
    return {"yes": "enabled", "true": "enabled", "no": "disabled", "false": "disabled"}.get(
        word.lower(), word.lower() or "-"
    )
