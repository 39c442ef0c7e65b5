"""The three patch formats that describe a change: merge, JSON patch, strategic merge.

What comes in: the current object and a patch. What goes out: a new object; the inputs stay as they
were.

Invariants: a patch that cannot be applied is a ``StatusError`` (400 when it makes no sense, 422
when it does not fit the object); nothing is ever half applied, because the caller gets a new object
or an exception.
Not done here: server-side apply (``apply``), validation of the result.
Source: RFC 7386 (merge), RFC 6902 (JSON patch), and for strategic merge
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

from typing import Any

import jsonpatch

from fsm.standalone.apiserver.errors import StatusError, bad_request
from fsm.standalone.apiserver.shapes import SHAPES, Field, Shape

# LIMIT operations of one JSON patch, as in Kubernetes: each may copy a large part of the object.
JSON_PATCH_OPERATIONS_MAX = 10_000

_ORDER, _DELETE_VALUES = "$setElementOrder/", "$deleteFromPrimitiveList/"


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386): null removes, objects merge, the rest replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: dict[str, Any], operations: Any) -> dict[str, Any]:
    """Apply a JSON patch (RFC 6902).

    Raises:
        StatusError: 400, it is no list of operations; 422, one of them does not fit.
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch must be a list of operations")
    if len(operations) > JSON_PATCH_OPERATIONS_MAX:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            f"a JSON patch may have {JSON_PATCH_OPERATIONS_MAX} operations, not {len(operations)}",
        )
    try:
        patched = jsonpatch.apply_patch(target, operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"the JSON patch is malformed: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise StatusError(422, "Invalid", message) from error
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise bad_request(f"the JSON patch is malformed: {error}") from error
    if not isinstance(patched, dict):
        raise bad_request("the JSON patch leaves no object")
    return patched


def strategic_merge(target: dict[str, Any], patch: Any, kind: str) -> dict[str, Any]:
    """Apply a strategic merge patch to an object of a built-in kind.

    Raises:
        StatusError: 400, a directive is unknown or a list element lacks its merge key.
    """
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch must be an object")
    return _merge_object(target, patch, SHAPES.get(kind, {}), kind)


def _merge_object(
    target: dict[str, Any], patch: dict[str, Any], shape: Shape, path: str
) -> dict[str, Any]:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"{path}: unknown $patch directive {directive!r}")
    merged = dict(target)
    for key in (patch.get("$retainKeys") and list(merged)) or []:
        if key not in patch["$retainKeys"]:
            del merged[key]
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE_VALUES):
            name = key.removeprefix(_DELETE_VALUES)
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif value is None:
            merged.pop(key, None)
        else:
            order = patch.get(_ORDER + key)
            here = f"{path}.{key}"
            merged[key] = _merge_field(merged.get(key), value, shape.get(key), here, order)
    for key, order in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and name not in patch and isinstance(merged.get(name), list):
            merged[name] = _ordered(merged[name], order, shape.get(name))
    return merged


def _merge_field(target: Any, value: Any, known: Field | None, path: str, order: Any) -> Any:
    if isinstance(value, dict):
        # A map of scalars merges key by key, like an object without a shape.
        inner = SHAPES.get(known.type, {}) if known and not known.container else {}
        return _merge_object(target if isinstance(target, dict) else {}, value, inner, path)
    if not isinstance(value, list) or known is None or known.merge_key is None:
        return value
    current = target if isinstance(target, list) else []
    if known.merge_key == "":
        merged = current + [item for item in value if item not in current]
    else:
        merged = _merge_list(current, value, known, path)
    return _ordered(merged, order, known) if order else merged


def _merge_list(current: list[Any], patch: list[Any], known: Field, path: str) -> list[Any]:
    key, shape = known.merge_key or "", SHAPES.get(known.type, {})
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    merged = list(current)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"{path}: each element of the patch needs its merge key {key!r}")
        index = next((i for i, old in enumerate(merged) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item[key]]
        elif index is None:
            merged.append(_merge_object({}, item, shape, f"{path}[{item[key]}]"))
        else:
            merged[index] = _merge_object(merged[index], item, shape, f"{path}[{item[key]}]")
    return merged


def _ordered(items: list[Any], order: Any, known: Field | None) -> list[Any]:
    """Put the elements that ``order`` names in its order; others keep their relative place."""
    if not isinstance(order, list):
        return items
    key = known.merge_key if known else None

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [name(item) for item in order]
    places = [i for i, item in enumerate(items) if name(item) in wanted]
    chosen = sorted((items[i] for i in places), key=lambda item: wanted.index(name(item)))
    result = list(items)
    for place, item in zip(places, chosen, strict=True):
        result[place] = item
    return result
