"""PluginConfig: what the plugins of a chain are told about a destination.

In: the snapshot, a Service or an Egress, and which plugins there are to be told. Out: what is told,
by plugin. Invariants: nothing without ``featureFlags.enablePluginPolicy``; of several policies
about one plugin and one destination the first by namespace and name is followed; a proxy is told
what plugins of its own chains, or of its side's, may ask for, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fsm.model.names import Key
from fsm.model.plugin import Destination, PluginConfig
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.policies.plugin.compile import enabled, not_enabled, plugin_named
from fsm.policies.plugin_chain.compile import outbound_plugins
from fsm.settings import Settings

Told = Mapping[str, Mapping[str, object]]


def told(snapshot: Snapshot, destination: Destination, plugins: Iterable[str]) -> Told:
    """Return what some plugins are told about a destination; empty where that is nothing."""
    known = _followed(snapshot, destination)
    return {name: known[name].config for name in plugins if name in known}


def service_told(snapshot: Snapshot, service: Key, plugins: Iterable[str]) -> Told:
    """Return what some plugins are told about a Service."""
    return told(snapshot, Destination("Service", *service), plugins)


def outbound_told(snapshot: Snapshot, destination: Destination) -> Told:
    """Return what the plugins of outbound chains are told about a destination."""
    return told(snapshot, destination, sorted(outbound_plugins(snapshot)))


def _followed(snapshot: Snapshot, destination: Destination) -> Mapping[str, PluginConfig]:
    """Return the policies about a destination that are followed, by plugin."""

    def find(snapshot: Snapshot) -> Mapping[str, PluginConfig]:
        return _by_destination(snapshot).get(destination, {})

    # A change of what one destination tells is no change for the others.
    return snapshot.once(("told", destination), find)


def _by_destination(snapshot: Snapshot) -> Mapping[Destination, Mapping[str, PluginConfig]]:
    def find(snapshot: Snapshot) -> Mapping[Destination, Mapping[str, PluginConfig]]:
        found: dict[Destination, dict[str, PluginConfig]] = {}
        if not enabled(snapshot):
            return found
        counted = (*snapshot.monitored, snapshot.mesh.namespace)
        policies = sorted(
            (
                policy
                for (kind, key), policy in snapshot.policies.items()
                if kind == "PluginConfig" and key.namespace in counted
            ),
            key=lambda policy: policy.key,
        )
        for policy in policies:
            for destination in policy.destinations:
                found.setdefault(destination, {}).setdefault(policy.plugin, policy)
        return found

    return snapshot.once(("plugin-configs",), find)


def judge(snapshot: Snapshot, policy: PluginConfig, settings: Settings) -> Judgement:
    """Say whether the policy has an effect."""
    if not enabled(snapshot):
        return not_enabled()
    missing = []
    if plugin_named(snapshot, policy.plugin) is None:
        missing.append(f"Plugin {policy.plugin} does not exist")
    missing += [
        f"{destination} is not in the mesh"
        for destination in policy.destinations
        if not _exists(snapshot, destination)
    ]
    rivals = sorted(
        {
            str(followed.key)
            for destination in policy.destinations
            if (followed := _followed(snapshot, destination).get(policy.plugin)) is not None
            and followed.key != policy.key
        }
    )
    conflict = f"PluginConfig {rivals[0]} tells it something else and is followed" if rivals else ""
    return Judgement("RefNotFound" if missing else "", tuple(missing), conflict)


def _exists(snapshot: Snapshot, destination: Destination) -> bool:
    key = Key(destination.namespace, destination.name)
    if destination.kind == "Egress":
        return ("Egress", key) in snapshot.policies
    return snapshot.service_in_mesh(key) is not None
