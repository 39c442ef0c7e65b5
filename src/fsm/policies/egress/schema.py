"""Egress, policy.flomesh.io v1alpha1: the shape.

In: the object's JSON. Out: pydantic models, and ``Egress``. ``sn`` and ``expiration`` of a source's
certificate are read and not heeded: the certificate itself says.

Source: fsm-interfaces section 2.6.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fsm.model.egress import Egress, EgressPort, EgressProtocol, EgressTls
from fsm.model.fields import JsonObject
from fsm.model.names import Key, ServiceAccount
from fsm.policies.ingress_backend.schema import is_address, is_host, is_network
from fsm.policies.strict import Name, PortNumber, Reading, Strict, fault, read

_PROTOCOLS = tuple(EgressProtocol)


def _host(value: str) -> str:
    host = value.lower()
    if is_host(host.removesuffix(".")) or is_address(host):
        return value
    hint = "write a name such as httpbin.org, without a scheme, a port or a path"
    raise fault(f"{value!r} is not the name of a host", hint)


def _network(value: str) -> str:
    if not is_network(value):
        hint = "write a range such as 10.0.0.0/8, or 10.1.2.3/32 for one address"
        raise fault(f"{value!r} is not a range of addresses", hint)
    return value


def _protocol(value: str) -> str:
    if value.lower() not in _PROTOCOLS:
        raise fault(f"{value!r} is not a protocol", f"one of {', '.join(_PROTOCOLS)}")
    return value


class SecretRef(Strict):
    """Where a certificate is."""

    name: Name
    namespace: Name


class Certificate(Strict):
    """A certificate that was made elsewhere."""

    sn: int | None = None
    subjectAltNames: list[str] | None = None
    expiration: str | None = None
    secret: SecretRef


class Mtls(Strict):
    """How the sidecar proves itself to the server."""

    issuer: Annotated[str, Field(min_length=1)]
    cert: Certificate | None = None


class Source(Strict):
    """Who is let out."""

    kind: Literal["ServiceAccount"]
    name: Name
    namespace: Name
    mtls: Mtls | None = None


class Port(Strict):
    """A port of the servers, and what is spoken there."""

    number: PortNumber
    protocol: Annotated[str, AfterValidator(_protocol)]


class Match(Strict):
    """Which requests, or how the servers may be called."""

    apiGroup: str | None = None
    kind: Literal["HTTPRouteGroup", "UpstreamTrafficSetting"]
    name: Name


class Body(Strict):
    """The policy."""

    sources: Annotated[list[Source], Field(min_length=1)]
    hosts: list[Annotated[str, AfterValidator(_host)]] | None = None
    ipAddresses: list[Annotated[str, AfterValidator(_network)]] | None = None
    ports: Annotated[list[Port], Field(min_length=1)]
    matches: list[Match] | None = None


def read_egress(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


OWN_ISSUERS = ("fsm", "osm")
"""What ``issuer`` says where the sidecar shows its own certificate of the mesh."""


def _tls(mtls: Mtls) -> EgressTls:
    cert = mtls.cert
    if mtls.issuer in OWN_ISSUERS or cert is None:
        return EgressTls()
    return EgressTls(
        secret=Key(cert.secret.namespace, cert.secret.name),
        names=tuple(cert.subjectAltNames or ()),
    )


def model(obj: JsonObject) -> Egress:
    """Return the dataclass of a valid object."""
    reading = read_egress(obj)
    assert reading.body is not None, "the object was validated"
    body = reading.body
    named: dict[str, list[str]] = {"HTTPRouteGroup": [], "UpstreamTrafficSetting": []}
    for match in body.matches or ():
        named[match.kind].append(match.name)
    return Egress(
        namespace=reading.key.namespace,
        name=reading.key.name,
        sources=tuple(dict.fromkeys(ServiceAccount(s.namespace, s.name) for s in body.sources)),
        ports=tuple(
            dict.fromkeys(
                EgressPort(port.number, EgressProtocol(port.protocol.lower()))
                for port in body.ports
            )
        ),
        hosts=tuple(dict.fromkeys(host.lower().rstrip(".") for host in body.hosts or ())),
        networks=tuple(
            dict.fromkeys(
                str(ipaddress.ip_network(text, strict=False)) for text in body.ipAddresses or ()
            )
        ),
        groups=tuple(dict.fromkeys(named["HTTPRouteGroup"])),
        settings=tuple(dict.fromkeys(named["UpstreamTrafficSetting"])),
        tls=tuple(
            (ServiceAccount(source.namespace, source.name), _tls(source.mtls))
            for source in body.sources
            if source.mtls is not None
        ),
        generation=reading.generation,
    )
