"""AccessCert: a certificate of the mesh for a client outside of it. See README.md."""

from fsm.policies.access_cert.compile import judge
from fsm.policies.access_cert.gate import GATE
from fsm.policies.access_cert.schema import model
from fsm.policies.access_cert.validate import validate, warnings
from fsm.policies.base import Policy

POLICY = Policy(
    kind="AccessCert",
    group="policy.flomesh.io",
    plural="accesscerts",
    versions=("v1alpha1",),
    place="after those that ask for certificates: it decides nothing about a request itself",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
    gate=GATE,
)
