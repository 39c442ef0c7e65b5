"""PluginChain: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the plugins exist.
"""

from __future__ import annotations

from collections import Counter

from fsm.model.fields import JsonObject
from fsm.policies.plugin_chain.schema import SelectorBody, read_chain
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return list(read_chain(obj).violations)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_chain(obj)
    body = reading.body
    if body is None:
        return []
    found = []
    named = Counter((chain.name, plugin) for chain in body.chains for plugin in chain.plugins)
    for (chain, plugin), count in named.items():
        if count > 1:
            text = f"{plugin} is named {count} times in {chain} and runs once"
            found.append(Violation(reading.at("chains"), text))
    selectors = (body.selectors.podSelector, body.selectors.namespaceSelector)
    if not any(_asks(selector) for selector in selectors):
        found.append(
            Violation(
                reading.at("selectors"),
                "chooses every Pod of the mesh",
                "name the Pods: podSelector: {matchLabels: {app: …}}",
            )
        )
    return found


def _asks(selector: SelectorBody | None) -> bool:
    return bool(selector and (selector.matchLabels or selector.matchExpressions))
