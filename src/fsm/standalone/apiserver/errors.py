"""What the API server answers when it does not do what was asked: a Kubernetes ``Status``.

What comes in: a refusal raised anywhere below the HTTP layer. What goes out: the JSON that clients
such as kubectl print and branch on.

Invariants: ``StatusError`` is the only way to refuse; each constructor here gives the code and
reason of the Kubernetes API conventions; a ``hint`` becomes a second line of the message.
Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One wrong field: where, why, and the reason code that clients know."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusError(Exception):
    """A request is refused; carries everything the ``Status`` says."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = f"{message}\nhint: {hint}" if hint else message
        super().__init__(self.message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> dict[str, Any]:
        """Return the ``Status`` object."""
        answer: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": printable(self.message),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            answer["details"] = printable(self.details)
        return answer


#: Control characters but for the end of a line: C0, DEL, C1.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) != "\n"}


def printable(value: Any) -> Any:
    """Escape control characters in all texts of a value.

    Errors quote what somebody sent, and clients print errors on terminals, which obey them.
    """
    if isinstance(value, str):
        return value.translate(_CONTROLS)
    if isinstance(value, dict):
        return {key: printable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [printable(inner) for inner in value]
    return value


def success(group: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return the ``Status`` that answers a finished deletion."""
    details = {"name": name, "group": group, "kind": kind, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> StatusError:
    """Say that an object does not exist."""
    return StatusError(
        404,
        "NotFound",
        f'{_qualified(group, plural)} "{name}" not found',
        details={"name": name, "group": group, "kind": plural},
    )


def unknown_path(path: str, hint: str | None = None) -> StatusError:
    """Say that nothing is served at a URL."""
    # With details that name nothing: clients (`kubectl debug`) look into them unasked.
    return StatusError(
        404,
        "NotFound",
        f"the server could not find the requested resource ({path})",
        details={},
        hint=hint,
    )


def already_exists(group: str, plural: str, name: str) -> StatusError:
    """Say that there is an object of that name."""
    return StatusError(
        409,
        "AlreadyExists",
        f'{_qualified(group, plural)} "{name}" already exists',
        details={"name": name, "group": group, "kind": plural},
    )


def conflict(group: str, plural: str, name: str, why: str) -> StatusError:
    """Say that an object is not in the state that the caller expects."""
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}',
        details={"name": name, "group": group, "kind": plural},
    )


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> StatusError:
    """Say what is wrong with the content of an object, every field of it."""
    listed = list(causes)
    lines = [f"{cause.field}: {cause.message}" for cause in listed]
    told = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    qualified = f"{kind}.{group}" if group else kind
    return StatusError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {told}',
        details={
            "name": name,
            "group": group,
            "kind": kind,
            "causes": [
                {"reason": cause.reason, "message": cause.message, "field": cause.field}
                for cause in listed
            ],
        },
    )


def bad_request(message: str, hint: str | None = None) -> StatusError:
    """Say why a request cannot be understood."""
    return StatusError(400, "BadRequest", message, hint=hint)


def unauthorized() -> StatusError:
    """Say that we do not know who asks."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(group: str, plural: str, name: str, message: str) -> StatusError:
    """Say no to someone we know."""
    return StatusError(
        403, "Forbidden", message, details={"name": name, "group": group, "kind": plural}
    )


def expired(message: str) -> StatusError:
    """Say that a version or continue token is older than what we remember."""
    return StatusError(410, "Expired", message)


def too_large(limit_bytes: int) -> StatusError:
    """Say that a body is larger than an object may be."""
    return StatusError(
        413,
        "RequestEntityTooLarge",
        f"Request entity too large: limit is {limit_bytes} bytes",
    )


def unsupported_media(given: str, supported: str) -> StatusError:
    """Say that a body comes in a format that we do not read."""
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format ({given}); accepted: {supported}",
    )


def unavailable(message: str, hint: str | None = None) -> StatusError:
    """Say that something we depend on does not answer."""
    return StatusError(503, "ServiceUnavailable", message, hint=hint)


def storage_failed(message: str, *, full: bool) -> StatusError:
    """Say that the store could not write, and that nothing was changed."""
    if full:
        return StatusError(
            507, "InsufficientStorage", message, hint="free some disk space and try again"
        )
    return StatusError(500, "InternalError", message)
