"""TrafficTarget, access.smi-spec.io v1alpha1 to v1alpha3: the shape.

In: the object's JSON. Out: pydantic models, and ``TrafficTarget``. v1alpha1 keeps its fields at the
root and calls the rules ``specs``; before v1alpha3 a destination may name a port.

Source: SMI specification, Traffic Access Control; fsm-interfaces section 2.2.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.names import ServiceAccount
from fsm.model.policy import RuleRef, TrafficTarget
from fsm.policies.strict import Name, PortNumber, Reading, Strict, fault, read

RULE_KINDS = ("HTTPRouteGroup", "TCPRoute", "UDPRoute")


def _identity_kind(value: str) -> str:
    if value != "ServiceAccount":
        raise fault(f"{value!r} is not a kind of identity", "only ServiceAccount is")
    return value


def _rule_kind(value: str) -> str:
    if value not in RULE_KINDS:
        raise fault(f"{value!r} is not a kind of route", f"one of {', '.join(RULE_KINDS)}")
    return value


def _port(value: object) -> object:
    # The old documents write the port either way.
    return int(value) if isinstance(value, str) and value.isdecimal() else value


IdentityKind = Annotated[str, AfterValidator(_identity_kind)]
RuleKind = Annotated[str, AfterValidator(_rule_kind)]


class Source(Strict):
    """Who may."""

    kind: IdentityKind
    name: Name
    namespace: Name | None = None


class Destination(Source):
    """Whose workloads."""

    port: Annotated[PortNumber, BeforeValidator(_port)] | None = None


class Rule(Strict):
    """What."""

    kind: RuleKind
    name: Name
    matches: list[str] | None = None


class Body(Strict):
    """The target."""

    destination: Destination
    sources: Annotated[list[Source], Field(min_length=1)]
    rules: Annotated[list[Rule], Field(min_length=1)] | None = None
    specs: Annotated[list[Rule], Field(min_length=1)] | None = None


def read_target(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body, at_root=True)


def model(obj: JsonObject) -> TrafficTarget:
    """Return the dataclass of a valid object."""
    reading = read_target(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    here = reading.key.namespace
    return TrafficTarget(
        namespace=here,
        name=reading.key.name,
        destination=ServiceAccount(body.destination.namespace or here, body.destination.name),
        sources=tuple(
            sorted(
                {ServiceAccount(source.namespace or here, source.name) for source in body.sources}
            )
        ),
        rules=tuple(
            RuleRef(rule.kind, rule.name, tuple(rule.matches or ()))
            for rule in body.rules or body.specs or ()
        ),
        port=body.destination.port,
        generation=reading.generation,
    )
