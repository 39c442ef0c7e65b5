"""Server-side apply: make an object have what one manager wants of it, and know who wants what.

What comes in: the whole intent of a manager (``fieldManager``). What goes out: the object with that
intent merged in, without what the same manager wanted before and no longer wants.

Invariants: fields that another *applying* manager owns are taken only with ``force``; equal values
are shared without conflict; lists merge by the keys of the kind (``shapes``, or
``x-kubernetes-list-map-keys``), all others are owned as a whole.
Not done here: ownership of those who write by other means than apply: it is not recorded, so they
never cause a conflict.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.decoding import version_of
from fsm.standalone.apiserver.errors import StatusError, bad_request
from fsm.standalone.apiserver.lifecycle import Lifecycle
from fsm.standalone.apiserver.metadata import now
from fsm.standalone.apiserver.shapes import SHAPES, Field
from fsm.standalone.apiserver.store import KubeObject, copy_object

MEDIA_TYPE = "application/apply-patch+yaml"

Json = dict[str, Any]
Fields = dict[str, Any]
"""A tree of owned fields: ``f:name`` and ``k:{"key":…}`` to the tree below; leaves are empty."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a value's type: a shape's field, or a part of a CRD's schema."""

    shape: str = ""
    field: Field | None = None
    schema: Json | None = None

    def child(self, key: str) -> Node:
        """Return the type of a field of an object."""
        if self.schema is not None:
            inner = (self.schema.get("properties") or {}).get(key)
            extra = self.schema.get("additionalProperties")
            found = inner if inner is not None else extra if isinstance(extra, dict) else {}
            return Node(schema=found)
        known = SHAPES.get(self.shape, {}).get(key)
        if known is None:
            return Node()
        return Node(known.type if not known.container else "", known)

    def element(self) -> Node:
        """Return the type of the members of a list."""
        if self.schema is not None:
            items = self.schema.get("items")
            return Node(schema=items if isinstance(items, dict) else {})
        return Node(self.field.type) if self.field else Node()

    def keys(self) -> tuple[str, ...] | None:
        """Return the fields that identify members of a list; ``()`` for a set of values."""
        if self.schema is not None:
            kind = self.schema.get("x-kubernetes-list-type")
            if kind == "map":
                return tuple(self.schema.get("x-kubernetes-list-map-keys") or ())
            return () if kind == "set" else None
        if self.field is None or self.field.merge_key is None:
            return None
        return (self.field.merge_key,) if self.field.merge_key else ()


def _member(item: Any, keys: tuple[str, ...]) -> str:
    if not keys:
        return "v:" + orjson.dumps(item).decode()
    identity = {key: item.get(key) for key in keys} if isinstance(item, dict) else {}
    return "k:" + orjson.dumps(identity, option=orjson.OPT_SORT_KEYS).decode()


def fields_of(value: Any, node: Node) -> Fields:
    """List what a value sets."""
    if isinstance(value, dict):
        return {f"f:{key}": fields_of(item, node.child(key)) for key, item in value.items()}
    keys = node.keys() if isinstance(value, list) else None
    if keys is None:
        return {}
    element = node.element()
    return {_member(item, keys): fields_of(item, element) if keys else {} for item in value}


def merge(current: Any, wanted: Any, node: Node) -> Any:
    """Merge an intent into a value."""
    if isinstance(wanted, dict) and isinstance(current, dict):
        merged = dict(current)
        for key, item in wanted.items():
            merged[key] = merge(current.get(key), item, node.child(key))
        return merged
    keys = node.keys() if isinstance(wanted, list) and isinstance(current, list) else None
    if keys is None:
        return wanted
    element, places = node.element(), {_member(item, keys): i for i, item in enumerate(current)}
    result = list(current)
    for item in wanted:
        place = places.get(_member(item, keys))
        if place is None:
            result.append(item)
        elif keys:
            result[place] = merge(result[place], item, element)
    return result


def remove(current: Any, gone: Fields, node: Node) -> Any:
    """Take fields out of a value; what becomes empty by it goes too."""
    if isinstance(current, dict):
        kept = dict(current)
        for name, below in gone.items():
            key = name[2:]
            if key in kept:
                rest = remove(kept[key], below, node.child(key)) if below else None
                if rest:
                    kept[key] = rest
                else:
                    del kept[key]
        return kept
    keys = node.keys() if isinstance(current, list) else None
    if keys is None:
        return current
    left = []
    for item in current:
        name = _member(item, keys)
        if name not in gone:
            left.append(item)
        elif gone[name]:
            rest = remove(item, gone[name], node.element())
            if set(rest) - set(keys):
                left.append(rest)
    return left


def subtract(fields: Fields, other: Fields) -> Fields:
    """Return what of ``fields`` is not in ``other``."""
    left: Fields = {}
    for name, below in fields.items():
        if name not in other:
            left[name] = below
        elif below and (rest := subtract(below, other[name])):
            left[name] = rest
    return left


def _shared(a: Fields, b: Fields) -> Fields:
    return {
        name: _shared(below, b[name])
        for name, below in a.items()
        if name in b and (not below or not b[name] or _shared(below, b[name]))
    }


def _differing(fields: Fields, current: Any, wanted: Any, node: Node, path: str) -> list[str]:
    """Return the paths among ``fields`` where an intent differs from the current value."""
    if not fields:
        return [] if current == wanted else [path]
    found: list[str] = []
    if isinstance(wanted, dict):
        for name, below in fields.items():
            if (key := name[2:]) in wanted:
                before = current.get(key) if isinstance(current, dict) else None
                inner = node.child(key)
                found += _differing(below, before, wanted[key], inner, f"{path}.{key}")
    elif isinstance(wanted, list) and (keys := node.keys()):
        old = {_member(item, keys): item for item in current or []}
        for item in wanted:
            name = _member(item, keys)
            if name in fields:
                where = f"{path}[{name[2:]}]"
                found += _differing(fields[name], old.get(name), item, node.element(), where)
    return found


def _intent(call: Call, config: Any) -> Json:
    if not isinstance(config, dict):
        raise bad_request("an apply patch must be an object")
    for key, expected in (("kind", call.resource.kind), ("apiVersion", call.api_version)):
        if config.get(key, expected) != expected:
            raise bad_request(f"the {key} of the patch must be {expected}, not {config.get(key)}")
    if not isinstance(config.get("metadata") or {}, dict):
        raise bad_request("metadata must be an object")
    if (config.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    intent = {k: v for k, v in copy_object(config).items() if k not in ("apiVersion", "kind")}
    meta = dict(intent.get("metadata") or {})
    for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation"):
        meta.pop(key, None)
    intent["metadata"] = meta
    if not meta:
        del intent["metadata"]
    return intent


async def apply(lifecycle: Lifecycle, call: Call, config: Any) -> tuple[KubeObject, bool]:
    """Apply an intent; returns the object and whether it was created.

    Raises:
        StatusError: 400, no manager or no object; 409, others own what it changes.
    """
    if not call.manager:
        raise bad_request("PatchOptions: fieldManager is required for apply patch")
    intent = _intent(call, config)
    version = version_of(call)
    root = Node(schema=version.schema.schema) if version else Node(shape=call.resource.kind)
    if version is not None and "metadata" in intent:
        # The schema of a CRD says nothing about metadata; its fields are those of all kinds.
        root = Node(
            schema=version.schema.schema
            | {
                "properties": {
                    **(version.schema.schema.get("properties") or {}),
                    "metadata": _METADATA,
                }
            }
        )
    given = (config.get("metadata") or {}).get("resourceVersion")

    def change(current: KubeObject) -> KubeObject:
        merged = merged_with(current, intent, root, call)
        if given:
            merged["metadata"]["resourceVersion"] = given
        return merged

    try:
        return await lifecycle.update(call, change, pinned=bool(given)), False
    except StatusError as error:
        if error.code != 404 or call.subresource or given:
            raise
    # Not there yet (a missing namespace is found by create).
    fresh = change({"metadata": {"name": call.name}})
    return await lifecycle.create(call, fresh), True


_MAP = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Json = {
    "type": "object",
    "properties": {
        "labels": _MAP,
        "annotations": _MAP,
        "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": {}},
        "ownerReferences": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": {"type": "object", "additionalProperties": {}},
        },
    },
}


def merged_with(current: KubeObject, intent: Json, root: Node, call: Call) -> KubeObject:
    """Return the current object with an intent merged in and its owner recorded.

    Raises:
        StatusError: 409, another manager owns what would change.
    """
    entries = list(current["metadata"].get("managedFields") or [])
    mine: Fields = {}
    others: list[Json] = []
    for entry in entries:
        same = entry.get("manager") == call.manager and entry.get("operation") == "Apply"
        if same and (entry.get("subresource") or "") == call.subresource:
            mine = entry.get("fieldsV1") or {}
        else:
            others.append(copy_object(entry))
    wanted = fields_of(intent, root)
    conflicts: list[str] = []
    for entry in others:
        shared = _shared(wanted, entry.get("fieldsV1") or {})
        paths = _differing(shared, current, intent, root, "") if shared else []
        if paths and not call.force:
            conflicts += [f'conflict with "{entry.get("manager")}": {path}' for path in paths]
        elif paths:
            entry["fieldsV1"] = subtract(entry["fieldsV1"], shared)
    if conflicts:
        count = "1 conflict" if len(conflicts) == 1 else f"{len(conflicts)} conflicts"
        raise StatusError(
            409,
            "Conflict",
            f"Apply failed with {count}: {'; '.join(conflicts)}",
            details={
                "causes": [
                    {
                        "reason": "FieldManagerConflict",
                        "message": text.partition(": ")[0],
                        "field": text.partition(": ")[2],
                    }
                    for text in conflicts
                ]
            },
        )
    gone = subtract(mine, wanted)
    for entry in others:
        gone = subtract(gone, entry.get("fieldsV1") or {})
    merged: KubeObject = merge(remove(current, gone, root) if gone else current, intent, root)
    mine_now: Json = {
        "manager": call.manager,
        "operation": "Apply",
        "apiVersion": call.api_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": wanted,
    }
    if call.subresource:
        mine_now["subresource"] = call.subresource
    kept = [entry for entry in others if entry.get("fieldsV1")]
    merged["metadata"] = (merged.get("metadata") or {}) | {"managedFields": [*kept, mine_now]}
    return merged
