"""PluginChain: puts plugins into chains of the proxies beside some Pods. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.plugin.gate import GATE
from fsm.policies.plugin_chain.compile import judge
from fsm.policies.plugin_chain.schema import model
from fsm.policies.plugin_chain.validate import validate, warnings

POLICY = Policy(
    kind="PluginChain",
    group="plugin.flomesh.io",
    plural="pluginchains",
    versions=("v1alpha1",),
    place="after Plugin, which it names",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
    gate=GATE,
)
