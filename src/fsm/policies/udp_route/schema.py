"""UDPRoute, specs.smi-spec.io v1alpha4: the shape.

In: the object's JSON. Out: pydantic models, and ``UDPRoute``. Invariant: the same shape as
TCPRoute's newest.

Source: SMI specification, Traffic Specs; fsm-interfaces section 2.2.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.model.policy import UDPRoute
from fsm.policies.strict import PortNumber, Reading, Strict, read


class Matches(Strict):
    """Which datagrams are meant."""

    name: str | None = None
    ports: list[PortNumber] | None = None


class Body(Strict):
    """The route."""

    matches: Matches | None = None


def read_route(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> UDPRoute:
    """Return the dataclass of a valid object."""
    reading = read_route(obj)
    assert reading.body is not None, "the object was validated"
    matches = reading.body.matches
    return UDPRoute(
        namespace=reading.key.namespace,
        name=reading.key.name,
        ports=tuple(sorted(set(matches.ports or ()))) if matches else (),
        generation=reading.generation,
    )
