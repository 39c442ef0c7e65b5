"""Reads fields of Kubernetes JSON: lenient about what is absent, clear about what is wrong.

In: parsed JSON. Out: typed values, or ``Malformed`` with the path of the fault. Kubernetes drops
empty fields and adds new ones with every release, so absence means the empty value and unknown
fields are not looked at; a value of the wrong type is a fault of that object alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

JsonObject = Mapping[str, Any]


class Malformed(Exception):
    """An object that cannot be read.

    Args:
        path: where, such as ``spec.ports[0].port``.
        message: what is wrong there.
        hint: what to do about it; may be empty.

    """

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message
        self.hint = hint


def mapping(parent: JsonObject, name: str, path: str = "") -> JsonObject:
    """Return the object in a field; absent or null is empty."""
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed(_join(path, name), f"expected an object, got {_kind(value)}")
    return value


def items(parent: JsonObject, name: str, path: str = "") -> list[tuple[str, JsonObject]]:
    """Return the objects of a list field, each with its path."""
    where = _join(path, name)
    found = []
    for index, value in enumerate(_list(parent, name, path)):
        if not isinstance(value, Mapping):
            raise Malformed(f"{where}[{index}]", f"expected an object, got {_kind(value)}")
        found.append((f"{where}[{index}]", value))
    return found


def texts(parent: JsonObject, name: str, path: str = "") -> tuple[str, ...]:
    """Return the strings of a list field."""
    where = _join(path, name)
    for index, value in enumerate(_list(parent, name, path)):
        if not isinstance(value, str):
            raise Malformed(f"{where}[{index}]", f"expected text, got {_kind(value)}")
    return tuple(_list(parent, name, path))


def text(parent: JsonObject, name: str, path: str = "", default: str = "") -> str:
    """Return the string in a field; absent or null is ``default``."""
    value = parent.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Malformed(_join(path, name), f"expected text, got {_kind(value)}")
    return value


def flag(parent: JsonObject, name: str, path: str = "", default: bool = False) -> bool:
    """Return the boolean in a field; absent or null is ``default``."""
    value = parent.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Malformed(_join(path, name), f"expected true or false, got {_kind(value)}")
    return value


def port(parent: JsonObject, name: str, path: str = "", default: int | None = None) -> int:
    """Return the port number in a field; absent or null is ``default``, or a fault without one."""
    value = parent.get(name)
    if value is None:
        if default is None:
            raise Malformed(_join(path, name), "is missing")
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
        raise Malformed(_join(path, name), f"expected a port from 1 to 65535, got {value!r}")
    return value


def string_map(parent: JsonObject, name: str, path: str = "") -> dict[str, str]:
    """Return a map of strings, such as labels."""
    found = mapping(parent, name, path)
    for key, value in found.items():
        if not isinstance(value, str):
            raise Malformed(f"{_join(path, name)}[{key}]", f"expected text, got {_kind(value)}")
    return dict(found)


def address(value: str, path: str) -> str:
    """Return an IP address in its one canonical spelling."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        raise Malformed(path, f"{value!r} is not an IP address") from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.scope_id is not None:
        raise Malformed(path, f"{value!r} has a zone; an address of the network is expected")
    return str(parsed)


def _list(parent: JsonObject, name: str, path: str) -> Sequence[Any]:
    value = parent.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed(_join(path, name), f"expected a list, got {_kind(value)}")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
