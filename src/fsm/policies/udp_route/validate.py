"""UDPRoute: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether a workload has such a
port.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.udp_route.schema import read_route
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_route(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_route(obj)
    if reading.body is None or (reading.body.matches and reading.body.matches.ports):
        return []
    return [
        Violation(
            reading.at("matches", "ports"),
            "no port is listed, so every UDP port of the destination is meant",
            "list the ports of the Pods, such as [9000]",
        )
    ]
