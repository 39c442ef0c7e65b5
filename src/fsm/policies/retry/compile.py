"""Retry: which requests of an identity to a Service are tried again.

In: the snapshot, who calls, who is called. Out: the policy that counts. Invariants: nothing
without ``featureFlags.enableRetryPolicy``; of several policies about the same call the first by
namespace and name is followed.
"""

from __future__ import annotations

from collections.abc import Mapping

from fsm.model.names import Key, ServiceAccount
from fsm.model.snapshot import Snapshot
from fsm.model.upstream import Retry
from fsm.policies.base import Judgement
from fsm.settings import Settings

FLAG = "enableRetryPolicy"


def retries_of(snapshot: Snapshot, account: ServiceAccount) -> Mapping[Key, Retry]:
    """Return the policies for the calls of an identity, by the Service that is called."""

    def find(snapshot: Snapshot) -> Mapping[Key, Retry]:
        if not snapshot.mesh.feature_flags.get(FLAG, False):
            return {}
        found: dict[Key, Retry] = {}
        for (kind, _), policy in snapshot.policies.items():
            if kind == "Retry" and policy.source == account and policy.retries_max:
                for service in policy.destinations:
                    found.setdefault(service, policy)
        return found

    return snapshot.once(("retries", account), find)


def judge(snapshot: Snapshot, policy: Retry, settings: Settings) -> Judgement:
    """Say whether the policy has an effect."""
    if not snapshot.mesh.feature_flags.get(FLAG, False):
        return Judgement("NotEnabled", (f"MeshConfig has not switched featureFlags.{FLAG} on",))
    if not policy.retries_max:
        return Judgement("NothingToDo", ("numRetries is 0",))
    messages = [
        f"Service {service} is not in the mesh"
        for service in policy.destinations
        if snapshot.service_in_mesh(service) is None
    ]
    followed = retries_of(snapshot, policy.source)
    rivals = sorted(
        {
            str(other.key)
            for service in policy.destinations
            if (other := followed.get(service)) is not None and other.key != policy.key
        }
    )
    conflict = f"Retry {rivals[0]} is about the same calls and is followed" if rivals else ""
    return Judgement("NotFound" if messages else "", tuple(messages), conflict)
