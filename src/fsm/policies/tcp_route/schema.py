"""TCPRoute, specs.smi-spec.io v1alpha1 to v1alpha4: the shape.

In: the object's JSON. Out: pydantic models, and ``TCPRoute``. Before v1alpha4 a TCPRoute has no
fields and means every port. UDPRoute has the shape of v1alpha4.

Source: SMI specification, Traffic Specs; fsm-interfaces section 2.2.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.model.policy import TCPRoute
from fsm.policies.strict import PortNumber, Reading, Strict, read


class Matches(Strict):
    """Which connections, or datagrams, are meant."""

    name: str | None = None
    ports: list[PortNumber] | None = None


class Body(Strict):
    """The route."""

    matches: Matches | None = None


def read_route(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body, at_root=True)


def model(obj: JsonObject) -> TCPRoute:
    """Return the dataclass of a valid object."""
    reading = read_route(obj)
    return TCPRoute(
        namespace=reading.key.namespace,
        name=reading.key.name,
        ports=ports_of(reading),
        generation=reading.generation,
    )


def ports_of(reading: Reading[Body]) -> tuple[int, ...]:
    """Return the ports of a valid route, in order; none stands for all."""
    assert reading.body is not None, "the object was validated"
    matches = reading.body.matches
    return tuple(sorted(set(matches.ports or ()))) if matches else ()
