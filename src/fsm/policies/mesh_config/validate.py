"""MeshConfig: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings.
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.base import OLDER_GROUPS
from fsm.policies.mesh_config.schema import read_config, seconds
from fsm.policies.violation import Violation
from fsm.settings import Settings

_VALIDITY_MIN_S = 60
"""LIMIT: a certificate that lives shorter is renewed more often than configurations change."""


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_config(obj)
    violations = list(reading.violations)
    body = reading.body
    if body is None:
        return violations
    if body.certificate is not None:
        validity = body.certificate.serviceCertValidityDuration
        if seconds(validity) < _VALIDITY_MIN_S:
            violations.append(
                Violation(
                    reading.at("certificate", "serviceCertValidityDuration"),
                    f"{validity!r} is too short, at least {_VALIDITY_MIN_S}s is expected",
                )
            )
    return violations


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_config(obj)
    body = reading.body
    if body is None:
        return []
    found = []
    if str(obj.get("apiVersion", "")).startswith(OLDER_GROUPS["config.flomesh.io"]):
        found.append(
            Violation(
                "apiVersion",
                "is of an older mesh: a MeshConfig of this name under config.flomesh.io goes first",
                "write config.flomesh.io/v1alpha3",
            )
        )
    permissive = body.traffic is not None and body.traffic.enablePermissiveTrafficPolicyMode
    if body.sidecar is not None and body.sidecar.sidecarDisabledMTLS and not permissive:
        found.append(
            Violation(
                reading.at("sidecar", "sidecarDisabledMTLS"),
                "without mutual TLS no client can prove who it is, so every TrafficTarget refuses",
                "set traffic.enablePermissiveTrafficPolicyMode to true, or keep mutual TLS",
            )
        )
    return found
