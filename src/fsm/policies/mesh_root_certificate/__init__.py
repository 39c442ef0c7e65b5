"""MeshRootCertificate: which root signs, and which are believed besides. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.mesh_root_certificate.compile import judge
from fsm.policies.mesh_root_certificate.schema import model
from fsm.policies.mesh_root_certificate.validate import validate, warnings

POLICY = Policy(
    kind="MeshRootCertificate",
    group="config.flomesh.io",
    plural="meshrootcertificates",
    versions=("v1alpha3", "v1alpha2"),
    place="beside MeshConfig: it is about the mesh as a whole",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
