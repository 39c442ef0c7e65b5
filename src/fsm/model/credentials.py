"""Certificates that were made elsewhere, with their keys: what proxies show outside of the mesh.

In: what ``fsm.controllers.egress_secrets`` made of the Secrets that Egresses name. Out: facts for
the compiler. Invariants: frozen; whoever is not fit for use says why, and has no key; a key is in
no text that people see.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fsm.model import fields
from fsm.model.fields import JsonObject
from fsm.model.names import Key

KIND = "Credentials"
"""Under which they are in a snapshot; nobody writes objects of this kind."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one Secret holds."""

    key: Key
    """The name of the Secret."""
    fault: str = ""
    """Why it cannot be used; empty: it can."""
    chain: str = ""
    private_key: str = field(default="", repr=False)
    roots: str = ""
    """Certificates of which one must have signed the server's."""
    names: tuple[str, ...] = ()
    ends: str = ""
    """When the certificate ends, for people."""
    generation: int = 0


def credentials_from(obj: JsonObject) -> Credentials:
    """Read what ``fsm.controllers.egress_secrets`` writes."""
    metadata = fields.mapping(obj, "metadata")
    held = fields.mapping(obj, "credentials")
    return Credentials(
        key=Key(str(metadata["namespace"]), str(metadata["name"])),
        fault=str(held.get("fault", "")),
        chain=str(held.get("chain", "")),
        private_key=str(held.get("key", "")),
        roots=str(held.get("roots", "")),
        names=tuple(map(str, held.get("names", ()))),
        ends=str(held.get("ends", "")),
    )
