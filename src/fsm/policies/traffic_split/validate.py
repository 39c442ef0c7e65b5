"""TrafficSplit: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Services exist, and
other splits of the same apex (``fsm.compile.assess``).
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.policies.traffic_split.schema import read_split, service_key
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_split(obj)
    violations = list(reading.violations)
    body = reading.body
    if body is None:
        return violations
    here = reading.key.namespace
    apex = service_key(body.service, here)
    if apex is not None and apex.namespace != here:
        # Whoever may write in one namespace must not redirect the traffic of another.
        violations.append(
            Violation(
                reading.at("service"),
                f"{body.service!r} is a Service of namespace {apex.namespace}, not of the"
                f" TrafficSplit's own, {here}",
                f"create the TrafficSplit in namespace {apex.namespace}",
            )
        )
    first: dict[Key | None, int] = {}
    for index, backend in enumerate(body.backends):
        before = first.setdefault(service_key(backend.service, here), index)
        if before != index:
            violations.append(
                Violation(
                    reading.at("backends", index, "service"),
                    f"{backend.service!r} is a backend already, at index {before}",
                    "add both weights up in one backend",
                )
            )
    return violations


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_split(obj)
    body = reading.body
    if body is None or any(backend.weight for backend in body.backends):
        return []
    if validate(obj, Settings()):
        return []
    return [
        Violation(
            reading.at("backends"),
            "every weight is 0, so every backend gets an equal share",
            "give at least one backend a weight",
        )
    ]
