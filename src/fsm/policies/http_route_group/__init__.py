"""HTTPRouteGroup: named descriptions of requests. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.http_route_group.schema import model
from fsm.policies.http_route_group.validate import validate, warnings

POLICY = Policy(
    kind="HTTPRouteGroup",
    group="specs.smi-spec.io",
    plural="httproutegroups",
    versions=("v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"),
    place="TrafficTargets and TrafficSplits name its matches, so it is read before them",
    validate_body=validate,
    warn=warnings,
    model=model,
)
