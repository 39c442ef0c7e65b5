"""Plugin, plugin.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``Plugin``. Objects of this kind are in no
namespace. What the control plane found out about the script stands in ``status.scriptFault``, put
there by the control plane in its own copy only: see ``fsm.controllers.scripts``.

Source: fsm-interfaces section 2.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from fsm.model.fields import JsonObject
from fsm.model.plugin import Plugin
from fsm.policies.strict import Reading, Strict, fault, read

SCRIPT_CHARS_MAX = 256 * 1024
"""LIMIT: characters of a script; every proxy that it stands in keeps it. The API takes 1 MiB."""
PRIORITY_MAX = 65_535
FAULT_FIELD = "scriptFault"


def _script(value: str) -> str:
    if not value.strip():
        raise fault("is empty", "a PipyJS module, such as pipy().pipeline().chain()")
    if len(value) > SCRIPT_CHARS_MAX:
        raise fault(f"has {len(value)} characters", f"{SCRIPT_CHARS_MAX} at most")
    return value


class Body(Strict):
    """The script, and where in a chain it stands."""

    pipyscript: Annotated[str, AfterValidator(_script)]
    priority: Annotated[float, Field(ge=0, le=PRIORITY_MAX)] = 0


def read_plugin(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def model(obj: JsonObject) -> Plugin:
    """Return the dataclass of a valid object."""
    reading = read_plugin(obj)
    body = reading.body
    assert body is not None, "the object was validated"
    status = obj.get("status")
    found = status.get(FAULT_FIELD, "") if isinstance(status, Mapping) else ""
    return Plugin(
        namespace="",
        name=reading.key.name,
        script=body.pipyscript,
        priority=body.priority,
        fault=found if isinstance(found, str) else "",
        generation=reading.generation,
    )
