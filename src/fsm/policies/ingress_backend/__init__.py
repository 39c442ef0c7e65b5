"""IngressBackend: which clients outside of the mesh may call a Service. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.ingress_backend.compile import judge
from fsm.policies.ingress_backend.schema import model
from fsm.policies.ingress_backend.validate import validate, warnings

POLICY = Policy(
    kind="IngressBackend",
    group="policy.flomesh.io",
    plural="ingressbackends",
    versions=("v1alpha1",),
    place="beside TrafficTarget: it decides who may, for those who have no identity",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
