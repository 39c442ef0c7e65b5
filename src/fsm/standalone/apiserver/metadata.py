"""The metadata of every object: names, labels, and what the server fills in.

What comes in: an object that a client sent. What goes out: causes of refusal, or the same object
with uid, timestamps and generated name.

Invariants: a stored name is safe in a URL, a file name and a DNS name; identity (uid, creation
time) is given once and never changes.
Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
"""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from fsm.standalone.apiserver.errors import Cause
from fsm.standalone.apiserver.registry import ApiResource
from fsm.standalone.apiserver.store import KubeObject

LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

# LIMIT bytes of all annotations of one object, as in Kubernetes.
ANNOTATIONS_BYTES_MAX = 256 * 1024
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def now() -> str:
    """Return the current time as metadata writes it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_problem(resource: ApiResource, name: str) -> str | None:
    """Say what is wrong with the name of an object, or ``None``."""
    if resource.group == "rbac.authorization.k8s.io":
        bad = name in ("", ".", "..") or "/" in name or "%" in name or not name.isprintable()
        return "may not be '.', '..' or contain '/' or '%'" if bad else None
    if resource.gr == ("", "services"):
        if len(name) > 63 or not LABEL_1035.fullmatch(name):
            return (
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start"
                " with a letter, end with an alphanumeric character, and have at most 63 characters"
            )
    elif resource.gr == ("", "namespaces"):
        if len(name) > 63 or not LABEL_1123.fullmatch(name):
            return (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
                " '-', start and end with an alphanumeric character, and have at most 63 characters"
            )
    elif len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        return (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
            " '-' or '.', start and end with an alphanumeric character, and have at most 253"
            " characters"
        )
    return None


def generate_name(prefix: str) -> str:
    """Make a name from a prefix and five random characters that spell no words."""
    return prefix[:58] + "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))


def metadata_causes(resource: ApiResource, obj: KubeObject) -> list[Cause]:
    """Check the metadata of an object; custom kinds pass no other check of it."""
    meta, causes = obj["metadata"], []
    if problem := name_problem(resource, meta["name"]):
        causes.append(Cause("metadata.name", f'Invalid value: "{meta["name"]}": {problem}'))
    for key, value in (meta.get("labels") or {}).items():
        if not _label_key_fits(key):
            causes.append(Cause("metadata.labels", f'Invalid value: "{key}": not a label key'))
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            causes.append(
                Cause("metadata.labels", f'Invalid value: "{value[:80]}": not a label value')
            )
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if not _label_key_fits(key.lower()):
            causes.append(
                Cause("metadata.annotations", f'Invalid value: "{key}": not an annotation key')
            )
    if sum(len(k) + len(v) for k, v in annotations.items()) > ANNOTATIONS_BYTES_MAX:
        causes.append(
            Cause(
                "metadata.annotations",
                f"Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes",
                "FieldValueTooLong",
            )
        )
    for finalizer in meta.get("finalizers") or []:
        if not _label_key_fits(finalizer):
            causes.append(
                Cause("metadata.finalizers", f'Invalid value: "{finalizer}": not a finalizer name')
            )
    return causes


def _label_key_fits(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not SUBDOMAIN.fullmatch(prefix)):
        return False
    return len(name) <= 63 and _LABEL_NAME.fullmatch(name) is not None


def begin(obj: KubeObject) -> None:
    """Give a new object its identity; what the client sent of it is overwritten."""
    meta = obj["metadata"]
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now()
    meta["generation"] = 1


def keep_identity(new: KubeObject, old: KubeObject) -> None:
    """Carry over what an update cannot change."""
    meta, before = new["metadata"], old["metadata"]
    for key in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "name",
        "namespace",
    ):
        if key in before:
            meta[key] = before[key]
        else:
            meta.pop(key, None)
    meta.pop("selfLink", None)
    meta["resourceVersion"] = before["resourceVersion"]


def content(obj: KubeObject) -> dict[str, Any]:
    """Return what an object asks for, whose change is a new generation."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}
