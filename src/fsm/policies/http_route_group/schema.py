"""HTTPRouteGroup, specs.smi-spec.io v1alpha1 to v1alpha4: the shape.

In: the object's JSON. Out: pydantic models, and ``HTTPRouteGroup``. Old versions keep ``matches``
at the root. Headers are a list of maps (each document of the mesh writes them so) or one map.

Source: SMI specification, Traffic Specs; fsm-interfaces section 2.2.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.policy import HTTPRouteGroup, RouteMatch
from fsm.policies.strict import Reading, Regex, Strict, fault, read

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE")
_MATCHES_MAX = 256  # LIMIT: matches of one group; each is tried for every request.


def _one_map(value: object) -> object:
    """Merge a list of maps; a header that stands twice with two patterns cannot be meant."""
    if not isinstance(value, list):
        return value
    merged: dict[Any, Any] = {}
    for entry in value:
        if not isinstance(entry, dict):
            raise fault(f"expected maps of header name to pattern, got {entry!r}")
        for name, pattern in entry.items():
            if merged.setdefault(name, pattern) != pattern:
                raise fault(f"header {name!r} stands twice", "join both patterns in one")
    return merged


def _header_name(value: object) -> object:
    # Source: RFC 9110 section 5.1, field-name = token.
    if isinstance(value, str) and not (
        value and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in value)
    ):
        raise fault(f"{value!r} is not a header name")
    return value


def _method(value: object) -> object:
    if not isinstance(value, str) or value in METHODS or value == "*":
        return value
    if value.upper() in METHODS:
        raise fault(f"{value!r} is not a method", f"write {value.upper()}; methods are upper case")
    raise fault(f"{value!r} is not a method", f"one of * {' '.join(METHODS)}")


HeaderName = Annotated[str, BeforeValidator(_header_name)]
Method = Annotated[str, BeforeValidator(_method)]


class Match(Strict):
    """One description of requests."""

    name: Annotated[str, Field(min_length=1)]
    pathRegex: Regex = ".*"
    methods: list[Method] | None = None
    headers: Annotated[dict[HeaderName, Regex], BeforeValidator(_one_map)] | None = None


class Body(Strict):
    """The group."""

    matches: Annotated[list[Match], Field(min_length=1, max_length=_MATCHES_MAX)]


def read_group(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body, at_root=True)


def model(obj: JsonObject) -> HTTPRouteGroup:
    """Return the dataclass of a valid object."""
    reading = read_group(obj)
    assert reading.body is not None, "the object was validated"
    return HTTPRouteGroup(
        namespace=reading.key.namespace,
        name=reading.key.name,
        matches=tuple(
            RouteMatch(
                name=match.name,
                path_regex=match.pathRegex,
                methods=tuple(match.methods or ()),
                headers=_lower_case(match.headers or {}),
            )
            for match in reading.body.matches
        ),
        generation=reading.generation,
    )


def _lower_case(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name.lower(), pattern) for name, pattern in headers.items()))
