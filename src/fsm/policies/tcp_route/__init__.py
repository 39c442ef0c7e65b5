"""TCPRoute: ports on which TCP connections are meant. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.tcp_route.schema import model
from fsm.policies.tcp_route.validate import validate, warnings

POLICY = Policy(
    kind="TCPRoute",
    group="specs.smi-spec.io",
    plural="tcproutes",
    versions=("v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"),
    place="TrafficTargets name it, so it is read before them",
    validate_body=validate,
    warn=warnings,
    model=model,
)
