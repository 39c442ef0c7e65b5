r"""Protobuf bodies: Kubernetes clients written in Go send built-in kinds in this form.

What comes in: a body of type ``application/vnd.kubernetes.protobuf``. What goes out: the same
object as if it had been sent as JSON. Answers are always JSON, which every client accepts too.

    body      "k8s\\0", then the message Unknown {1 TypeMeta {1 apiVersion, 2 kind}, 2 raw object}
    table     ``Name: number field type, …`` (``wire_a_l``…); ``[T]`` list, ``{T}``
              map, ``~`` a message whose fields belong to the outer object

Invariants: whatever the bytes, the answer is an object or a 400; a field number that we do not know
is a 400 that names it, never silently lost. Go writes zero values of all fields that are no
pointers: empty texts and lists are dropped, and zeros where JSON clients leave them out too.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding and
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from fsm.standalone.apiserver import wire_a_l, wire_m_z
from fsm.standalone.apiserver.errors import StatusError, bad_request

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
# LIMIT of nesting, against bodies made to exhaust the stack; no kind comes near.
_DEPTH_MAX = 64

_FIELD = re.compile(r"(\d+) (~|[A-Za-z0-9]+)(?: ([\[{]?)([A-Za-z0-9]+)[\]}]?)?$")

# Fields that are pointers in Go, where zero or false is a wish and not an omission.
_MEANT_ZEROS = frozenset(
    """
    replicas parallelism completions backoffLimit backoffLimitPerIndex ttlSecondsAfterFinished
    terminationGracePeriodSeconds revisionHistoryLimit runAsUser runAsGroup fsGroup defaultMode mode
    gracePeriodSeconds priority partition successfulJobsHistoryLimit failedJobsHistoryLimit
    tolerationSeconds deletionGracePeriodSeconds startingDeadlineSeconds maxFailedIndexes
    automountServiceAccountToken enableServiceLinks optional privileged runAsNonRoot
    readOnlyRootFilesystem allowPrivilegeEscalation controller blockOwnerDeletion immutable
    allocateLoadBalancerNodePorts ready serving terminating hostUsers shareProcessNamespace
    orphanDependents
    """.split()
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: str
    container: str


class _Malformed(ValueError):
    """The bytes are not what they should be."""


def _read(table: str) -> dict[str, dict[int, _Field]]:
    messages: dict[str, dict[int, _Field]] = {}
    for line in re.sub(r"\n +", " ", table.strip()).splitlines():
        name, _, rest = line.partition(":")
        message: dict[int, _Field] = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            match = _FIELD.match(item)
            if match is None:
                raise ValueError(f"message {name}: cannot read {item!r}")
            message[int(match[1])] = _Field(match[2], match[4] or "str", match[3] or "")
        messages[name] = message
    return messages


MESSAGES = _read(wire_a_l.TABLE) | _read(wire_m_z.TABLE)


def decode(body: bytes) -> dict[str, Any]:
    """Decode a body.

    Raises:
        StatusError: 400, it is malformed, or of a kind that can only be sent as JSON.
    """
    try:
        if not body.startswith(_MAGIC):
            raise _Malformed("it does not begin with k8s")
        type_meta, raw = b"", b""
        for number, value in _entries(body[len(_MAGIC) :]):
            if number == 1 and isinstance(value, bytes):
                type_meta = value
            elif number == 2 and isinstance(value, bytes):
                raw = value
        named = {number: value for number, value in _entries(type_meta)}
        api_version, kind = _text(named.get(1, b"")), _text(named.get(2, b""))
        if kind not in MESSAGES:
            raise StatusError(
                415, "UnsupportedMediaType", f"{kind[:80] or 'this'} can only be sent as JSON here"
            )
        return {"apiVersion": api_version, "kind": kind} | _message(kind, raw, kind, 0)
    except (_Malformed, UnicodeDecodeError, OverflowError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from error


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if position >= len(data):
            raise _Malformed("it ends inside a number")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise _Malformed("a number is too long")


def _entries(data: Any) -> Iterator[tuple[int, int | bytes]]:
    """Split a message into field numbers and raw values."""
    if not isinstance(data, bytes):
        raise _Malformed("a number stands where a message belongs")
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise _Malformed(f"wire type {wire_type} is not used by Kubernetes")
        if position + length > len(data):
            raise _Malformed("it ends inside a field")
        yield key >> 3, data[position : position + length]
        position += length


def _message(name: str, data: int | bytes, path: str, depth: int) -> dict[str, Any]:
    if depth > _DEPTH_MAX:
        raise _Malformed("it is nested too deeply")
    known = MESSAGES[name]
    result: dict[str, Any] = {}
    for number, raw in _entries(data):
        field = known.get(number)
        if field is None:
            raise _Malformed(f"{path} has a field number {number} that is not known here")
        if field.name == "~":
            result |= _message(field.type, raw, path, depth + 1)
            continue
        here = f"{path}.{field.name}"
        if field.container == "{":
            key, value = _map_entry(field.type, raw, here, depth)
            result.setdefault(field.name, {})[key] = value
            continue
        value = _value(field.type, raw, here, depth)
        if field.container == "[":
            result.setdefault(field.name, []).append(value)
        elif value is not None and (value not in (0, "") or _is_meant(field, value)):
            result[field.name] = value
    return result


def _is_meant(field: _Field, value: Any) -> bool:
    """Tell a zero that was written on purpose from one that stands for nothing."""
    return field.name in _MEANT_ZEROS and value != ""


def _map_entry(kind: str, raw: int | bytes, path: str, depth: int) -> tuple[str, Any]:
    key, value = "", b"" if kind not in ("int", "bool") else 0
    for number, item in _entries(raw):
        if number == 1:
            key = _text(item)
        elif number == 2:
            value = item
    return key, _value(kind, value, path, depth)


def _value(kind: str, raw: int | bytes, path: str, depth: int) -> Any:
    if kind in MESSAGES:
        return _message(kind, raw, path, depth + 1)
    match kind:
        case "str":
            return _text(raw)
        case "int":
            number = _number(raw)
            return number - (1 << 64) if number >= 1 << 63 else number
        case "bool":
            return bool(_number(raw))
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "time" | "microtime":
            return _time(raw, micro=kind == "microtime")
        case "quantity":
            return _text(dict(_entries(raw)).get(1, b""))
        case "intstr":
            parts = dict(_entries(raw))
            if _number(parts.get(1, 0)):
                return _text(parts.get(3, b""))
            return _value("int", parts.get(2, 0), path, depth)
        case "strings":
            return [_text(item) for number, item in _entries(raw) if number == 1]
        case "json":
            return _json(dict(_entries(raw)).get(1, b""))
    raise _Malformed(f"{path} can only be sent as JSON here")


def _number(raw: int | bytes) -> int:
    if not isinstance(raw, int):
        raise _Malformed("bytes stand where a number belongs")
    return raw


def _bytes(raw: int | bytes) -> bytes:
    if not isinstance(raw, bytes):
        raise _Malformed("a number stands where bytes belong")
    return raw


def _text(raw: int | bytes) -> str:
    return _bytes(raw).decode()


def _time(raw: int | bytes, *, micro: bool) -> str | None:
    """Decode {1 seconds, 2 nanoseconds}; the empty message means "not set"."""
    parts = dict(_entries(raw))
    if not parts:
        return None
    seconds = _value("int", parts.get(1, 0), "", 0)
    nanos = _number(parts.get(2, 0))
    # The first moment of year 1: the zero time, written out.
    if seconds == -62135596800:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=seconds, microseconds=nanos // 1000
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _json(raw: int | bytes) -> Any:
    try:
        return orjson.loads(_bytes(raw)) if raw else None
    except orjson.JSONDecodeError as error:
        raise _Malformed(f"embedded JSON: {error}") from error
