"""MeshConfig: what users change while the mesh runs. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.mesh_config.schema import model
from fsm.policies.mesh_config.validate import validate, warnings

POLICY = Policy(
    kind="MeshConfig",
    group="config.flomesh.io",
    plural="meshconfigs",
    versions=("v1alpha3", "v1alpha2", "v1alpha1"),
    place="decides which of the other policies are asked at all",
    validate_body=validate,
    warn=warnings,
    model=model,
)
