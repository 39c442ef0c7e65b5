"""Egress: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether what it names exists.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm.model.fields import JsonObject
from fsm.policies.egress.schema import Body, read_egress
from fsm.policies.ingress_backend.schema import is_address
from fsm.policies.strict import Reading
from fsm.policies.violation import Violation
from fsm.settings import Settings

_WITH_REQUESTS = ("http", "grpc")


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    reading = read_egress(obj)
    if reading.body is None:
        return list(reading.violations)
    return list(_faults(reading, reading.body))


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    reading = read_egress(obj)
    if reading.body is None or any(_faults(reading, reading.body)):
        return []
    return list(_doubts(reading, reading.body))


def _faults(reading: Reading[Body], body: Body) -> Iterator[Violation]:
    spoken: dict[int, str] = {}
    for index, port in enumerate(body.ports):
        before = spoken.setdefault(port.number, port.protocol)
        if before != port.protocol:
            text = f"port {port.number} is there already, with protocol {before}"
            yield Violation(reading.at("ports", index), text)
    requests = [port for port in body.ports if port.protocol.lower() in _WITH_REQUESTS]
    encrypted = [port for port in body.ports if port.protocol.lower() == "https"]
    for index, host in enumerate(body.hosts or ()):
        if host.startswith("*") and requests:
            text = f"{host!r} is a wildcard, which is for https alone"
            hint = f"port {requests[0].number} speaks {requests[0].protocol}: write the whole name"
            yield Violation(reading.at("hosts", index), text, hint)
        if encrypted and is_address(host):
            text = f"{host!r} is an address, which no TLS client asks for by name"
            hint = f"port {encrypted[0].number} speaks https: write it under ipAddresses"
            yield Violation(reading.at("hosts", index), text, hint)
    settings = 0
    for index, match in enumerate(body.matches or ()):
        settings += match.kind == "UpstreamTrafficSetting"
        if settings > 1:
            text = "is a second UpstreamTrafficSetting, and one policy has at most one"
            yield Violation(reading.at("matches", index), text)


def _doubts(reading: Reading[Body], body: Body) -> Iterator[Violation]:
    groups = [m for m in body.matches or () if m.kind == "HTTPRouteGroup"]
    for index, port in enumerate(body.ports):
        where, protocol = reading.at("ports", index), port.protocol.lower()
        if protocol.startswith("tcp") and body.hosts:
            text = f"hosts are not looked at for {protocol}, so that port {port.number} of"
            every = f"{text} {'these addresses' if body.ipAddresses else 'every address'} is open"
            yield Violation(where, every, "write protocol https, or ipAddresses")
        if not protocol.startswith("tcp") and not body.hosts:
            yield Violation(where, "no host is named, so that every host will do", "add hosts")
        if groups and protocol not in _WITH_REQUESTS:
            text = f"matches are about requests, which the mesh does not see in {protocol}"
            yield Violation(where, text, "write a policy of its own for this port")
