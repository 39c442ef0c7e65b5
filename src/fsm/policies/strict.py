"""Reads our own kinds strictly: every fault at once, each with its path and a hint.

In: the JSON of an object and the pydantic models of its kind. Out: a ``Reading``: the parsed body,
or the violations. Invariants: a field that is not known is a fault (it is most often a slip of the
pen); the path is the one in the user's document.

Old versions keep their fields at the root of the object, new ones under ``spec``. The stored
object is served under every version without conversion, so the shape, not the version, says where
to look.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.policies.regexes import regex_fault
from fsm.policies.violation import Violation
from fsm.settings import Settings

ENVELOPE = ("apiVersion", "kind", "metadata", "status")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LENGTH_MAX = 253


class Strict(BaseModel):
    """Base of the models: types are not converted, unknown fields are faults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def fault(message: str, hint: str = "") -> PydanticCustomError:
    """Make the error that a validator of a field raises."""
    # Braces would be taken for placeholders.
    return PydanticCustomError("fsm", "{text}", {"text": message, "hint": hint})


def _check_name(value: str) -> str:
    """Source: Kubernetes object names, DNS subdomain names (RFC 1123)."""
    if len(value) > _NAME_LENGTH_MAX or not _NAME.fullmatch(value):
        raise fault(
            f"{value!r} is not the name of an object",
            "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        )
    return value


def _check_regex(value: str) -> str:
    if found := regex_fault(value):
        raise fault(f"{value!r}: {found.message}", found.hint)
    return value


Name = Annotated[str, AfterValidator(_check_name)]
Regex = Annotated[str, AfterValidator(_check_regex)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]

Body = TypeVar("Body", bound=Strict)


@dataclass(frozen=True, slots=True)
class Reading(Generic[Body]):
    """An object as it was read."""

    key: Key
    generation: int
    path: str
    """Where the body stands: ``spec``, or empty for the root."""
    body: Body | None
    """None when there are violations."""
    violations: tuple[Violation, ...] = ()

    def at(self, *parts: str | int) -> str:
        """Return the path of a part of the body in the user's document."""
        return _path((*((self.path,) if self.path else ()), *parts))


def read(obj: JsonObject, model: type[Body], *, at_root: bool = False) -> Reading[Body]:
    """Read an object.

    Args:
        obj: the object, with its envelope.
        model: model of the body.
        at_root: old versions keep the body at the root.

    Returns:
        the reading; ``body`` is None when there are violations.

    """
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    generation = metadata.get("generation")
    key = Key(
        namespace if isinstance(namespace, str) and namespace else "default",
        name if isinstance(name, str) else "",
    )
    number = generation if isinstance(generation, int) else 0
    rest = {field: value for field, value in obj.items() if field not in ENVELOPE}
    under_spec = "spec" in rest or not (at_root and rest)
    violations = []
    odd = {
        field for field, text in (("name", name), ("namespace", namespace)) if not _is_text(text)
    }
    for field in sorted(odd):
        text = f"expected text, got {_shown(metadata[field])}"
        violations.append(Violation(f"metadata.{field}", text))
    if not key.name and "name" not in odd and not metadata.get("generateName"):
        violations.append(Violation("metadata.name", "is required"))
    for field, text in (("name", key.name), ("namespace", key.namespace)):
        if text and (len(text) > _NAME_LENGTH_MAX or not _NAME.fullmatch(text)):
            violations.append(Violation(f"metadata.{field}", f"{text!r} is not a name"))
    if under_spec:
        document: Any = rest.pop("spec", None)
        document = {} if document is None else document
        for field in sorted(rest):
            violations.append(
                Violation(field, "is not a field here", "the fields of this kind are under spec")
            )
    else:
        document = rest
    path = "spec" if under_spec else ""
    body: Body | None = None
    try:
        body = model.model_validate(document)
    except ValidationError as error:
        known = field_names(model)
        violations += [
            _violation(details, path, known)
            for details in error.errors(include_url=False, include_context=True)
        ]
    return Reading(key, number, path, None if violations else body, tuple(sorted(violations)))


Faults = Callable[[Reading[Body], Body, Settings], Iterable[Violation]]
Doubts = Callable[[Reading[Body], Body], Iterable[Violation]]


def faults_in(reading: Reading[Body], settings: Settings, faults: Faults[Body]) -> list[Violation]:
    """Return the faults of the shape; of an object that has none those that ``faults`` finds."""
    if reading.body is None:
        return list(reading.violations)
    return list(faults(reading, reading.body, settings))


def doubts_in(
    reading: Reading[Body], faults: Faults[Body], doubts: Doubts[Body]
) -> list[Violation]:
    """Return what ``doubts`` finds; nothing of an object with faults, which are told first."""
    if reading.body is None or any(faults(reading, reading.body, Settings())):
        return []
    return list(doubts(reading, reading.body))


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def field_names(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of all fields of a model and of the models within it."""
    found: set[str] = set()
    pending: list[Any] = [model]
    seen: set[Any] = set()
    while pending:
        kind = pending.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update(kind.model_fields)
            pending += [field.annotation for field in kind.model_fields.values()]
        else:
            pending += [part for part in getattr(kind, "__args__", ()) if not _is_value(part)]
    return frozenset(found)


def _is_value(part: object) -> bool:
    return isinstance(part, (str, int, float, bool))


def _path(parts: tuple[str | int, ...]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _violation(details: ErrorDetails, path: str, known: frozenset[str]) -> Violation:
    kind, value = details["type"], details["input"]
    context: Mapping[str, Any] = details.get("ctx", {})
    # pydantic marks the key of a map itself with "[key]"; the path of its entry says the same.
    parts = tuple(part for part in details["loc"] if part != "[key]")
    where = _path((path, *parts) if path else parts) or path
    if kind == "fsm":
        return Violation(where, context["text"], context["hint"])
    if kind == "missing":
        return Violation(where, "is required")
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(parts[-1]), known, n=1)
        return Violation(where, "is not a field here", f"{close[0]}?" if close else "")
    if kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}, got {_shown(value)}"
        quoted = kind == "string_type" and isinstance(value, (int, float))
        return Violation(where, message, f'write "{value}" in quotes' if quoted else "")
    if kind == "literal_error":
        return Violation(where, f"{_shown(value)} is not one of {context['expected']}")
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = context.get("ge", context.get("le"))
        side = "least" if kind == "greater_than_equal" else "most"
        return Violation(where, f"{value!r} is out of range, at {side} {limit} is expected")
    if kind == "too_short":
        return Violation(where, "is empty, at least one is expected")
    if kind == "too_long":
        most, has = context["max_length"], context["actual_length"]
        return Violation(where, f"has {has} items, at most {most} are expected")
    return Violation(where, f"{details['msg'].lower()}, got {_shown(value)}")


_SHOWN_CHARS_MAX = 80
"""LIMIT: characters of a wrong value in a message; the path says where the rest is."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"
