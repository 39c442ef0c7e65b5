"""The built-in kinds as data: which fields they have, of what type, merged by which key.

What comes in: the tables of ``shapes_core`` and ``shapes_more``, one line per type:
``Name: field type, field type, …``. What goes out: for a type, its fields; three users read them:
field validation (``check`` here), the strategic merge (``patch``) and OpenAPI (``openapi``).

    type     str int bool float time quantity intstr bytes any Name
    [T]      list that a strategic merge replaces     [T]/key  list merged by the field ``key``
    [str]/   list of values merged as a set           {T}      map from string to T
    !        after a field's type: the field is required

Invariants: a table names only types that exist (checked when read); ``check`` reports every
problem at once and never changes its input; ``null`` means "not set", as everywhere in Kubernetes.
Not done here: rules between fields (``validation``), defaults (``defaults``), CRDs (``crds``).
Source: https://kubernetes.io/docs/reference/kubernetes-api/ (one page per kind)
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from fsm.standalone.apiserver import shapes_core, shapes_more

SCALARS = frozenset({"str", "int", "bool", "float", "time", "quantity", "intstr", "bytes", "any"})
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$")
_FIELD = re.compile(r"(\$?[A-Za-z][A-Za-z0-9_-]*) ([\[{]?)([A-Za-z]+)[\]}]?(/[A-Za-z]*)?(!?)$")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its element type, the container around it, and how lists of it merge.

    Attributes:
        type: name of a scalar or of a shape.
        container: ``""`` (one value), ``"["`` (list) or ``"{"`` (map).
        merge_key: field by which a list of objects merges; ``""`` for a set of values; ``None``
            for a list that is replaced as a whole.
        required: whether an object without it is refused.
    """

    type: str
    container: str = ""
    merge_key: str | None = None
    required: bool = False


Shape = dict[str, Field]


@dataclass(slots=True)
class Problems:
    """What ``check`` found: wrong types, fields that do not exist, required fields not set."""

    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def _read(table: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    # A line that starts with a space continues the one before it.
    for line in re.sub(r"\n +", " ", table.strip()).splitlines():
        if not line:
            continue
        name, _, rest = line.partition(":")
        shape: Shape = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            match = _FIELD.match(item)
            if match is None:
                raise ValueError(f"shape {name}: cannot read {item!r}")
            merge = match[4][1:] if match[4] else None
            shape[match[1]] = Field(match[3], match[2], merge, bool(match[5]))
        shapes[name] = shape
    return shapes


SHAPES: dict[str, Shape] = _read(shapes_core.TABLE) | _read(shapes_more.TABLE)

for _name, _shape in SHAPES.items():
    for _key, _field in _shape.items():
        if _field.type not in SCALARS and _field.type not in SHAPES:
            raise ValueError(f"shape {_name}.{_key}: no type {_field.type}")


def check(kind: str, obj: dict[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Check an object of a built-in kind and drop what it must not have.

    Returns:
        A copy without nulls and unknown fields, and the problems found.
    """
    problems = Problems()
    cleaned = _object(kind, obj, "", problems)
    return cleaned, problems


def _object(name: str, value: dict[str, Any], path: str, problems: Problems) -> dict[str, Any]:
    shape, cleaned = SHAPES[name], {}
    for key, item in value.items():
        known, here = shape.get(key), f"{path}.{key}" if path else key
        if known is None:
            problems.unknown.append(here)
        elif item is not None:
            cleaned[key] = _field_value(known, item, here, problems)
    for key, known in shape.items():
        if known.required and key not in cleaned:
            problems.missing.append(f"{path}.{key}" if path else key)
    return cleaned


def _field_value(known: Field, value: Any, path: str, problems: Problems) -> Any:
    if known.container == "[":
        if not isinstance(value, list):
            problems.wrong.append(f"{path}: expected a list, got {_say(value)}")
            return []
        return [_value(known.type, item, f"{path}[{i}]", problems) for i, item in enumerate(value)]
    if known.container == "{":
        if not isinstance(value, dict):
            problems.wrong.append(f"{path}: expected a map, got {_say(value)}")
            return {}
        return {
            key: _value(known.type, item, f"{path}.{key}", problems)
            for key, item in value.items()
            if item is not None
        }
    return _value(known.type, value, path, problems)


def _value(kind: str, value: Any, path: str, problems: Problems) -> Any:
    if kind in SHAPES:
        if isinstance(value, dict):
            return _object(kind, value, path, problems)
        problems.wrong.append(f"{path}: expected an object, got {_say(value)}")
        return {}
    if not _fits(kind, value):
        problems.wrong.append(f"{path}: expected {_EXPECTED[kind]}, got {_say(value)}")
    if kind == "quantity" and isinstance(value, int | float):
        return str(value)
    return value


_EXPECTED = {
    "str": "a string",
    "int": "a whole number",
    "bool": "true or false",
    "float": "a number",
    "time": "a time such as 2006-01-02T15:04:05Z",
    "quantity": "a quantity such as 100m or 1Gi",
    "intstr": "a whole number or a string",
    "bytes": "base64 data",
    "any": "any value",
}


def _fits(kind: str, value: Any) -> bool:
    # bool is an int in Python, never in JSON.
    number = isinstance(value, int) and not isinstance(value, bool)
    match kind:
        case "any":
            return True
        case "str":
            return isinstance(value, str)
        case "int":
            return number and -(2**63) <= value < 2**63
        case "bool":
            return isinstance(value, bool)
        case "float":
            return number or isinstance(value, float)
        case "intstr":
            return number or isinstance(value, str)
        case "quantity":
            return number or isinstance(value, float) or _matches(_QUANTITY, value)
        case "time":
            return _matches(_TIME, value)
        case _:
            return isinstance(value, str) and _is_base64(value)


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.match(value) is not None


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _say(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value)) or repr(value)[:80]
