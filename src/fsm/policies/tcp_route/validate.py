"""TCPRoute: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether a workload has such a
port.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.strict import Reading
from fsm.policies.tcp_route.schema import Body, ports_of, read_route
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_route(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    return warn_of_every_port(read_route(obj), "TCP")


def warn_of_every_port(reading: Reading[Body], protocol: str) -> list[Violation]:
    """Tell that a route that lists no port means every one of this protocol."""
    if reading.body is None or ports_of(reading):
        return []
    return [
        Violation(
            reading.at("matches", "ports"),
            f"no port is listed, so every {protocol} port of the destination is meant",
            "list the ports of the Pods, such as [9000]",
        )
    ]
