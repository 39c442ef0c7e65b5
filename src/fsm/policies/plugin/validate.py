"""Plugin: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the script loads, which
only the engine knows (``fsm.controllers.scripts``).
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.mesh_config.compile import LAST_PRIORITY
from fsm.policies.plugin.schema import read_plugin
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_plugin(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_plugin(obj)
    if reading.body is None or reading.body.priority > LAST_PRIORITY:
        return []
    return [
        Violation(
            reading.at("priority"),
            f"{reading.body.priority:g} puts it behind the last stage, which answers: nothing"
            " comes there",
            "115 is before the load balancing of every HTTP chain, 165 before the metrics",
        )
    ]
