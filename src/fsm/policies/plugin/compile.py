"""Plugin: which scripts may be used, and what a proxy runs for one.

In: the snapshot. Out: plugins by name, the text for proxies. Invariants: nothing without
``featureFlags.enablePluginPolicy``; in place of a script that does not load proxies get one that
lets nothing pass, because what a plugin is to keep out must not come in by a slip of the pen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fsm.model.names import Key
from fsm.model.plugin import Plugin
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.policies.plugin.gate import FLAG
from fsm.settings import Settings


def enabled(snapshot: Snapshot) -> bool:
    """Tell whether plugins are switched on."""
    return bool(snapshot.mesh.feature_flags.get(FLAG, False))


def not_enabled() -> Judgement:
    """Return what all three kinds come to while plugins are switched off."""
    return Judgement("NotEnabled", (f"MeshConfig has not switched featureFlags.{FLAG} on",))


def plugin_named(snapshot: Snapshot, name: str) -> Plugin | None:
    """Return the plugin with this name, if plugins are switched on."""
    if not enabled(snapshot):
        return None
    found: Plugin | None = snapshot.policies.get(("Plugin", Key("", name)))
    return found


def text_of(plugin: Plugin) -> str:
    """Return what proxies run for it."""
    if not plugin.fault:
        return plugin.script
    words = json.dumps(f"the plugin does not load: {plugin.fault}")
    return f"pipy().pipeline().onStart(() => {{ throw new Error({words}) }}).chain()"


def plugins_named(snapshot: Snapshot) -> Mapping[str, tuple[str, ...]]:
    """Return who names each plugin in a chain."""

    def find(snapshot: Snapshot) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for stages in snapshot.mesh.plugin_chains.values():
            for stage in stages:
                if not stage.disable and stage.plugin.startswith("plugins/"):
                    name = stage.plugin.removeprefix("plugins/").removesuffix(".js")
                    found.setdefault(name, []).append(snapshot.mesh.origin)
        for (kind, _), chain in snapshot.policies.items():
            if kind == "PluginChain":
                for name in chain.plugins:
                    found.setdefault(name, []).append(chain.origin)
        return {name: tuple(chains) for name, chains in found.items()}

    return snapshot.once(("plugins-named",), find)


def judge(snapshot: Snapshot, plugin: Plugin, settings: Settings) -> Judgement:
    """Say whether the plugin has an effect."""
    if not enabled(snapshot):
        return not_enabled()
    if plugin.fault:
        text = "spec.pipyscript: it does not load; what it stands before is refused with 500"
        return Judgement("DoesNotLoad", (f"{text}: {plugin.fault}",))
    if plugin.name not in plugins_named(snapshot):
        return Judgement("NotReferenced", ("no PluginChain names it",))
    return Judgement()
