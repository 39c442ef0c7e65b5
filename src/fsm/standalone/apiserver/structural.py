"""Structural schemas of custom resources: prune, fill in defaults, validate.

What comes in: an ``openAPIV3Schema`` and an object. What goes out: a pruned copy with the list of
what was dropped, defaults in place, and every violation with its path.

Invariants: the schema is read once per CRD change (``Structural``), objects many times; pruning
drops only what the schema does not know, never what ``x-kubernetes-preserve-unknown-fields``
protects; apiVersion, kind and metadata of the root always stay.
Not done here: rules in CEL (``cel``).
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator
from typing import Any, cast

import jsonschema
import orjson

from fsm.standalone.apiserver import cel
from fsm.standalone.apiserver.errors import Cause

Schema = dict[str, Any]

_ROOT = ("apiVersion", "kind", "metadata")
_COPIED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "required",
    "enum",
    "format",
)
_TYPES = ("object", "array", "string", "integer", "number", "boolean")

# LIMIT violations reported of one object: a list of a thousand wrong items needs no thousand lines.
VIOLATIONS_MAX = 50

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    pattern = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
    return not isinstance(value, str) or re.fullmatch(pattern, value) is not None


@_formats.checks("ipv4", raises=ValueError)
def _is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.IPv4Address(value))


@_formats.checks("ipv6", raises=ValueError)
def _is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or ipaddress.IPv6Address(value) is not None


@_formats.checks("cidr", raises=ValueError)
def _is_cidr(value: object) -> bool:
    return not isinstance(value, str) or bool(ipaddress.ip_network(value, strict=False))


@_formats.checks("byte", raises=(ValueError, binascii.Error))
def _is_base64(value: object) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


class SchemaError(ValueError):
    """The schema of a CRD cannot be used; the message begins with the path."""


class Structural:
    """One version's schema, ready to use."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        converted = _convert(schema, "")
        try:
            jsonschema.Draft4Validator.check_schema(converted)
        except jsonschema.SchemaError as error:
            where = ".".join(str(step) for step in error.absolute_path)
            raise SchemaError(f"{where}: {error.message}") from error
        self.rules = cel.Rules(schema) if cel.has_rules(schema) else None
        self._validator = jsonschema.Draft4Validator(converted, format_checker=_formats)

    def prune(self, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return a copy with only what the schema knows, and the paths of what was dropped."""
        dropped: list[str] = []
        kept = {key: obj[key] for key in _ROOT if key in obj}
        rest = {key: value for key, value in obj.items() if key not in _ROOT}
        return kept | _prune(self.schema, rest, "", dropped), dropped

    def defaults(self, obj: dict[str, Any]) -> None:
        """Fill in defaults, in place."""
        _default(self.schema, obj)

    def causes(self, obj: dict[str, Any]) -> list[Cause]:
        """Return every violation, in order of path."""
        # metadata has its own rules, and schemas may only restrict its name.
        errors = self._validator.iter_errors(obj | {"metadata": _plain_metadata(obj)})
        found = [cause for error in errors for cause in _causes(error)]
        found += _list_causes(self.schema, obj, "")
        found.sort(key=lambda cause: cause.field)
        return found[:VIOLATIONS_MAX]


def _plain_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj.get("metadata") or {}
    return {key: meta[key] for key in ("name", "generateName") if key in meta}


def _convert(schema: Any, path: str) -> Schema:
    """Translate OpenAPI 3.0 with the Kubernetes extensions into JSON Schema draft 4.

    Draft 4, because there ``exclusiveMinimum`` is a boolean, as in OpenAPI 3.0.
    """
    if not isinstance(schema, dict):
        raise SchemaError(f"{path or 'openAPIV3Schema'}: must be an object")
    if "$ref" in schema:
        raise SchemaError(f"{path}.$ref: must not be used in a structural schema")
    out: Schema = {key: schema[key] for key in _COPIED if schema.get(key) is not None}
    kind = schema.get("type")
    if kind is not None and kind not in _TYPES:
        raise SchemaError(f"{path}.type: {kind!r} is none of {', '.join(_TYPES)}")
    types = [kind] if kind else []
    if schema.get("x-kubernetes-int-or-string"):
        types = ["integer", "string"]
    if schema.get("nullable"):
        types = [*types, "null"] if types else []
        if "enum" in out:
            out["enum"] = [*out["enum"], None]
    if types:
        out["type"] = types[0] if len(types) == 1 else types
    if "pattern" in out:
        try:
            re.compile(out["pattern"])
        except (re.error, TypeError) as error:
            raise SchemaError(f"{path}.pattern: {error}") from error
    for key, inner in (schema.get("properties") or {}).items():
        out.setdefault("properties", {})[key] = _convert(inner, f"{path}.properties[{key}]")
    if "items" in schema:
        out["items"] = _convert(schema["items"], f"{path}.items")
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        out["additionalProperties"] = _convert(extra, f"{path}.additionalProperties")
    for junctor in ("allOf", "anyOf", "oneOf"):
        if schema.get(junctor):
            out[junctor] = [
                _convert(inner, f"{path}.{junctor}[{i}]") for i, inner in enumerate(schema[junctor])
            ]
    if "not" in schema:
        out["not"] = _convert(schema["not"], f"{path}.not")
    return out


def _prune(schema: Schema, value: Any, path: str, dropped: list[str]) -> Any:
    keep = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return value
        return [_prune(items, item, f"{path}[{i}]", dropped) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    embedded = _ROOT if schema.get("x-kubernetes-embedded-resource") else ()
    kept: dict[str, Any] = {}
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if key in properties:
            kept[key] = _prune(properties[key], item, here, dropped)
        elif isinstance(extra, dict):
            kept[key] = _prune(extra, item, here, dropped)
        elif keep or extra is True or key in embedded:
            kept[key] = item
        else:
            dropped.append(here)
    return kept


def _default(schema: Schema, value: Any) -> None:
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            _default(schema["items"], item)
    if not isinstance(value, dict):
        return
    properties = schema.get("properties") or {}
    for key, inner in properties.items():
        missing = key not in value or (value[key] is None and not inner.get("nullable"))
        if "default" in inner and missing:
            value[key] = orjson.loads(orjson.dumps(inner["default"]))
        if key in value:
            _default(inner, value[key])
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key, item in value.items():
            if key not in properties:
                _default(extra, item)


def _path(steps: Any) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def _causes(error: jsonschema.ValidationError) -> Iterator[Cause]:
    path = _path(error.absolute_path) or "<root>"
    value, rule, wanted = error.instance, str(error.validator), cast(Any, error.validator_value)
    shown = f'"{value}"' if isinstance(value, str) else _short(value)
    match rule:
        case "required":
            missing = [key for key in wanted if key not in cast(Any, value)]
            # One error per missing field comes from the library; the message names it first.
            name = next((key for key in missing if error.message.startswith(f"'{key}'")), "?")
            where = f"{path}.{name}" if path != "<root>" else name
            yield Cause(where, "Required value", "FieldValueRequired")
        case "enum":
            allowed = ", ".join(_quoted(item) for item in wanted)
            message = f"Unsupported value: {shown}: supported values: {allowed}"
            yield Cause(path, message, "FieldValueNotSupported")
        case "type":
            wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
            message = f"Invalid value: {shown}: must be of type {wanted}"
            yield Cause(path, message, "FieldValueTypeInvalid")
        case "pattern":
            message = f"Invalid value: {shown}: should match '{wanted}'"
            yield Cause(path, message)
        case "format":
            yield Cause(path, f"Invalid value: {shown}: not a valid {wanted}")
        case "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems":
            limit = "at least" if rule.startswith("min") else "at most"
            what = {"Length": "length ", "Items": "number of items "}
            unit = next((text for end, text in what.items() if rule.endswith(end)), "")
            message = f"Invalid value: {shown}: {unit}should be {limit} {wanted}"
            yield Cause(path, message)
        case _:
            yield Cause(path, f"Invalid value: {shown}: {error.message[:200]}")


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else _short(value)


def _short(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= 120 else text[:117] + "..."


def _list_causes(schema: Schema, value: Any, path: str) -> list[Cause]:
    """Check that lists which are sets or maps have no two equal members."""
    found: list[Cause] = []
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        for key, item in value.items():
            inner = (schema.get("properties") or {}).get(key, extra)
            if isinstance(inner, dict):
                found += _list_causes(inner, item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        keys = schema.get("x-kubernetes-list-map-keys")
        kind, seen = schema.get("x-kubernetes-list-type"), set()
        for index, item in enumerate(value):
            found += _list_causes(schema["items"], item, f"{path}[{index}]")
            if kind == "map" and isinstance(item, dict):
                identity = orjson.dumps([item.get(key) for key in keys or []])
            elif kind == "set":
                identity = orjson.dumps(item)
            else:
                continue
            if identity in seen:
                message = f"Duplicate value: {identity.decode()[:120]}"
                found.append(Cause(f"{path}[{index}]", message, "FieldValueDuplicate"))
            seen.add(identity)
    return found
