"""UDPRoute: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether a workload has such a
port.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.tcp_route.validate import warn_of_every_port
from fsm.policies.udp_route.schema import read_route
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_route(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    return warn_of_every_port(read_route(obj), "UDP")
