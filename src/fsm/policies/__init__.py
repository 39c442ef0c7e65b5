"""The policies of the mesh: one folder each, with schema, validation, compilation and cases.

In: the JSON of objects. Out: violations, warnings, dataclasses. The admission webhook, the command
line, the snapshot and the tests call the functions below and nothing else.

Invariants: pure; every kind of ours is in ``POLICIES``; the order there is the order in which
policies bear on a request, and each entry says why it stands where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsm.model.fields import JsonObject
from fsm.policies import (
    access_cert,
    access_control,
    egress,
    http_route_group,
    ingress_backend,
    mesh_config,
    mesh_root_certificate,
    plugin,
    plugin_chain,
    plugin_config,
    retry,
    tcp_route,
    traffic_split,
    traffic_target,
    udp_route,
    upstream_traffic_setting,
)
from fsm.policies.base import Policy
from fsm.policies.violation import Invalid, Violation
from fsm.settings import Settings

POLICIES: tuple[Policy, ...] = (
    mesh_config.POLICY,
    mesh_root_certificate.POLICY,
    http_route_group.POLICY,
    tcp_route.POLICY,
    udp_route.POLICY,
    traffic_target.POLICY,
    ingress_backend.POLICY,
    access_control.POLICY,
    access_cert.POLICY,
    egress.POLICY,
    traffic_split.POLICY,
    retry.POLICY,
    upstream_traffic_setting.POLICY,
    plugin.POLICY,
    plugin_chain.POLICY,
    plugin_config.POLICY,
)
BY_KIND = {policy.kind: policy for policy in POLICIES}

__all__ = [
    "BY_KIND",
    "POLICIES",
    "Invalid",
    "Policy",
    "Violation",
    "parse",
    "shut",
    "validate",
    "warnings",
]


def validate(obj: JsonObject, settings: Settings | None = None) -> list[Violation]:
    """Return everything that is wrong with an object of one of our kinds, in order of path.

    Args:
        obj: the object, of any version, with ``kind``.
        settings: those of the mesh; None means the defaults.

    Returns:
        the violations; empty for an object that can be used. An object of an unknown kind has one
        violation, at ``kind``.

    """
    policy = BY_KIND.get(str(obj.get("kind")))
    if policy is None:
        known = ", ".join(BY_KIND)
        return [Violation("kind", f"{obj.get('kind')!r} is not a kind of the mesh", known)]
    return policy.validate(obj, settings or Settings())


def shut(obj: JsonObject, feature_flags: Mapping[str, Any]) -> list[Violation]:
    """Return why objects of a kind are not taken now: what they need is switched off."""
    policy = BY_KIND.get(str(obj.get("kind")))
    if policy is None or policy.gate is None or feature_flags.get(policy.gate.flag) is True:
        return []
    return [policy.gate.violation()]


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed in an object and probably not meant; none of it is a fault too."""
    policy = BY_KIND.get(str(obj.get("kind")))
    return policy.warnings(obj) if policy else []


def parse(obj: JsonObject, settings: Settings | None = None) -> Any:
    """Return the dataclass of an object of one of our kinds.

    Raises:
        Invalid: with all violations.

    """
    policy = BY_KIND.get(str(obj.get("kind")))
    if policy is None:
        raise Invalid(validate(obj))
    return policy.parse(obj, settings or Settings())
