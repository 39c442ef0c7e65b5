"""UpstreamTrafficSetting: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether the Service exists, and
other settings of the same Service (``compile.judge``).
"""

from __future__ import annotations

from fsm.model.fields import JsonObject
from fsm.policies.traffic_split.schema import service_key
from fsm.policies.upstream_traffic_setting.schema import read_setting
from fsm.policies.violation import Violation
from fsm.settings import Settings


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_setting(obj)
    violations = list(reading.violations)
    if reading.body is None:
        return violations
    here, host = reading.key.namespace, reading.body.host
    service = service_key(host, here)
    if service is not None and service.namespace != here:
        # Whoever may write in one namespace must not slow down the Services of another.
        violations.append(
            Violation(
                reading.at("host"),
                f"{host!r} is a Service of namespace {service.namespace}, not of the"
                f" UpstreamTrafficSetting's own, {here}",
                f"create the UpstreamTrafficSetting in namespace {service.namespace}",
            )
        )
    return violations


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_setting(obj)
    if reading.body is None:
        return []
    http = reading.body.connectionSettings and reading.body.connectionSettings.http
    breaking = http.circuitBreaking if http else None
    if breaking is None or any(
        (
            breaking.slowAmountThreshold,
            breaking.slowRatioThreshold,
            breaking.errorAmountThreshold,
            breaking.errorRatioThreshold,
        )
    ):
        return []
    return [
        Violation(
            reading.at("connectionSettings", "http", "circuitBreaking"),
            "has no threshold, so it never opens",
            "write errorAmountThreshold, errorRatioThreshold, slowAmountThreshold or"
            " slowRatioThreshold",
        )
    ]
