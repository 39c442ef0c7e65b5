"""IngressBackend, policy.flomesh.io v1alpha1: the shape, which AccessControl shares.

In: the object's JSON. Out: pydantic models, and ``ExternalAccess``. A backend's clients speak TLS
where its protocol is ``https`` or it has a ``tls`` part; else plain text.

Source: fsm-interfaces sections 2.8 and 2.9.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field

from fsm.model.access import AccessBackend, ExternalAccess
from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.policies.strict import Name, PortNumber, Reading, Strict, read


class Port(Strict):
    """The application's port, and what its clients speak."""

    number: PortNumber
    protocol: Literal["http", "https", "grpc", "tcp", "tcp-server-first"]


class Tls(Strict):
    """How clients prove who they are."""

    skipClientCertValidation: bool
    sniHosts: list[str] | None = None


class Backend(Strict):
    """What is opened."""

    name: Name
    port: Port
    tls: Tls | None = None


class Source(Strict):
    """For whom."""

    kind: Literal["Service", "AuthenticatedPrincipal", "IPRange"]
    name: Annotated[str, Field(min_length=1)]
    namespace: Name | None = None


class Match(Strict):
    """Which requests."""

    apiGroup: str | None = None
    kind: Literal["HTTPRouteGroup"]
    name: Name


class Clients(Strict):
    """What both kinds say of clients."""

    sources: Annotated[list[Source], Field(min_length=1)]
    matches: list[Match] | None = None


class Body(Clients):
    """The policy."""

    backends: Annotated[list[Backend], Field(min_length=1)]


def read_backend(obj: JsonObject) -> Reading[Body]:
    """Read the object."""
    return read(obj, Body)


def is_network(text: str) -> bool:
    """Tell whether a text is a network, such as 10.0.0.0/8."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def model(obj: JsonObject) -> ExternalAccess:
    """Return the dataclass of a valid object."""
    reading = read_backend(obj)
    assert reading.body is not None, "the object was validated"
    body = reading.body
    return access("IngressBackend", reading.key, reading.generation, body, body.backends)


def access(
    kind: str,
    key: Key,
    generation: int,
    body: Clients,
    backends: list[Backend],
) -> ExternalAccess:
    """Return the dataclass of a body of either kind."""
    by_kind: dict[str, list[Source]] = {}
    for source in body.sources:
        by_kind.setdefault(source.kind, []).append(source)
    return ExternalAccess(
        kind=kind,
        namespace=key.namespace,
        name=key.name,
        backends=tuple(
            AccessBackend(
                service=Key(key.namespace, backend.name),
                port=backend.port.number,
                tls=backend.port.protocol == "https" or backend.tls is not None,
                certificate=backend.tls is None or not backend.tls.skipClientCertValidation,
                server_names=tuple((backend.tls.sniHosts or ()) if backend.tls else ()),
            )
            for backend in backends
        ),
        services=tuple(
            dict.fromkeys(Key(s.namespace or "", s.name) for s in by_kind.get("Service", ()))
        ),
        networks=tuple(
            dict.fromkeys(
                str(ipaddress.ip_network(s.name, strict=False)) for s in by_kind.get("IPRange", ())
            )
        ),
        principals=tuple(dict.fromkeys(s.name for s in by_kind.get("AuthenticatedPrincipal", ()))),
        matches=tuple(match.name for match in body.matches or ()),
        generation=generation,
    )
