"""PluginChain: the stages of the chains of one proxy, plugins among them.

In: the snapshot, a Pod, the built-in stages. Out: the stages of each chain, and the plugins that
they name. Invariants: higher priority first; of equals a built-in stage comes before plugins, and
these in the order of the policies' names and of their lists; a plugin stands in a chain once. What
does not exist, or is switched off, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fsm.model.plugin import ChainName, Plugin, PluginChain
from fsm.model.snapshot import Snapshot
from fsm.model.workload import Pod
from fsm.policies.base import Judgement
from fsm.policies.mesh_config.compile import Stage, stages
from fsm.policies.plugin.compile import enabled, not_enabled, plugin_named
from fsm.settings import Settings

FOLDER = "plugins/"


@dataclass(frozen=True, slots=True)
class PodChains:
    """The chains of one proxy."""

    stages: Mapping[ChainName, tuple[str, ...]]
    plugins: tuple[Plugin, ...]
    """Those that the chains name, in order of name."""

    def inbound(self) -> tuple[str, ...]:
        """Return the names of those that see traffic to the application."""
        stages = {*self.stages["inbound-http"], *self.stages["inbound-tcp"]}
        return tuple(plugin.name for plugin in self.plugins if stage_of(plugin.name) in stages)


def stage_of(plugin: str) -> str:
    """Return the stage that a chain names a plugin by."""
    return f"{FOLDER}{plugin}.js"


def chains_of(
    snapshot: Snapshot, pod: Pod, built_in: Mapping[ChainName, tuple[str, ...]]
) -> PodChains:
    """Return the chains of the proxy beside a Pod."""
    key = pod.key

    def find(snapshot: Snapshot) -> PodChains:
        return _chains(snapshot, snapshot.pods[key], built_in)

    # A change of a policy that does not choose the Pod is no change for its proxy.
    return snapshot.once(("chains", key), find)


def _chains(
    snapshot: Snapshot, pod: Pod, built_in: Mapping[ChainName, tuple[str, ...]]
) -> PodChains:
    found: dict[ChainName, tuple[str, ...]] = {}
    plugins: dict[str, Plugin] = {}
    chosen = [chain for chain in _all(snapshot) if selects(snapshot, chain, pod)]
    for name, known in built_in.items():
        listed = list(_mesh_wide(snapshot, name, known, plugins))
        listed += list(_chosen(snapshot, chosen, name, plugins))
        in_order = sorted(listed, key=lambda stage: -stage.priority)
        found[name] = tuple(dict.fromkeys(stage.file for stage in in_order))
    return PodChains(found, tuple(plugins[name] for name in sorted(plugins)))


def _mesh_wide(
    snapshot: Snapshot, name: ChainName, known: tuple[str, ...], plugins: dict[str, Plugin]
) -> Iterator[Stage]:
    for stage in stages(snapshot.mesh, name, known):
        if not stage.file.startswith(FOLDER):
            yield stage
        elif plugin := plugin_named(snapshot, plugin_of(stage.file)):
            plugins[plugin.name] = plugin
            yield stage


def _chosen(
    snapshot: Snapshot,
    chosen: list[PluginChain],
    name: ChainName,
    plugins: dict[str, Plugin],
) -> Iterator[Stage]:
    for policy in chosen:
        for chain, listed in policy.chains:
            for wanted in listed if chain == name else ():
                if plugin := plugin_named(snapshot, wanted):
                    plugins[plugin.name] = plugin
                    yield Stage(stage_of(plugin.name), plugin.priority)


def plugin_of(file: str) -> str:
    """Return the plugin that a stage of MeshConfig names."""
    return file.removeprefix(FOLDER).removesuffix(".js")


def _all(snapshot: Snapshot) -> tuple[PluginChain, ...]:
    def find(snapshot: Snapshot) -> tuple[PluginChain, ...]:
        if not enabled(snapshot):
            return ()
        counted = (*snapshot.monitored, snapshot.mesh.namespace)
        found = [
            policy
            for (kind, key), policy in snapshot.policies.items()
            if kind == "PluginChain" and key.namespace in counted
        ]
        return tuple(sorted(found, key=lambda policy: policy.key))

    return snapshot.once(("plugin-chains",), find)


def selects(snapshot: Snapshot, policy: PluginChain, pod: Pod) -> bool:
    """Tell whether a policy is about the proxy beside a Pod."""
    home = snapshot.namespaces.get(pod.namespace)
    return policy.pods.fits(pod.labels) and policy.namespaces.fits(home.labels if home else {})


def outbound_plugins(snapshot: Snapshot) -> frozenset[str]:
    """Return the plugins that stand in an outbound chain of any proxy."""

    def find(snapshot: Snapshot) -> frozenset[str]:
        named = {
            plugin
            for policy in _all(snapshot)
            for chain, plugins in policy.chains
            if chain.startswith("outbound-")
            for plugin in plugins
        }
        named |= {
            plugin_of(stage.plugin)
            for chain, listed in snapshot.mesh.plugin_chains.items()
            if chain.startswith("outbound-")
            for stage in listed
            if not stage.disable and stage.plugin.startswith(FOLDER)
        }
        return frozenset(name for name in named if plugin_named(snapshot, name))

    return snapshot.once(("outbound-plugins",), find)


def judge(snapshot: Snapshot, policy: PluginChain, settings: Settings) -> Judgement:
    """Say whether the policy has an effect."""
    if not enabled(snapshot):
        return not_enabled()
    missing = tuple(
        f"Plugin {name} does not exist"
        for name in policy.plugins
        if plugin_named(snapshot, name) is None
    )
    if missing:
        return Judgement("RefNotFound", missing)
    chosen = (
        pod
        for pod in snapshot.pods.values()
        if not pod.terminal and snapshot.pod_in_mesh(pod) and selects(snapshot, policy, pod)
    )
    if next(chosen, None) is None:
        return Judgement("NoWorkload", ("its selectors choose no Pod of the mesh",))
    return Judgement()
