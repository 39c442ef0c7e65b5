"""One word for the state of a Pod, as ``kubectl get pods`` shows it.

What comes in: a Pod. What goes out: the reason (``Running``, ``Init:1/2``, ``CrashLoopBackOff``,
``Terminating``…), how many containers are ready, and the restarts.

Invariants: pure; a Pod without status is ``Pending`` or what its phase says; native sidecars (init
containers that restart always) count as containers.
Source: the output of kubectl 1.32, and
https://kubernetes.io/docs/tasks/debug/debug-application/debug-init-containers/#understanding-pod-status
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(slots=True)
class PodState:
    """What is shown of a Pod."""

    reason: str
    total: int
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    @property
    def ready_text(self) -> str:
        """Ready containers of all."""
        return f"{self.ready}/{self.total}"

    def count(self, status: Json) -> None:
        """Add the restarts of a container."""
        self.restarts += status.get("restartCount") or 0
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, ended)


def pod_state(pod: Json) -> PodState:
    """Work out what to show of a Pod."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {
        c.get("name")
        for c in spec.get("initContainers") or []
        if c.get("restartPolicy") == "Always"
    }
    phase = status.get("phase") or "Pending"
    state = PodState(
        status.get("reason") or phase, len(spec.get("containers") or []) + len(sidecars)
    )
    initializing = _init(state, spec, status, sidecars)
    if not initializing:
        _main(state, status)
    if (pod.get("metadata") or {}).get("deletionTimestamp") and phase not in (
        "Succeeded",
        "Failed",
    ):
        state.reason = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return state


def _init(state: PodState, spec: Json, status: Json, sidecars: set[Any]) -> bool:
    """Follow the init containers; tell whether one of them is what the Pod waits for."""
    total = len(spec.get("initContainers") or [])
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        state.count(container)
        current = container.get("state") or {}
        ended, waiting = current.get("terminated"), current.get("waiting") or {}
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if container.get("name") in sidecars and container.get("started"):
            state.ready += bool(container.get("ready"))
            continue
        if ended is not None:
            state.reason = f"Init:{_ended(ended)}"
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            state.reason = f"Init:{waiting['reason']}"
        else:
            state.reason = f"Init:{index}/{total}"
        return True
    return False


def _main(state: PodState, status: Json) -> None:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state.count(container)
        current = container.get("state") or {}
        if (current.get("waiting") or {}).get("reason"):
            state.reason = current["waiting"]["reason"]
        elif current.get("terminated") is not None:
            state.reason = _ended(current["terminated"])
        elif container.get("ready") and current.get("running") is not None:
            running = True
            state.ready += 1
    if state.reason == "Completed" and running:
        ready = any(
            c.get("type") == "Ready" and c.get("status") == "True"
            for c in status.get("conditions") or []
        )
        state.reason = "Running" if ready else "NotReady"


def _ended(terminated: Json) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
