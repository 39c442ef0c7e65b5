"""IngressBackend, policy.flomesh.io v1alpha1: the shape, which AccessControl shares.

In: the object's JSON. Out: pydantic models, and ``ExternalAccess``. A backend's clients speak TLS
where its protocol is ``https`` or it has a ``tls`` part; else plain text. ``udp`` is ours: it tells
the port for datagrams from the one for TCP with the same number.

Source: fsm-interfaces sections 2.8 and 2.9.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fsm.model.access import AccessBackend, ExternalAccess
from fsm.model.fields import JsonObject
from fsm.model.names import Key
from fsm.policies.strict import Name, PortNumber, Reading, Strict, fault, read

_LABEL = r"[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*")


def _server_name(value: str) -> str:
    if not is_host(value.lower()) or is_address(value):
        hint = "write a name such as shop.example.org, or *.example.org for one label or more"
        raise fault(f"{value!r} is not a server name", hint)
    return value


class Port(Strict):
    """The application's port, and what its clients speak."""

    number: PortNumber
    protocol: Literal["http", "https", "grpc", "tcp", "tcp-server-first", "udp"]


class Tls(Strict):
    """How clients prove who they are."""

    skipClientCertValidation: bool
    sniHosts: list[Annotated[str, AfterValidator(_server_name)]] | None = None


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


def is_host(text: str) -> bool:
    """Tell whether a text is the name of a host, lower case, or of all below one, ``*.``."""
    return _HOST.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Tell whether a text is an address, such as 10.1.2.3."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


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
                server_names=tuple(
                    dict.fromkeys(
                        name.lower() for name in (backend.tls and backend.tls.sniHosts) or ()
                    )
                ),
                udp=backend.port.protocol == "udp",
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
        matches=tuple(dict.fromkeys(match.name for match in body.matches or ())),
        generation=generation,
    )
