"""MeshRootCertificate: which root shall sign, and which shall be believed besides.

In: what ``fsm.policies.mesh_root_certificate`` parsed. Out: a typed value. Not here: the root
itself, which is in a Secret that only the controller reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fsm.model.names import PolicyObject


@dataclass(frozen=True, slots=True)
class MeshRootCertificate(PolicyObject):
    """One root that the mesh shall know."""

    trust_domain: str
    intent: Literal["active", "passive"]
    """Whether it shall sign, or only be believed."""
    provider: Literal["tresor", "vault", "certManager"]
    secret: str = ""
    """Name of the Secret with ``ca.crt`` and ``private.key``, in the mesh's namespace."""
