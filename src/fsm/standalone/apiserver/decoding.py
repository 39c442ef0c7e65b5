"""From what a client sent to an object that we can work with: checked, cleaned, defaulted.

What comes in: decoded JSON of unknown content and the ``Call`` it belongs to. What goes out: an
object of the right kind without unknown fields and with its defaults, or a 400 that lists what is
wrong.

Invariants: the input is not changed; the same function serves create, replace, every patch and the
answer of a mutating webhook, so all pass the same checks.
Not done here: rules between fields (``causes_of`` of this module only gathers them).
"""

from __future__ import annotations

from typing import Any

from fsm.standalone.apiserver import shapes, validation
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.crds import Version
from fsm.standalone.apiserver.defaults import apply_defaults
from fsm.standalone.apiserver.errors import Cause, StatusError, bad_request
from fsm.standalone.apiserver.metadata import metadata_causes
from fsm.standalone.apiserver.shapes import Problems
from fsm.standalone.apiserver.store import KubeObject, copy_object


def version_of(call: Call) -> Version | None:
    """Return the schema and columns of a custom resource in the version of the call."""
    definition = call.resource.definition
    return definition.versions[call.version] if definition else None


def decode(call: Call, raw: Any) -> KubeObject:
    """Check and clean an object; it comes back with its defaults.

    Raises:
        StatusError: 400, it is of another kind, a field has the wrong type, or (``Strict``) a
            field does not exist.
    """
    resource, wanted = call.resource, call.api_version
    if not isinstance(raw, dict):
        raise bad_request(f"the body must be a {resource.kind} object")
    obj: KubeObject = {"apiVersion": wanted, "kind": resource.kind} | raw
    if obj["kind"] != resource.kind:
        raise bad_request(
            f"the object provided is a {obj['kind']}, but this URL takes {resource.kind} objects"
        )
    stored = resource.definition and resource.api_version(resource.definition.storage_version)
    if obj["apiVersion"] not in (wanted, stored):
        raise bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API"
            f" version ({wanted})"
        )
    obj["apiVersion"] = wanted
    if not isinstance(obj.get("metadata") or {}, dict):
        raise _unreadable(call, ["metadata: expected an object"])
    obj["metadata"] = obj.get("metadata") or {}
    version = version_of(call)
    if version is None:
        cleaned, problems = shapes.check(resource.kind, obj)
    else:
        meta, problems = shapes.check("ObjectMeta", obj["metadata"])
        problems = Problems(
            [f"metadata.{text}" for text in problems.wrong],
            [f"metadata.{text}" for text in problems.unknown],
        )
        pruned, dropped = version.schema.prune(obj)
        problems.unknown += dropped
        cleaned = copy_object(pruned | {"metadata": meta})
        version.schema.defaults(cleaned)
    if problems.wrong:
        raise _unreadable(call, problems.wrong)
    _report_unknown(call, problems.unknown)
    if version is None:
        cleaned = copy_object(cleaned)
        apply_defaults(resource.kind, cleaned)
    return cleaned


def _unreadable(call: Call, problems: list[str]) -> StatusError:
    return bad_request(
        f'{call.resource.kind} in version "{call.version}" cannot be handled as a'
        f" {call.resource.kind}: {'; '.join(problems[:20])}"
    )


def _report_unknown(call: Call, unknown: list[str]) -> None:
    if not unknown or call.validation == "Ignore":
        return
    told = [f'unknown field "{path}"' for path in unknown[:20]]
    if call.validation == "Strict":
        raise bad_request(
            f'{call.resource.kind} in version "{call.version}" cannot be handled as a'
            f" {call.resource.kind}: strict decoding error: {', '.join(told)}"
        )
    call.warnings += [text for text in told if text not in call.warnings]


def causes_of(call: Call, new: KubeObject, old: KubeObject | None) -> list[Cause]:
    """Gather everything for which an object must be refused, except what CRDs and addresses say."""
    causes = metadata_causes(call.resource, new)
    version = version_of(call)
    if version is not None:
        causes += version.schema.causes(new)
        # Rules rely on what the schema says: they are not asked about what it refuses.
        if not causes and version.schema.rules is not None:
            causes += version.schema.rules.causes(new, old)
        return causes
    _, problems = shapes.check(call.resource.kind, new)
    causes += [Cause(path, "Required value", "FieldValueRequired") for path in problems.missing]
    if not problems.missing:
        # The rules may rely on required fields.
        causes += validation.causes_of(call.resource.kind, new, old)
    return causes
