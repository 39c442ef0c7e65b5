"""MeshRootCertificate: what it comes to, for its status.

In: the snapshot. Out: a judgement. It changes no configuration itself: the controller's rotation of
the root does, and writes how far that is into ``status.state``.
"""

from __future__ import annotations

from fsm.model.root_certificate import MeshRootCertificate
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.settings import Settings


def judge(snapshot: Snapshot, root: MeshRootCertificate, settings: Settings) -> Judgement:
    """Say whether it has an effect."""
    if root.namespace != settings.fsm_namespace:
        text = f"roots of the mesh are looked for in namespace {settings.fsm_namespace} only"
        return Judgement("NoEffect", (text,))
    if root.provider != "tresor":
        return Judgement("NotSupported", (f"the provider {root.provider} is not supported yet",))
    return Judgement()
