"""What can go wrong between us and a Kubernetes API, by whose fault and what to do about it.

What comes in: an HTTP status with, usually, a Kubernetes ``Status`` body. What goes out: one
exception whose class says how a caller may react and whose message names the object.

Invariants: ``ApiError`` and its subclasses are the only exceptions that ``client`` lets out for a
request that was sent or tried; ``status`` is 0 when there was no answer at all.
Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """The API refused a request, or could not be asked.

    Attributes:
        status: HTTP status code; 0 when no answer came.
        reason: the machine-readable reason of the ``Status``, such as ``NotFound``.
        message: one sentence for people that names the object.
        details: the ``details`` of the ``Status``, or an empty mapping.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks us to wait, in seconds, if it said so."""
        seconds = self.details.get("retryAfterSeconds")
        return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None


class NotFound(ApiError):
    """The object, or the whole kind, does not exist."""


class Conflict(ApiError):
    """The object changed since it was read: read it again and repeat."""


class AlreadyExists(ApiError):
    """An object of that name is already there."""


class Forbidden(ApiError):
    """We are known but not allowed."""


class Unauthorized(ApiError):
    """The server does not accept our credentials."""


class Invalid(ApiError):
    """The object is wrong; ``details.causes`` lists each field."""


class Gone(ApiError):
    """The resourceVersion is too old: list again."""


class Unavailable(ApiError):
    """The server cannot be reached or is overloaded: try again later."""


class Unauthenticated(Exception):
    """A token that someone presented to us is not valid here."""


class ConfigError(Exception):
    """We do not know how to reach a Kubernetes API: no or broken kubeconfig."""


_BY_REASON: dict[str, type[ApiError]] = {
    "NotFound": NotFound,
    "Conflict": Conflict,
    "AlreadyExists": AlreadyExists,
    "Forbidden": Forbidden,
    "Unauthorized": Unauthorized,
    "Invalid": Invalid,
    "Gone": Gone,
    "Expired": Gone,
    "TooManyRequests": Unavailable,
    "ServiceUnavailable": Unavailable,
    "ServerTimeout": Unavailable,
    "Timeout": Unavailable,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def from_status(code: int, body: Any, action: str) -> ApiError:
    """Turn an answer that is not a success into the exception that fits it.

    Args:
        code: HTTP status, or the ``code`` of a ``Status`` inside a watch.
        body: the decoded body; anything that is not a ``Status`` is quoted, shortened.
        action: what we were doing, such as ``get Pod shop/web-1``.
    """
    if isinstance(body, dict) and body.get("kind") == "Status":
        reason = str(body.get("reason") or "")
        text = str(body.get("message") or reason or f"HTTP {code}")
        found = body.get("details")
        details = found if isinstance(found, dict) else {}
        if not code and isinstance(body.get("code"), int):
            code = int(body["code"])
    else:
        reason, details = "", {}
        text = f"HTTP {code}: {str(body)[:200]}" if body else f"HTTP {code}"
    kind = _BY_REASON.get(reason) or _BY_STATUS.get(code, ApiError)
    return kind(code, reason or kind.__name__, f"cannot {action}: {text}", details)
