"""PluginConfig: what a Service tells a plugin. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.plugin.gate import GATE
from fsm.policies.plugin_config.compile import judge
from fsm.policies.plugin_config.schema import model
from fsm.policies.plugin_config.validate import validate, warnings

POLICY = Policy(
    kind="PluginConfig",
    group="plugin.flomesh.io",
    plural="pluginconfigs",
    versions=("v1alpha1",),
    place="last: what the plugins of the chains are told",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
    gate=GATE,
)
