"""AccessControl: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Services exist.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.access_control.schema import read_control
from fsm.policies.ingress_backend.validate import doubts, faults
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_control(obj)
    if reading.body is None:
        return list(reading.violations)
    return faults(reading, reading.body, reading.body.backends or ())


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_control(obj)
    if reading.body is None or faults(reading, reading.body, reading.body.backends or ()):
        return []
    if reading.body.backends is None and {s.kind for s in reading.body.sources} == {
        "AuthenticatedPrincipal"
    }:
        return [
            Violation(
                reading.at("backends"),
                "is missing, so plain text is meant and a principal alone lets nobody in",
                "list backends with tls, or add a Service or IPRange",
            )
        ]
    return doubts(reading, reading.body, reading.body.backends or ())
