"""Egress: which servers outside of the mesh a workload may reach. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.egress.compile import judge
from fsm.policies.egress.schema import model
from fsm.policies.egress.validate import validate, warnings

POLICY = Policy(
    kind="Egress",
    group="policy.flomesh.io",
    plural="egresses",
    versions=("v1alpha1",),
    place="after the Services of the mesh, which are known by their own addresses and come first",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
