"""Whether the one node takes a Pod: not while it is cordoned, nor past a taint that keeps it out.

What comes in: a Pod without a node, and the Node. What goes out: why it has to wait, in a
scheduler's words, or "". Pure. Not done here: selectors and affinities, which would keep manifests
of larger clusters from running on the one node there is.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

from typing import Any

KubeObject = dict[str, Any]

_KEEPS_OUT = ("NoSchedule", "NoExecute")
_CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def why_not(pod: KubeObject, node: KubeObject | None) -> str:
    """Say why a Pod is not taken; "" when it is."""
    spec = (node or {}).get("spec") or {}
    tolerations = pod["spec"].get("tolerations") or []
    if spec.get("unschedulable") and not _tolerated(_CORDON, tolerations):
        return "0/1 nodes are available: 1 node(s) were unschedulable."
    for taint in spec.get("taints") or []:
        if taint.get("effect") in _KEEPS_OUT and not _tolerated(taint, tolerations):
            text = f"{taint.get('key')}: {taint.get('value') or ''}"
            return f"0/1 nodes are available: 1 node(s) had untolerated taint {{{text}}}."
    return ""


def _tolerated(taint: KubeObject, tolerations: list[KubeObject]) -> bool:
    return any(_tolerates(one, taint) for one in tolerations)


def _tolerates(toleration: KubeObject, taint: KubeObject) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    same = toleration["key"] == taint.get("key")
    return same and (exists or (toleration.get("value") or "") == (taint.get("value") or ""))
