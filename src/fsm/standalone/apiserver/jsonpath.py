"""The small JSONPath that printer columns of CRDs use.

What comes in: a path such as ``.status.conditions[?(@.type=="Ready")].status``. What goes out: the
values it finds in an object, in order.

Invariants: reading a path never fails on an object (what is not there is not found); a path that
cannot be read is a ``ValueError`` when compiled.
Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/ (the part for ``jsonPath`` of CRDs)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Step = Callable[[Any], list[Any]]

_TOKEN = re.compile(
    r"""\.?\[\s*\?\(\s*@\.(?P<fkey>[\w.-]+)\s*==\s*['"](?P<fvalue>[^'"]*)['"]\s*\)\s*\]"""
    r"""|\.?\[\s*['"](?P<quoted>[^'"]+)['"]\s*\]"""
    r"""|\.?\[\s*(?P<index>-?\d+)\s*\]"""
    r"""|\.?\[\s*(?P<all>\*)\s*\]"""
    r"""|\.(?P<star>\*)"""
    r"""|\.(?P<name>(?:[\w-]|\\.)+)"""
)


@lru_cache(maxsize=512)
def compile_path(path: str) -> tuple[Step, ...]:
    """Compile a path.

    Raises:
        ValueError: it cannot be read.
    """
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read the JSONPath {path!r} at {text[position:]!r}")
        position = match.end()
        steps.append(_step(match))
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    found = match.groupdict()
    if found["fkey"] is not None:
        keys, wanted = found["fkey"].split("."), found["fvalue"]
        return lambda value: [item for item in _items(value) if _dig(item, keys) == wanted]
    if found["index"] is not None:
        index = int(found["index"])
        return lambda value: value[index : index + 1 or None] if isinstance(value, list) else []
    if found["all"] is not None or found["star"] is not None:
        return _items
    name = found["quoted"] or re.sub(r"\\(.)", r"\1", found["name"])
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else []


def _dig(value: Any, keys: list[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def find(path: str, obj: Any) -> list[Any]:
    """Return the values that a path finds; nothing when it cannot be read."""
    try:
        steps = compile_path(path)
    except ValueError:
        return []
    values = [obj]
    for step in steps:
        values = [found for value in values for found in step(value)]
    return values
