"""PluginChain, plugin.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``PluginChain``. A selector that is absent or empty
chooses everything.

Source: fsm-interfaces section 2.12; Kubernetes, LabelSelector.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from fsm.model.fields import JsonObject
from fsm.model.plugin import CHAIN_NAMES, ChainName, PluginChain
from fsm.model.selectors import Operator, Requirement, Selector
from fsm.policies.strict import Name, Reading, Strict, fault, read


def _chain_name(value: str) -> str:
    if value not in CHAIN_NAMES:
        raise fault(f"{value!r} is not a chain", f"one of {', '.join(CHAIN_NAMES)}")
    return value


def _operator(value: str) -> str:
    if value not in tuple(Operator):
        raise fault(f"{value!r} is not an operator", f"one of {', '.join(Operator)}")
    return value


class RequirementBody(Strict):
    """What is asked of one label."""

    key: Annotated[str, Field(min_length=1)]
    operator: Annotated[str, AfterValidator(_operator)]
    values: list[str] | None = None

    @model_validator(mode="after")
    def _values_where_they_are_meant(self) -> RequirementBody:
        listed = self.operator in (Operator.IN, Operator.NOT_IN)
        if listed and not self.values:
            raise fault(f"operator {self.operator} without values", "list the values")
        if not listed and self.values:
            raise fault(f"operator {self.operator} takes no values", "leave them out")
        return self


class SelectorBody(Strict):
    """What is asked of labels."""

    matchLabels: dict[str, str] | None = None
    matchExpressions: list[RequirementBody] | None = None


class SelectorsBody(Strict):
    """Which Pods, of which namespaces."""

    podSelector: SelectorBody | None = None
    namespaceSelector: SelectorBody | None = None


class ChainBody(Strict):
    """The plugins of one chain."""

    name: Annotated[str, AfterValidator(_chain_name)]
    plugins: Annotated[list[Name], Field(min_length=1)]


class Body(Strict):
    """The policy."""

    chains: Annotated[list[ChainBody], Field(min_length=1)]
    selectors: SelectorsBody


def read_chain(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def selector_of(body: SelectorBody | None) -> Selector:
    """Return the selector that a part of the object describes."""
    body = body or SelectorBody()
    labels = sorted((body.matchLabels or {}).items())
    return Selector(
        (
            *(Requirement(label, Operator.IN, (value,)) for label, value in labels),
            *(
                Requirement(part.key, Operator(part.operator), tuple(part.values or ()))
                for part in body.matchExpressions or ()
            ),
        )
    )


def model(obj: JsonObject) -> PluginChain:
    """Return the dataclass of a valid object."""
    reading = read_chain(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    return PluginChain(
        namespace=reading.key.namespace,
        name=reading.key.name,
        chains=tuple((_known(chain.name), tuple(chain.plugins)) for chain in body.chains),
        pods=selector_of(body.selectors.podSelector),
        namespaces=selector_of(body.selectors.namespaceSelector),
        generation=reading.generation,
    )


def _known(name: Any) -> ChainName:
    return next(known for known in CHAIN_NAMES if known == name)
