"""UpstreamTrafficSetting: how a Service may be called, and how much. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.upstream_traffic_setting.compile import judge
from fsm.policies.upstream_traffic_setting.schema import model
from fsm.policies.upstream_traffic_setting.validate import validate, warnings

POLICY = Policy(
    kind="UpstreamTrafficSetting",
    group="policy.flomesh.io",
    plural="upstreamtrafficsettings",
    versions=("v1alpha1",),
    place="last: it bounds what the others have let through",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
