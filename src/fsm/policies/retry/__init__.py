"""Retry: which failed requests are tried again. See README.md."""

from fsm.policies.base import Policy
from fsm.policies.retry.compile import judge
from fsm.policies.retry.schema import model
from fsm.policies.retry.validate import validate, warnings

POLICY = Policy(
    kind="Retry",
    group="policy.flomesh.io",
    plural="retries",
    versions=("v1alpha1",),
    place="after what decides where a request goes: it is about the way there",
    validate_body=validate,
    warn=warnings,
    model=model,
    judge=judge,
)
