"""Plugin: a script that can stand in the chains of proxies. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.plugin.compile import judge
from fsm.policies.plugin.gate import GATE
from fsm.policies.plugin.schema import model
from fsm.policies.plugin.validate import validate, warnings

POLICY = Policy(
    kind="Plugin",
    group="plugin.flomesh.io",
    plural="plugins",
    versions=("v1alpha1",),
    place="after the policies of ours: what people add themselves",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
    namespaced=False,
    gate=GATE,
)
