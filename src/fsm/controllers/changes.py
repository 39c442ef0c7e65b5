"""Which changes of objects can change a configuration.

What comes in: an object before and after, as the API has it. What goes out: yes or no, and the name
of the object for people.

Invariants: pure; in doubt "yes", because a needless look costs time and a missed one is a hole. Our
own writes (statuses) must come out as "no", or the controller would chase its own tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JsonObject = Mapping[str, Any]

# Noise in the metadata of any object: changes with each write, says nothing.
_BOOKKEEPING = ("resourceVersion", "managedFields", "generation", "selfLink")
# The only parts of a Pod's status that mean anything to a proxy.
_POD_STATUS = ("podIP", "podIPs", "phase")


def matters(kind: str, old: JsonObject | None, new: JsonObject | None) -> bool:
    """Whether going from ``old`` to ``new`` can change what a proxy is told."""
    if old is None or new is None:
        return True
    return _essence(kind, old) != _essence(kind, new)


def name_of(kind: str, obj: JsonObject) -> str:
    """Name an object: ``Kind/namespace/name``, or ``Kind/name`` outside of namespaces."""
    meta = obj.get("metadata") or {}
    namespace = meta.get("namespace")
    return f"{kind}/{namespace}/{meta.get('name')}" if namespace else f"{kind}/{meta.get('name')}"


def key_of(kind: str, obj: JsonObject) -> str:
    """Name an object for programs: ``Kind/namespace/name``, whatever its kind."""
    meta = obj.get("metadata") or {}
    return f"{kind}/{meta.get('namespace') or ''}/{meta.get('name')}"


def _essence(kind: str, obj: JsonObject) -> dict[str, Any]:
    meta = {
        key: value for key, value in (obj.get("metadata") or {}).items() if key not in _BOOKKEEPING
    }
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    essence: dict[str, Any] = {"metadata": meta, **rest}
    status = obj.get("status") or {}
    if kind == "Pod":
        essence["status"] = {key: status.get(key) for key in _POD_STATUS} | {
            "ready": [
                found.get("status")
                for found in status.get("conditions") or []
                if found.get("type") == "Ready"
            ]
        }
    elif kind == "Namespace":
        essence["status"] = status.get("phase")
    return essence
