"""TrafficTarget: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether what it names exists;
that changes without the object and is told in its status (``fsm.compile.assess``).
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.traffic_target.schema import read_target
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_target(obj)
    violations = list(reading.violations)
    body = reading.body
    if body is None:
        return violations
    if body.rules is None and body.specs is None:
        violations.append(Violation(reading.at("rules"), "is required"))
    if body.rules is not None and body.specs is not None:
        violations.append(
            Violation(reading.at("specs"), "is the old name of rules", "put all under rules")
        )
    namespace = body.destination.namespace or reading.key.namespace
    if settings.require_target_namespace and namespace != reading.key.namespace:
        violations.append(
            Violation(
                reading.at("destination", "namespace"),
                f"{namespace!r} is not the TrafficTarget's own namespace,"
                f" {reading.key.namespace!r}",
                f"create the TrafficTarget in namespace {namespace}",
            )
        )
    return violations


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_target(obj)
    body = reading.body
    if body is None:
        return []
    field = "rules" if body.rules is not None else "specs"
    found = []
    for index, rule in enumerate(body.rules or body.specs or ()):
        if rule.kind == "HTTPRouteGroup" and not rule.matches:
            found.append(
                Violation(
                    reading.at(field, index, "matches"),
                    f"no match of HTTPRouteGroup {rule.name} is named, so this rule allows nothing",
                    "name the matches that are meant",
                )
            )
    return found
