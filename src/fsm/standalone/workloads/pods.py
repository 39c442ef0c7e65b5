"""Pods from templates: what ReplicaSets, StatefulSets and Jobs have in common.

What comes in: an owner and its Pod template. What goes out: Pod objects, and how long until a Pod
counts as available. Pure. Invariant: a Pod gets the template as it is, plus the owner reference.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from fsm.kube.resources import Resource
from fsm.standalone.workloads.cluster import condition, is_ready, owner_reference

KubeObject = dict[str, Any]


def pod_from(
    res: Resource, owner: KubeObject, template: KubeObject, name: str | None = None
) -> KubeObject:
    """Build a Pod; without a ``name`` the API makes one up from the owner's."""
    meta = template.get("metadata") or {}
    made: KubeObject = {
        "labels": dict(meta.get("labels") or {}),
        "annotations": dict(meta.get("annotations") or {}),
        "ownerReferences": [owner_reference(res, owner)],
    }
    if name is None:
        made["generateName"] = owner["metadata"]["name"] + "-"
    else:
        made["name"] = name
    return {"metadata": made, "spec": copy.deepcopy(template.get("spec") or {})}


def parse_time(text: str | None) -> float:
    """Read an RFC 3339 time; seconds since the epoch, 0 when there is none."""
    if not text:
        return 0.0
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def now_text() -> str:
    """Write the present time as Kubernetes does."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def available_in_s(pod: KubeObject, min_ready_s: float, now_s: float) -> float | None:
    """How long until a Pod counts as available: 0 if it does, ``None`` if it is not ready."""
    if not is_ready(pod):
        return None
    since = parse_time((condition(pod, "Ready") or {}).get("lastTransitionTime"))
    return max(0.0, since + min_ready_s - now_s) if min_ready_s else 0.0
