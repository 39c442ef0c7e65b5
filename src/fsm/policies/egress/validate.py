"""Egress: what is wrong with one, and what is probably not meant.

In: the object's JSON. Out: all violations, or warnings. Not here: whether what it names exists.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm.model.fields import JsonObject
from fsm.policies.egress.schema import OWN_ISSUERS, Body, SecretRef, read_egress
from fsm.policies.ingress_backend.schema import is_address
from fsm.policies.strict import Reading, doubts_in, faults_in
from fsm.policies.violation import Violation
from fsm.settings import Settings

_WITH_REQUESTS = ("http", "grpc")
ROOT = "fsm-ca-bundle"


def validate(obj: JsonObject, settings: Settings) -> list[Violation]:
    """Return all faults."""
    return faults_in(read_egress(obj), settings, _faults)


def warnings(obj: JsonObject) -> list[Violation]:
    """Return what is allowed and probably not meant."""
    return doubts_in(read_egress(obj), _faults, _doubts)


def _faults(reading: Reading[Body], body: Body, mesh: Settings) -> Iterator[Violation]:
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
    yield from _credential_faults(reading, body, mesh)
    settings = 0
    for index, match in enumerate(body.matches or ()):
        settings += match.kind == "UpstreamTrafficSetting"
        if settings > 1:
            text = "is a second UpstreamTrafficSetting, and one policy has at most one"
            yield Violation(reading.at("matches", index), text)


def _credential_faults(reading: Reading[Body], body: Body, mesh: Settings) -> Iterator[Violation]:
    for index, source in enumerate(body.sources):
        if source.mtls is None or source.mtls.issuer in OWN_ISSUERS:
            continue
        if source.mtls.cert is None:
            text = f"is required, as the issuer {source.mtls.issuer!r} is not the mesh"
            yield Violation(reading.at("sources", index, "mtls", "cert"), text, "issuer: fsm?")
            continue
        where = reading.at("sources", index, "mtls", "cert", "secret")
        secret = source.mtls.cert.secret
        # Whoever may write in one namespace must not use the keys of another.
        if secret.namespace not in (reading.key.namespace, mesh.fsm_namespace):
            text = f"{secret.namespace!r} is neither the Egress's own namespace nor the mesh's"
            yield Violation(f"{where}.namespace", text, f"{reading.key.namespace}?")
        if secret == SecretRef(name=ROOT, namespace=mesh.fsm_namespace):
            yield Violation(where, "is the root of the mesh, which nobody shows")


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
        if protocol not in _WITH_REQUESTS and any(source.mtls for source in body.sources):
            text = f"is not opened for sources with mtls, whose sidecars speak TLS, not {protocol}"
            yield Violation(where, text, "write http for what the application speaks")
