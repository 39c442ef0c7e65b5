"""PluginConfig: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether plugin and Services
exist, and what the plugin makes of what it is told.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.plugin_config.schema import read_config
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_config(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_config(obj)
    if reading.body is None or reading.body.config:
        return []
    return [Violation(reading.at("config"), "is empty, so the plugin is told nothing")]
