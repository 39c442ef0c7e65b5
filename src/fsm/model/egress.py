"""The policy that lets workloads out of the mesh.

In: what the ``schema.py`` of Egress parsed. Out: facts for the compiler. Invariants: frozen; host
names are lower case; networks are canonical.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fsm.model.names import Key, PolicyObject, ServiceAccount


class EgressProtocol(StrEnum):
    """What is spoken with a server outside of the mesh."""

    HTTP = "http"
    GRPC = "grpc"
    HTTPS = "https"
    """TLS that the application itself speaks; its server name is looked at."""
    TCP = "tcp"
    TCP_SERVER_FIRST = "tcp-server-first"


@dataclass(frozen=True, slots=True)
class EgressPort:
    """A port of the servers."""

    number: int
    protocol: EgressProtocol


@dataclass(frozen=True, slots=True)
class EgressTls:
    """What a sidecar proves itself with to servers outside of the mesh."""

    secret: Key | None = None
    """The Secret with the certificate; None: the sidecar's own of the mesh."""
    names: tuple[str, ...] = ()
    """Names that the certificate is said to carry."""


@dataclass(frozen=True, slots=True)
class Egress(PolicyObject):
    """Lets some identities reach some servers outside of the mesh."""

    sources: tuple[ServiceAccount, ...]
    ports: tuple[EgressPort, ...]
    hosts: tuple[str, ...] = ()
    """Empty: every host."""
    networks: tuple[str, ...] = ()
    """Empty: every address."""
    groups: tuple[str, ...] = ()
    """HTTPRouteGroups of its namespace that bound the requests; empty: all requests."""
    settings: tuple[str, ...] = ()
    """UpstreamTrafficSettings of its namespace."""
    tls: tuple[tuple[ServiceAccount, EgressTls], ...] = ()
    """Sources for which the sidecar shall speak TLS to the servers, and what it shows there."""

    def tls_of(self, account: ServiceAccount) -> EgressTls | None:
        """Return what the sidecar of a source shows; None: it speaks no TLS itself."""
        return next((tls for source, tls in self.tls if source == account), None)
