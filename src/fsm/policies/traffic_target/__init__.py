"""TrafficTarget: who may use which routes of whom. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.traffic_target.schema import model
from fsm.policies.traffic_target.validate import validate, warnings

POLICY = Policy(
    kind="TrafficTarget",
    group="access.smi-spec.io",
    plural="traffictargets",
    versions=("v1alpha3", "v1alpha2", "v1alpha1"),
    place="decides who gets in at all; a TrafficSplit only shares out what is let in",
    validate_body=validate,
    warn=warnings,
    model=model,
)
