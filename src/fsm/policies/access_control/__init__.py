"""AccessControl: which clients outside of the mesh may call a Service, or all. See README.md."""

from fsm.policies.access_control.compile import judge
from fsm.policies.access_control.schema import model
from fsm.policies.access_control.validate import validate, warnings
from fsm.policies.base import Policy

POLICY = Policy(
    kind="AccessControl",
    group="policy.flomesh.io",
    plural="accesscontrols",
    versions=("v1alpha1",),
    place="after IngressBackend, which names its ports and is looked at first",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
