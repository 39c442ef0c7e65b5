"""PluginConfig, plugin.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``PluginConfig``. What is under ``config`` is the
plugin's own: it is passed on as it is, with its keys as they were written.

Source: fsm-interfaces section 2.12; Kubernetes, ObjectReference.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.plugin import Destination, PluginConfig
from fsm.policies.strict import Name, Reading, Strict, fault, read

KINDS = ("Service", "Egress")


def _kind(value: str) -> str:
    if value not in KINDS:
        raise fault(f"{value!r} is not a kind of destination", "Service, or Egress")
    return value


class Reference(Strict):
    """What the plugin is told about."""

    kind: Annotated[str, AfterValidator(_kind)] = "Service"
    name: Name
    namespace: Name | None = None
    apiVersion: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    fieldPath: str | None = None


class Body(Strict):
    """The policy."""

    plugin: Name
    config: dict[str, Any]
    destinationRefs: Annotated[list[Reference], Field(min_length=1)]


def read_config(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> PluginConfig:
    """Return the dataclass of a valid object."""
    reading = read_config(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    return PluginConfig(
        namespace=reading.key.namespace,
        name=reading.key.name,
        plugin=body.plugin,
        config=body.config,
        destinations=tuple(
            dict.fromkeys(
                Destination(ref.kind, ref.namespace or reading.key.namespace, ref.name)
                for ref in body.destinationRefs
            )
        ),
        generation=reading.generation,
    )
