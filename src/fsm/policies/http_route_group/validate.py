"""HTTPRouteGroup: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether anything names the group.
"""

from __future__ import annotations

from collections import Counter

from fsm.model.fields import JsonObject
from fsm.policies.http_route_group.schema import read_group
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_group(obj)
    violations = list(reading.violations)
    if reading.body is None:
        return violations
    names = Counter(match.name for match in reading.body.matches)
    for index, match in enumerate(reading.body.matches):
        if names[match.name] > 1:
            violations.append(
                Violation(
                    reading.at("matches", index, "name"),
                    f"{match.name!r} is the name of {names[match.name]} matches",
                    "a TrafficTarget names matches, so each needs a name of its own",
                )
            )
        lower = Counter(name.lower() for name in match.headers or {})
        violations += [
            Violation(
                reading.at("matches", index, "headers"),
                f"header {name!r} stands twice",
                "join both patterns in one",
            )
            for name, count in lower.items()
            if count > 1
        ]
    return violations


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_group(obj)
    if reading.body is None:
        return []
    return [
        Violation(
            reading.at("matches", index, "pathRegex"),
            f"{match.pathRegex!r} is searched anywhere in path and query, so it fits every request",
            "write ^/$ for the root alone, or .* for everything",
        )
        for index, match in enumerate(reading.body.matches)
        if match.pathRegex in ("/", "", "^", "^/")
    ]
