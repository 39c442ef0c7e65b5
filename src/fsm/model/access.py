"""Policies that let clients in which are no members of the mesh.

In: what the ``schema.py`` of IngressBackend and AccessControl parsed. Out: facts for the compiler.
Invariants: frozen; names of other objects are complete; networks are canonical.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key, origin


@dataclass(frozen=True, slots=True)
class AccessBackend:
    """A port that is opened."""

    service: Key
    port: int
    """The application's own port, which is the Service's target port."""
    tls: bool = False
    """Whether clients speak TLS to the sidecar."""
    certificate: bool = True
    """With TLS: whether they must show a certificate of the mesh's authority."""
    server_names: tuple[str, ...] = ()
    """With TLS: names of which they must ask for one, lower case; empty: any, or none."""
    udp: bool = False
    """Whether it is the port for datagrams, beside which there may be one for TCP."""


@dataclass(frozen=True, slots=True)
class ExternalAccess:
    """One IngressBackend or AccessControl."""

    kind: str
    namespace: str
    name: str
    backends: tuple[AccessBackend, ...] = ()
    """Empty: every port of every Service of the namespace, in plain text, UDP as well."""
    services: tuple[Key, ...] = ()
    """Services whose endpoints are the clients."""
    networks: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    """HTTPRouteGroups of its namespace that bound which requests are let in; empty: all."""
    generation: int = 0

    @property
    def key(self) -> Key:
        """Its name within its kind."""
        return Key(self.namespace, self.name)

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return origin(self.kind, self.namespace, self.name)
