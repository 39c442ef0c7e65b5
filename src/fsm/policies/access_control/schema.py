"""AccessControl, policy.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``ExternalAccess``. Invariant: an IngressBackend's,
but for two things: without ``backends`` it is about the whole namespace, and any protocol will do.

Source: fsm-interfaces section 2.9.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fsm.model.access import ExternalAccess
from fsm.model.fields import JsonObject
from fsm.policies.ingress_backend.schema import Backend, Clients, access
from fsm.policies.strict import Reading, read


class Body(Clients):
    """The policy."""

    backends: Annotated[list[Backend], Field(min_length=1)] | None = None


def read_control(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> ExternalAccess:
    """Return the dataclass of a valid object."""
    reading = read_control(obj)
    assert reading.body is not None, "the object was validated"
    body = reading.body
    return access("AccessControl", reading.key, reading.generation, body, body.backends or [])
