"""The status of a Pod, as Kubernetes shows it, from the states of its containers.

What comes in: the Pod, the state of each container, the addresses. What goes out: the ``status``
object. Pure: the same input gives the same output, so that an unchanged status is not sent again.

Invariants: a phase never goes back from Succeeded or Failed; a condition's time changes only when
its status does. Not done here: deciding anything.
Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fsm.standalone.node.records import ContainerState, Terminated

KubeObject = dict[str, Any]


def pod_status(
    pod: KubeObject,
    states: Mapping[str, ContainerState],
    *,
    ips: Sequence[str],
    node_ips: Sequence[str],
    started_at: float | None,
    problem: tuple[str, str] | None,
    now: float,
) -> KubeObject:
    """Build the status.

    Args:
        pod: the Pod; its present status gives the times of conditions that stay.
        states: of containers and init containers, by name; missing ones have not begun.
        ips: addresses of the Pod, empty before it has any.
        node_ips: addresses of the node.
        started_at: when the node took the Pod on, seconds since the epoch.
        problem: reason and message of what keeps the whole Pod from starting.
        now: seconds since the epoch.

    """
    spec, uid = pod["spec"], str(pod["metadata"].get("uid", ""))
    inits = list(spec.get("initContainers") or [])
    apps = list(spec.get("containers") or [])
    waiting = problem or ("PodInitializing" if inits else "ContainerCreating", "")
    phase = phase_of(pod, states)
    initialized = all(_init_done(c, states.get(c["name"])) for c in inits)
    ended = phase in ("Succeeded", "Failed")
    judged = [c for c in inits if is_sidecar(c)] + apps
    unready = [c["name"] for c in judged if not _ready(states.get(c["name"]))]
    ready = initialized and not unready and not ended
    why = ("PodCompleted", "") if phase == "Succeeded" else ("ContainersNotReady", "")
    if unready and not ended:
        why = (why[0], f"containers with unready status: [{' '.join(unready)}]")
    deleting = pod["metadata"].get("deletionTimestamp") is not None
    conditions = [
        _condition(pod, "PodReadyToStartContainers", bool(ips) and not ended, None, now),
        _condition(pod, "Initialized", initialized, ("ContainersNotInitialized", ""), now),
        _condition(pod, "Ready", ready, why, now),
        _condition(pod, "ContainersReady", ready, why, now),
        _condition(pod, "PodScheduled", True, None, now),
    ]
    own = {c["type"] for c in conditions}
    before = (pod.get("status") or {}).get("conditions") or []
    conditions += [c for c in before if c.get("type") not in own]
    status: KubeObject = {
        "phase": phase,
        "conditions": conditions,
        "hostIP": node_ips[0],
        "hostIPs": [{"ip": ip} for ip in node_ips],
        "qosClass": "BestEffort",
        "containerStatuses": [_container(uid, c, states.get(c["name"]), waiting) for c in apps],
    }
    if inits:
        status["initContainerStatuses"] = [
            _container(uid, c, states.get(c["name"]), waiting) for c in inits
        ]
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    if started_at is not None:
        status["startTime"] = timestamp(started_at)
    if problem and not deleting:
        status |= {"reason": problem[0], "message": problem[1]}
    return status


def phase_of(pod: KubeObject, states: Mapping[str, ContainerState]) -> str:
    """Compute the phase from restart policy and container states."""
    present = str((pod.get("status") or {}).get("phase") or "Pending")
    if present in ("Succeeded", "Failed"):
        return present
    spec = pod["spec"]
    inits = [c for c in spec.get("initContainers") or [] if not is_sidecar(c)]
    apps = [states.get(c["name"]) for c in spec.get("containers") or []]
    for init in inits:
        state = states.get(init["name"])
        if state is not None and state.terminated is not None and state.terminated.exit_code:
            return "Failed"
    done = [s.terminated for s in apps if s is not None and s.terminated is not None]
    if apps and len(done) == len(apps):
        return "Failed" if any(t.exit_code for t in done) else "Succeeded"
    begun = any(s is not None and (s.running_since or s.last or s.terminated) for s in apps)
    return "Running" if begun else "Pending"


def is_sidecar(container: KubeObject) -> bool:
    """Tell whether an init container is a native sidecar: it goes on running."""
    return container.get("restartPolicy") == "Always"


def timestamp(seconds: float) -> str:
    """Write a time as Kubernetes does: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _init_done(container: KubeObject, state: ContainerState | None) -> bool:
    if state is None:
        return False
    if is_sidecar(container):
        return state.started
    return state.terminated is not None and state.terminated.exit_code == 0


def _ready(state: ContainerState | None) -> bool:
    return state is not None and state.running_since is not None and state.ready


def _container(
    uid: str, container: KubeObject, state: ContainerState | None, waiting: tuple[str, str]
) -> KubeObject:
    # What has not begun says of the Pod why: with init containers it is being initialised.
    known = state or ContainerState(waiting=waiting)
    if known.waiting == ("ContainerCreating", "") and waiting[0] == "PodInitializing":
        known = replace(known, waiting=waiting)
    init_done = (
        container.get("restartPolicy") is None
        and known.terminated is not None
        and known.terminated.exit_code == 0
    )
    shown: KubeObject = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": str(container.get("image", "")),
        "ready": _ready(known) or init_done,
        "started": known.running_since is not None and known.started,
        "restartCount": known.restarts,
        "state": _state(known),
        "lastState": {"terminated": _terminated(known.last)} if known.last else {},
    }
    if known.running_since is not None or known.terminated is not None or known.restarts:
        shown["containerID"] = f"fsm://{uid}/{container['name']}/{known.restarts}"
    return shown


def _state(state: ContainerState) -> KubeObject:
    if state.terminated is not None:
        return {"terminated": _terminated(state.terminated)}
    if state.running_since is not None:
        return {"running": {"startedAt": timestamp(state.running_since)}}
    reason, message = state.waiting or ("ContainerCreating", "")
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def _terminated(end: Terminated) -> KubeObject:
    shown: KubeObject = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": timestamp(end.started_at),
        "finishedAt": timestamp(end.finished_at),
    }
    if end.signal is not None:
        shown["signal"] = end.signal
    if end.message:
        shown["message"] = end.message
    return shown


def _condition(
    pod: KubeObject, kind: str, good: bool, why: tuple[str, str] | None, now: float
) -> KubeObject:
    value = "True" if good else "False"
    made: KubeObject = {"type": kind, "status": value, "lastTransitionTime": timestamp(now)}
    if not good and why:
        made["reason"] = why[0]
        if why[1]:
            made["message"] = why[1]
    for before in (pod.get("status") or {}).get("conditions") or []:
        if before.get("type") == kind and before.get("status") == value:
            made["lastTransitionTime"] = before.get("lastTransitionTime") or timestamp(now)
    return made
