"""Retry, policy.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``Retry``. ``retryOn`` is a list of words behind
commas: statuses (``503``), classes of them (``5xx``), and Envoy's words where they mean something
here; empty means ``5xx``.

Source: fsm-interfaces section 2.4; Envoy, x-envoy-retry-on.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.names import Key, ServiceAccount
from fsm.model.upstream import Retry
from fsm.policies.durations import Duration
from fsm.policies.strict import Name, Reading, Strict, fault, read

BACKOFF_MS_MAX = 1_000
"""LIMIT: a base of more is taken for this; the pauses grow up to ten times it."""
BACKOFF_MS = 25
"""Base where none is written. Envoy's default."""
_STATUS = re.compile(r"[1-5]\d\d")
_CLASS = re.compile(r"([1-5])xx")
_RANGES = {"gateway-error": (502, 504), "retriable-4xx": (409, 409)}
_WORDS = ("connect-failure", "reset", "refused-stream")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip()) or ("5xx",)


def _retry_on(value: str) -> str:
    for word in _words(value):
        known = word in _WORDS or word in _RANGES
        if not (known or _STATUS.fullmatch(word) or _CLASS.fullmatch(word)):
            raise fault(
                f"{word!r} is nothing to retry on",
                f"write 5xx, a status such as 503, {', '.join([*_RANGES, *_WORDS])}",
            )
    return value


def _account(value: str) -> str:
    if value != "ServiceAccount":
        raise fault(f"{value!r} is not a kind of source", "only ServiceAccount is")
    return value


def _service(value: str) -> str:
    if value != "Service":
        raise fault(f"{value!r} is not a kind of destination", "only Service is")
    return value


class Source(Strict):
    """Who calls."""

    kind: Annotated[str, AfterValidator(_account)]
    name: Name
    namespace: Name


class Destination(Strict):
    """Who is called."""

    kind: Annotated[str, AfterValidator(_service)]
    name: Name
    namespace: Name


class RetryPolicy(Strict):
    """What is tried again, how often, after what pause."""

    retryOn: Annotated[str, AfterValidator(_retry_on)]
    perTryTimeout: Duration | None = None
    numRetries: Annotated[int, Field(ge=0, le=100)] | None = None
    retryBackoffBaseInterval: Duration | None = None


class Body(Strict):
    """The policy."""

    source: Source
    destinations: Annotated[list[Destination], Field(min_length=1)]
    retryPolicy: RetryPolicy


def read_retry(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> Retry:
    """Return the dataclass of a valid object."""
    reading = read_retry(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    policy = body.retryPolicy
    words = _words(policy.retryOn)
    ranges = []
    for word in words:
        if (found := _CLASS.fullmatch(word)) is not None:
            first = int(found[1]) * 100
            ranges.append((first, first + 99))
        elif _STATUS.fullmatch(word):
            ranges.append((int(word), int(word)))
        elif word in _RANGES:
            ranges.append(_RANGES[word])
    backoff = policy.retryBackoffBaseInterval
    return Retry(
        namespace=reading.key.namespace,
        name=reading.key.name,
        source=ServiceAccount(body.source.namespace, body.source.name),
        destinations=tuple(dict.fromkeys(Key(d.namespace, d.name) for d in body.destinations)),
        statuses=tuple(dict.fromkeys(ranges)),
        connect_failure="connect-failure" in words,
        reset="reset" in words or "refused-stream" in words,
        retries_max=policy.numRetries or 0,
        per_try_timeout_ms=policy.perTryTimeout or 0,
        backoff_ms=BACKOFF_MS if backoff is None else min(backoff, BACKOFF_MS_MAX),
        generation=reading.generation,
    )
