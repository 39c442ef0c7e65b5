"""ControllerRevisions: the Pod templates that a StatefulSet has had, by number.

What comes in: a StatefulSet and the revisions that it owns. What goes out: a revision for each
template, in the form that `kubectl rollout history` and `undo` read: a strategic merge patch that
brings the template back.

Invariants: one revision per template; the one in use has the highest number, also after a rollback;
beyond the history limit the oldest go, but none that a Pod still runs.
Not done here: carrying a template out (``statefulsets``).
Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#revision-history
"""

from __future__ import annotations

from typing import Any

from fsm.kube import AlreadyExists
from fsm.kube.resources import CONTROLLERREVISIONS, STATEFULSETS
from fsm.standalone.workloads.cluster import Cluster, is_going, owner_reference
from fsm.standalone.workloads.controller import Retry

KubeObject = dict[str, Any]
LABEL = "controller-revision-hash"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HISTORY = 10


async def keep(cluster: Cluster, owner: KubeObject, name: str, in_use: set[str]) -> None:
    """Have the history of a StatefulSet end with its present template.

    Args:
        cluster: the API.
        owner: the StatefulSet.
        name: of the present template's revision.
        in_use: names of revisions that Pods run.

    """
    owned = cluster.owned(CONTROLLERREVISIONS, owner["metadata"]["uid"])
    owned = [revision for revision in owned if not is_going(revision)]
    mine = next((found for found in owned if found["metadata"]["name"] == name), None)
    last = max((_number(found) for found in owned if found is not mine), default=0)
    told = _told(owner)
    if mine is None:
        await _create(cluster, owner, name, last + 1, told)
    else:
        number = max(_number(mine), last + 1)
        known = mine["metadata"].get("annotations") or {}
        if number != _number(mine) or not told.items() <= known.items():
            body = {"metadata": {"annotations": told}, "revision": number}
            await cluster.patch(CONTROLLERREVISIONS, mine, body)
    limit = owner["spec"].get("revisionHistoryLimit")
    kept = _HISTORY if limit is None else int(limit)
    old = [found for found in owned if found["metadata"]["name"] not in {name, *in_use}]
    old.sort(key=_number)
    for revision in old[: max(0, len(old) - kept)]:
        await cluster.delete(CONTROLLERREVISIONS, revision)


async def _create(
    cluster: Cluster, owner: KubeObject, name: str, number: int, told: dict[str, str]
) -> None:
    template = owner["spec"].get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    body = {
        "metadata": {
            "name": name,
            "labels": {**labels, LABEL: name},
            "annotations": told,
            "ownerReferences": [owner_reference(STATEFULSETS, owner)],
        },
        "data": {"spec": {"template": {"$patch": "replace", **template}}},
        "revision": number,
    }
    try:
        await cluster.create(CONTROLLERREVISIONS, body, owner["metadata"]["namespace"])
    except AlreadyExists:
        # Of a StatefulSet of the same name that was deleted a moment ago.
        raise Retry(0.5) from None


def _told(owner: KubeObject) -> dict[str, str]:
    annotations = owner["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if key != _LAST_APPLIED}


def _number(revision: KubeObject) -> int:
    return int(revision.get("revision") or 0)
