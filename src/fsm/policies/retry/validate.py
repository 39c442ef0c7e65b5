"""Retry: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Services exist.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.retry.schema import BACKOFF_MS_MAX, read_retry
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_retry(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_retry(obj)
    if reading.body is None:
        return []
    policy = reading.body.retryPolicy
    found = []
    if not policy.numRetries:
        found.append(
            Violation(
                reading.at("retryPolicy", "numRetries"),
                "is 0, so nothing is tried again",
                "write how often, such as 5",
            )
        )
    if (policy.retryBackoffBaseInterval or 0) > BACKOFF_MS_MAX:
        found.append(
            Violation(
                reading.at("retryPolicy", "retryBackoffBaseInterval"),
                "is more than 1s and taken for 1s",
                "the pauses grow up to ten times this base",
            )
        )
    return found
