"""Takes secrets out of texts and objects before they leave the machine.

What comes in: text of any kind, or objects of the API. What goes out: the same with secrets
replaced by ``***``.

Redacted are: private keys, tokens (JWT, ``Bearer``, ``Basic``), passwords in URLs, values whose
name says that they are secret, ``data`` of Secrets and their last applied configuration.
Invariants: what is redacted stays recognisable as such; a text that holds no secret is unchanged;
redacting twice changes nothing.
"""

from __future__ import annotations

import re
from typing import Any

MARK = "***"
TELLING = r"(?i:password|passwd|passphrase|secret|token|api[-_]?key|private[-_]?key|credential)"
"""Words in a name that make its value secret."""

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----(?! \*\*\*).*?(?:-----END \1-----|\Z)", re.DOTALL
        ),
        rf"-----BEGIN \1----- {MARK}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MARK),
    (re.compile(r"(?i)\b(bearer|basic)\s+(?!\*\*\*)[\w+/=.~-]{8,}"), rf"\1 {MARK}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*):[^\s/@\"']+@"), rf"\1:{MARK}@"),
    (
        re.compile(rf"(?m)(--[\w-]*{TELLING}[\w-]*[= ])(?!\*\*\*)[^\s\"',]+"),
        rf"\1{MARK}",
    ),
    (
        re.compile(rf"(\b[\w.-]*{TELLING}[\w.-]*=)(?!\*\*\*)[^\s\"'&,;]+"),
        rf"\1{MARK}",
    ),
)
_NAME = re.compile(TELLING)
_HARMLESS = re.compile(
    r"(?i)(name|path|file|ref|audience|seconds|namespace|mount|automount|expiration)s?$"
)
"""Ends of names that only speak about a secret: secretName, tokenExpirationSeconds."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def text(value: str) -> str:
    """Return a text without secrets."""
    for pattern, replacement in _RULES:
        value = pattern.sub(replacement, value)
    return value


def obj(value: Any, name: str = "") -> Any:
    """Return an object, or a part of one, without secrets."""
    if isinstance(value, dict):
        if value.get("kind") == "Secret":
            return _secret(value)
        # An environment variable, an argument by name: {"name": "DB_PASSWORD", "value": "…"}.
        named = value.get("name") if isinstance(value.get("name"), str) else ""
        return {
            key: MARK
            if key == "value" and isinstance(inner, str) and _secret_name(str(named))
            else obj(inner, str(key))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [obj(inner, name) for inner in value]
    if isinstance(value, str):
        return MARK if value and _secret_name(name) else text(value)
    return value


def _secret(value: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in value.items() if k not in ("data", "stringData")}
    metadata = dict(kept.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    if _LAST_APPLIED in annotations:
        annotations[_LAST_APPLIED] = MARK
        metadata["annotations"] = annotations
    hidden: dict[str, Any] = {
        part: dict.fromkeys(value[part] or {}, MARK)
        for part in ("data", "stringData")
        if part in value
    }
    return {**kept, "metadata": metadata, **hidden}


def _secret_name(name: str) -> bool:
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)
