"""CustomResourceDefinitions: from an object in the store to a resource that is served.

What comes in: CRD objects. What goes out: causes of refusal, the status that says it is
established, and the ``ApiResource`` with one ``Version`` per served version.

Invariants: a CRD is checked completely before it is stored, so every stored one can be served;
objects are stored once, in the storage version, and served in any by rewriting ``apiVersion``
(conversion ``None``; webhooks are refused).
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fsm.standalone.apiserver import cel
from fsm.standalone.apiserver.errors import Cause
from fsm.standalone.apiserver.metadata import LABEL_1035, SUBDOMAIN, now
from fsm.standalone.apiserver.registry import ApiResource, Registry
from fsm.standalone.apiserver.store import KubeObject
from fsm.standalone.apiserver.structural import SchemaError, Structural

_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``kubectl get``; ``priority`` above 0 shows with ``-o wide`` only."""

    name: str
    type: str
    path: str
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """What one version of a custom resource brings."""

    schema: Structural
    columns: tuple[Column, ...]
    has_status: bool
    scale: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Definition:
    """The CRD behind a custom resource."""

    name: str
    storage_version: str
    versions: dict[str, Version]


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sort key by which Kubernetes prefers versions: v2, v1, v1beta1, v1alpha2, v1alpha1, rest.

    Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    """
    match = _VERSION.match(version)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)


def crd_causes(crd: KubeObject, old: KubeObject | None, registry: Registry) -> list[Cause]:
    """Check a CRD; everything that is wrong at once."""
    spec, causes = crd["spec"], []
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    group, plural = spec.get("group") or "", names.get("plural") or ""
    if crd["metadata"]["name"] != f"{plural}.{group}":
        causes.append(
            _bad(
                "metadata.name", crd["metadata"]["name"], "must be spec.names.plural+'.'+spec.group"
            )
        )
    if not SUBDOMAIN.fullmatch(group) or "." not in group:
        causes.append(_bad("spec.group", group, "should be a domain with at least one dot"))
    for key in ("plural", "singular"):
        if not LABEL_1035.fullmatch(names.get(key) or ""):
            causes.append(_bad(f"spec.names.{key}", names.get(key), "must be a DNS-1035 label"))
    if not re.fullmatch(r"[A-Za-z][-A-Za-z0-9]*", names.get("kind") or ""):
        causes.append(_bad("spec.names.kind", names.get("kind"), "must be a CamelCase word"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(
            Cause(
                "spec.scope",
                f'Unsupported value: "{spec.get("scope")}": supported values: "Cluster",'
                ' "Namespaced"',
                "FieldValueNotSupported",
            )
        )
    if (spec.get("conversion") or {}).get("strategy") != "None":
        causes.append(_bad("spec.conversion.strategy", "Webhook", "only None is supported here"))
    if not versions:
        causes.append(Cause("spec.versions", "Required value", "FieldValueRequired"))
    elif sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(_bad("spec.versions", "", "must have exactly one version marked as storage"))
    seen: set[str] = set()
    for index, version in enumerate(versions):
        causes += _version_causes(version, f"spec.versions[{index}]", seen)
    taken = registry.by_gr((group, plural))
    if taken is not None and taken.definition is None:
        causes.append(_bad("spec.names.plural", plural, "is a built-in resource"))
    other = registry.by_kind(group, names.get("kind") or "")
    if other is not None and other.plural != plural:
        causes.append(
            _bad("spec.names.kind", names.get("kind"), f"is already in use by {other.qualified}")
        )
    if old is not None:
        for key in ("scope", "group"):
            if spec.get(key) != old["spec"].get(key):
                causes.append(Cause(f"spec.{key}", "Invalid value: field is immutable"))
    return causes


def _bad(path: str, value: Any, why: str) -> Cause:
    return Cause(path, f'Invalid value: "{value}": {why}')


def _version_causes(version: KubeObject, path: str, seen: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name = version.get("name") or ""
    if not LABEL_1035.fullmatch(name):
        causes.append(_bad(f"{path}.name", name, "must be a DNS-1035 label"))
    if name in seen:
        causes.append(Cause(f"{path}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate"))
    seen.add(name)
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    where = f"{path}.schema.openAPIV3Schema"
    if not isinstance(schema, dict):
        causes.append(Cause(where, "Required value: schemas are required", "FieldValueRequired"))
        return causes
    if schema.get("type") != "object":
        causes.append(_bad(f"{where}.type", schema.get("type"), "must be object at the root"))
    try:
        Structural(schema)
        causes += [Cause(where, text) for text in cel.rules_of(schema)[0]]
    except SchemaError as error:
        causes.append(Cause(where, f"Invalid value: {error}"))
    except (AttributeError, TypeError, KeyError) as error:
        causes.append(Cause(where, f"Invalid value: malformed schema: {error}"))
    return causes


def warnings_of(crd: KubeObject) -> list[str]:
    """Say what of a CRD is accepted but not acted upon."""
    found = []
    for version in crd["spec"].get("versions") or []:
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        name = f"{crd['metadata']['name']} {version['name']}"
        found += [f"{name}: not evaluated: {text}" for text in cel.rules_of(schema)[1]]
    return found


def establish(crd: KubeObject, old: KubeObject | None) -> None:
    """Write the status that says the names are accepted and the resource is served."""
    spec = crd["spec"]
    before = (old or {}).get("status") or {}
    known = {c["type"]: c for c in before.get("conditions") or []}
    conditions = []
    for kind, reason, message in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        since = (known.get(kind) or {}).get("lastTransitionTime") or now()
        conditions.append(
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": since,
            }
        )
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    stored = list(before.get("storedVersions") or [])
    crd["status"] = {
        "conditions": conditions,
        "acceptedNames": spec["names"],
        "storedVersions": stored if storage in stored else [*stored, storage],
    }


def resource_of(crd: KubeObject) -> ApiResource:
    """Make the resource that a stored CRD defines."""
    spec = crd["spec"]
    names = spec["names"]
    served = {v["name"]: _version(v) for v in spec["versions"] if v.get("served")}
    subresources = set()
    for version in served.values():
        subresources |= {"status"} if version.has_status else set()
        subresources |= {"scale"} if version.scale else set()
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    return ApiResource(
        group=spec["group"],
        versions=tuple(sorted(served, key=version_order)),
        plural=names["plural"],
        kind=names["kind"],
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        namespaced=spec["scope"] == "Namespaced",
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(subresources),
        definition=Definition(crd["metadata"]["name"], storage, served),
    )


def resources_of(crds: Iterable[KubeObject]) -> list[ApiResource]:
    """Make the resources of all CRDs that serve at least one version."""
    return [resource for crd in crds if (resource := resource_of(crd)).versions]


def _version(version: KubeObject) -> Version:
    subresources = version.get("subresources") or {}
    columns = tuple(
        Column(
            column["name"],
            column["type"],
            column["jsonPath"],
            column.get("priority") or 0,
            column.get("format") or "",
            column.get("description") or "",
        )
        for column in version.get("additionalPrinterColumns") or []
    )
    return Version(
        Structural(version["schema"]["openAPIV3Schema"]),
        columns,
        "status" in subresources,
        subresources.get("scale"),
    )
