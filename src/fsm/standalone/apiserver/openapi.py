"""OpenAPI documents, from the same tables that check objects.

What comes in: the registry and the shapes. What goes out: /openapi/v3 (an index, and one document
per group and version).

Why these: kubectl asks v3 whether the server checks unknown fields itself (the ``fieldValidation``
parameter of PATCH) and then leaves checking to us; `kubectl explain` reads the schemas. Old kubectl
asks v2 (``openapi_v2``). The patch bodies leave out ``strategic-merge-patch`` on purpose: kubectl
then computes patches of built-in kinds from the types compiled into it.
Invariants: computed from what is served now; the index names each document with a hash of its
content, so a client may cache it.
Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from fsm.standalone.apiserver.registry import ApiResource, Registry
from fsm.standalone.apiserver.shapes import SHAPES, Field

Json = dict[str, Any]

_GVK = "x-kubernetes-group-version-kind"
_SCALARS: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "time": {"type": "string", "format": "date-time"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
    "bytes": {"type": "string", "format": "byte"},
    "any": {"x-kubernetes-preserve-unknown-fields": True},
}
_PARAMETERS = [
    {
        "name": name,
        "in": "query",
        "description": text,
        "schema": {"type": "string", "uniqueItems": True},
    }
    for name, text in (
        ("dryRun", "`All`: go through everything and store nothing."),
        ("fieldManager", "Who makes the change."),
        ("fieldValidation", "What to do about unknown fields: `Ignore`, `Warn` or `Strict`."),
    )
]


class OpenApi:
    """Makes the documents, and keeps them until the set of resources changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._documents: dict[tuple[str, str], bytes] = {}
        self._made_for: list[ApiResource] = []

    def index(self) -> Json:
        """Return the answer to /openapi/v3."""
        self._refresh()
        paths = {}
        for (group, version), raw in self._documents.items():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(raw).hexdigest()[:32]
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def document(self, group: str, version: str) -> bytes | None:
        """Return the document of a group and version as JSON, or ``None``."""
        self._refresh()
        return self._documents.get((group, version))

    def _refresh(self) -> None:
        resources = list(self._registry)
        # Compared by identity: a changed CRD brings new resource objects.
        if len(resources) == len(self._made_for) and all(
            a is b for a, b in zip(resources, self._made_for, strict=True)
        ):
            return
        self._made_for = resources
        self._documents = {
            (group, version): orjson.dumps(_document(group, version, resources))
            for group, versions in self._registry.versions().items()
            for version in versions
        }


def _document(group: str, version: str, resources: list[ApiResource]) -> Json:
    paths: Json = {}
    schemas: Json = {}
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    for resource in resources:
        if resource.group != group or version not in resource.versions:
            continue
        kind = {"group": group, "version": version, "kind": resource.kind}
        name = _schema_name(resource, version)
        schemas[name] = _schema(resource, version, schemas) | {_GVK: [kind]}
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        collection = f"{prefix}{scope}/{resource.plural}"
        place = [_path_parameter("namespace")] if resource.namespaced else []
        paths[collection] = {"parameters": place, "post": _operation("post", kind, name)}
        if "patch" in resource.verbs:
            paths[f"{collection}/{{name}}"] = {
                "parameters": [*place, _path_parameter("name")],
                "get": _operation("get", kind, name),
                "put": _operation("put", kind, name),
                "patch": _operation("patch", kind, name),
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": "fsm embedded Kubernetes API", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _operation(verb: str, kind: Json, name: str) -> Json:
    content = {"application/json": {"schema": _reference(name)}}
    operation: Json = {
        _GVK: kind,
        "x-kubernetes-action": verb,
        "responses": {"200": {"description": "OK", "content": content}},
    }
    if verb != "get":
        operation["parameters"] = _PARAMETERS
        accepted = (
            (
                "application/apply-patch+yaml",
                "application/json-patch+json",
                "application/merge-patch+json",
            )
            if verb == "patch"
            else ("application/json",)
        )
        operation["requestBody"] = {
            "content": {media: {"schema": _reference(name)} for media in accepted},
            "required": True,
        }
    return operation


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schema_name(resource: ApiResource, version: str) -> str:
    group = ".".join(reversed((resource.group or "core.api.k8s.io").split(".")))
    return f"{group}.{version}.{resource.kind}"


def _schema(resource: ApiResource, version: str, schemas: Json) -> Json:
    if resource.definition is None:
        return _shape_schema(resource.kind, schemas)
    schema = dict(resource.definition.versions[version].schema.schema)
    properties = dict(schema.get("properties") or {})
    properties["apiVersion"] = properties["kind"] = {"type": "string"}
    properties["metadata"] = _named("ObjectMeta", schemas)
    return schema | {"properties": properties}


def _named(shape: str, schemas: Json) -> Json:
    name = f"fsm.shape.{shape}"
    if name not in schemas:
        schemas[name] = {}  # before its fields: shapes may contain themselves
        schemas[name] = _shape_schema(shape, schemas)
    return {"allOf": [_reference(name)], "default": {}}


def _shape_schema(shape: str, schemas: Json) -> Json:
    fields = SHAPES[shape]
    schema: Json = {
        "type": "object",
        "properties": {key: _field_schema(known, schemas) for key, known in fields.items()},
    }
    required = [key for key, known in fields.items() if known.required]
    return schema | ({"required": required} if required else {})


def _field_schema(known: Field, schemas: Json) -> Json:
    inner = _SCALARS.get(known.type) or _named(known.type, schemas)
    if known.container == "[":
        return {"type": "array", "items": inner}
    if known.container == "{":
        return {"type": "object", "additionalProperties": inner}
    return dict(inner)
