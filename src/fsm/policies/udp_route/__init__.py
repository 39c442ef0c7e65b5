"""UDPRoute: ports on which UDP datagrams are meant. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.udp_route.compile import judge
from fsm.policies.udp_route.schema import model
from fsm.policies.udp_route.validate import validate, warnings

POLICY = Policy(
    kind="UDPRoute",
    group="specs.smi-spec.io",
    plural="udproutes",
    versions=("v1alpha4",),
    place="as TCPRoute, whose shape it has",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
