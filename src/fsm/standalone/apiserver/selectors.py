"""Label and field selectors: text in a URL to a predicate over objects.

What comes in: ``labelSelector`` and ``fieldSelector`` of a request, or the ``LabelSelector`` object
of a webhook or a workload. What goes out: functions from an object (or its labels) to a bool.

Invariants: a selector that we cannot read is a 400 with the text in it, never "matches all"; an
object without the label matches ``!=`` and ``notin``.
Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api and
https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fsm.standalone.apiserver.errors import StatusError, bad_request
from fsm.standalone.apiserver.store import KubeObject

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]
ObjectTest = Callable[[KubeObject], bool]

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})$")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})$")

# Every kind can be selected by these two; the rest per kind, as Kubernetes does.
_COMMON_FIELDS = {"metadata.name", "metadata.namespace"}
_FIELDS: dict[tuple[str, str], set[str]] = {
    ("", "pods"): {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    ("", "events"): {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    },
    ("", "secrets"): {"type"},
    ("", "namespaces"): {"status.phase"},
    ("", "nodes"): {"spec.unschedulable"},
    ("", "services"): {"spec.clusterIP", "spec.type"},
    ("apps", "replicasets"): {"status.replicas"},
    ("batch", "jobs"): {"status.successful"},
}


def label_selector(text: str) -> LabelTest:
    """Compile a selector such as ``app=web,tier in (a, b),!canary``.

    Raises:
        StatusError: 400, it cannot be read.
    """
    tests = [_requirement(part, text) for part in _split(text)]
    return lambda labels: all(test(labels) for test in tests)


def _split(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [] if parts == [""] else [part.strip() for part in parts]


def _requirement(part: str, whole: str) -> LabelTest:
    if match := _SET.match(part):
        key, operator, values = match[1], match[2], {v.strip() for v in match[3].split(",")}
        if operator == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.match(part):
        key, operator, value = match[1], match[2], match[3]
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        absent, key = bool(match[1]), match[2]
        return lambda labels: (key in labels) != absent
    raise bad_request(f"unable to parse requirement {part!r} of the label selector {whole!r}")


def matches_label_selector(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Apply a ``LabelSelector`` object; none or an empty one matches everything."""
    if not selector:
        return True
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], rule.get("values") or []
        operator = rule["operator"]
        fits = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(operator)
        if not fits:
            return False
    return True


def field_selector(text: str, gr: tuple[str, str]) -> ObjectTest:
    """Compile a selector such as ``metadata.name=x,status.phase!=Running``.

    Raises:
        StatusError: 400, it cannot be read or the field is not selectable for this kind.
    """
    tests: list[Callable[[KubeObject], bool]] = []
    allowed = _COMMON_FIELDS | _FIELDS.get(gr, set())
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.match(r"([A-Za-z0-9_.]+)\s*(==|=|!=)\s*(.*)$", part)
        if match is None:
            raise _bad_field(text, f"cannot read {part!r}")
        path, operator, wanted = match[1], match[2], match[3]
        if path not in allowed:
            raise _bad_field(text, f"field label not supported: {path}")
        tests.append(_field_test(path, operator == "!=", wanted))
    return lambda obj: all(test(obj) for test in tests)


def _bad_field(text: str, why: str) -> StatusError:
    return bad_request(f"unable to use the field selector {text!r}: {why}")


def _field_test(path: str, negate: bool, wanted: str) -> ObjectTest:
    steps = path.split(".")

    def test(obj: KubeObject) -> bool:
        value: Any = obj
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        if path == "source":
            value = value.get("component") if isinstance(value, dict) else None
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = "" if value is None else str(value)
        if path in ("spec.hostNetwork", "spec.unschedulable") and value is None:
            text = "false"
        return (text == wanted) != negate

    return test


def object_labels(obj: KubeObject) -> Labels:
    """Return the labels of an object, possibly none."""
    return obj.get("metadata", {}).get("labels") or {}


def compile_selectors(labels: str, fields: str, gr: tuple[str, str]) -> ObjectTest | None:
    """Combine both selectors of a request; ``None`` when there are none.

    Raises:
        StatusError: 400, one of them cannot be read.
    """
    if not labels and not fields:
        return None
    by_label, by_field = label_selector(labels), field_selector(fields, gr)
    return lambda obj: by_label(object_labels(obj)) and by_field(obj)
