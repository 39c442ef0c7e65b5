"""The policy that has a certificate made for a client outside of the mesh.

In: what the ``schema.py`` of AccessCert parsed. Out: facts for whoever issues it. Invariants:
frozen; DNS names are lower case, the first of the names comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from fsm.model.names import Key, PolicyObject


@dataclass(frozen=True, slots=True)
class AccessCert(PolicyObject):
    """A certificate that carries some names, and the Secret that it is kept in."""

    names: tuple[str, ...]
    """What the certificate shall carry: DNS names, addresses, URIs; the first is its common name
    too."""
    secret: Key
