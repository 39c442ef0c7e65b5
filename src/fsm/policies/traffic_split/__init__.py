"""TrafficSplit: shares of a Service's traffic. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.traffic_split.schema import model
from fsm.policies.traffic_split.validate import validate, warnings

POLICY = Policy(
    kind="TrafficSplit",
    group="split.smi-spec.io",
    plural="trafficsplits",
    versions=("v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"),
    place="the last word on where a request goes, after it is known whether it may go at all",
    validate_body=validate,
    warn=warnings,
    model=model,
)
