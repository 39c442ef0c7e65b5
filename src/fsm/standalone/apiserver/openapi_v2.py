"""The OpenAPI v2 document, as protobuf: what `kubectl` before 1.27 (Debian's is 1.20) asks for.

What comes in: the resources. What goes out: bytes of ``openapi.v2.Document``. In it is what such a
client decides by: for each kind that PATCH takes ``dryRun``, without which it refuses ``diff`` and
``--dry-run=server``.

Invariants: no schemas, on purpose. With them these clients would compute patches of built-in kinds
from ours instead of from the types compiled into them, and check fields themselves; without, the
server checks. So `kubectl explain` of such a client finds nothing.
Source: the message numbers of gnostic's OpenAPIv2.proto, as Kubernetes' clients read them; protobuf
wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from fsm.standalone.apiserver.registry import ApiResource

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def document(resources: Iterable[ApiResource]) -> bytes:
    """Return the document about what is served now."""
    paths = b"".join(
        _nested(2, _text(1, _path(resource, version)) + _nested(2, _item(resource, version)))
        for resource in resources
        if "patch" in resource.verbs
        for version in resource.versions
    )
    info = _text(1, "fsm embedded Kubernetes API") + _text(2, "v1")
    return _text(1, "2.0") + _nested(2, info) + _nested(8, paths)


def _path(resource: ApiResource, version: str) -> str:
    prefix = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{prefix}{scope}/{resource.plural}/{{name}}"


def _item(resource: ApiResource, version: str) -> bytes:
    kind = {"group": resource.group, "version": version, "kind": resource.kind}
    query = _text(2, "query") + _text(4, "dryRun") + _text(6, "string")
    # ParametersItem, Parameter, NonBodyParameter: each is a choice with one field.
    parameter = _nested(1, _nested(2, _nested(3, query)))
    # JSON is YAML, which is what a client reads it as.
    extension = _text(1, "x-kubernetes-group-version-kind") + _nested(2, _text(2, json.dumps(kind)))
    return _nested(8, _nested(8, parameter) + _nested(13, extension))


def _text(number: int, value: str) -> bytes:
    return _nested(number, value.encode())


def _nested(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
