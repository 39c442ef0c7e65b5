"""The four chains as the compiler names them, and what the rules of a proxy tell its plugins.

In: what policies say, as JSON values. Out: ``PluginSettings``. Invariant: what is told to nobody is
the same object everywhere. Not here: which plugins there are (``fsm.policies.plugin_chain``).
"""

from __future__ import annotations

from collections.abc import Mapping

from fsm.compile.contract import BUILT_IN_CHAINS, NO_SETTINGS, RENAMED, PluginSettings
from fsm.model.names import Key
from fsm.model.plugin import CHAIN_NAMES, ChainName, Destination
from fsm.model.snapshot import Snapshot
from fsm.model.workload import Pod
from fsm.policies.plugin_chain.compile import chains_of
from fsm.policies.plugin_config.compile import Told, outbound_told, service_told

BUILT_IN_STAGES: Mapping[ChainName, tuple[str, ...]] = {
    name: BUILT_IN_CHAINS[name] for name in CHAIN_NAMES
}
CHAIN_FIELDS = tuple(
    (field, name) for field, of in RENAMED.items() for name in CHAIN_NAMES if of == name
)
"""Fields of ``Chains``, each with the chain that it stands for."""


def inbound_settings(snapshot: Snapshot, pod: Pod, service: Key) -> PluginSettings:
    """Return what a Service tells the plugins of a Pod's own proxy."""
    chains = chains_of(snapshot, pod, BUILT_IN_STAGES)
    return _settings(service_told(snapshot, service, chains.inbound()))


def outbound_settings(snapshot: Snapshot, destination: Destination) -> PluginSettings:
    """Return what a destination tells the plugins of its clients' proxies.

    Proxies share their outbound halves, so it is told to all that may reach the destination.
    """
    return _settings(outbound_told(snapshot, destination))


def _settings(told: Told) -> PluginSettings:
    return PluginSettings.of(told) if told else NO_SETTINGS
