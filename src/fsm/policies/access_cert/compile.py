"""AccessCert: which certificates are to be there.

In: the snapshot. Out: the AccessCerts that are followed, and a ``Judgement`` of each. Invariants:
nothing without ``featureFlags.enableAccessCertPolicy``; of two that name one Secret the first by
name is followed. Not here: issuing, and whether that worked (``fsm.controllers.access_certs``).
"""

from __future__ import annotations

from fsm.model.access_cert import AccessCert
from fsm.model.names import Key
from fsm.model.snapshot import Snapshot
from fsm.policies.access_cert.gate import FLAG
from fsm.policies.base import Judgement
from fsm.settings import Settings

KIND = "AccessCert"


def followed(snapshot: Snapshot, settings: Settings) -> dict[Key, AccessCert]:
    """Return the AccessCerts that are followed, by the Secret that each is kept in."""
    found: dict[Key, AccessCert] = {}
    if not snapshot.mesh.feature_flags.get(FLAG, False):
        return found
    counted = (*snapshot.monitored, settings.fsm_namespace)
    for (kind, key), policy in snapshot.policies.items():
        if kind == KIND and key.namespace in counted:
            found.setdefault(policy.secret, policy)
    return found


def judge(snapshot: Snapshot, policy: AccessCert, settings: Settings) -> Judgement:
    """Say whether the policy is followed."""
    if not snapshot.mesh.feature_flags.get(FLAG, False):
        return Judgement("NotEnabled", (f"MeshConfig has not switched featureFlags.{FLAG} on",))
    if policy.secret.namespace not in snapshot.namespaces:
        text = f"there is no namespace {policy.secret.namespace} to keep the Secret in"
        return Judgement("NotFound", (text,))
    first = followed(snapshot, settings).get(policy.secret)
    if first is not None and first.key != policy.key:
        text = f"{KIND} {first.key} keeps its certificate in Secret {policy.secret} and is followed"
        return Judgement(conflict=text)
    return Judgement()
