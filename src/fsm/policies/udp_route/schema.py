"""UDPRoute, specs.smi-spec.io v1alpha4: TCPRoute's newest shape, read as a ``UDPRoute``.

Source: SMI specification, Traffic Specs; fsm-interfaces section 2.2.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.model.policy import UDPRoute
from fsm.policies.strict import Reading, read
from fsm.policies.tcp_route.schema import Body, ports_of


def read_route(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> UDPRoute:
    """Return the dataclass of a valid object."""
    reading = read_route(obj)
    return UDPRoute(
        namespace=reading.key.namespace,
        name=reading.key.name,
        ports=ports_of(reading),
        generation=reading.generation,
    )
