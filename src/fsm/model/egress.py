"""The policy that lets workloads out of the mesh.

In: what the ``schema.py`` of Egress parsed. Out: facts for the compiler. Invariants: frozen; host
names are lower case; networks are canonical.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fsm.model.names import PolicyObject, ServiceAccount


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
    encrypted_for: tuple[ServiceAccount, ...] = ()
    """Sources for which the sidecar shall speak TLS with a certificate of its own."""
