"""Jobs: Pods that run to their end, so many times, with so many failures allowed.

What comes in: Jobs and their Pods. What goes out: Pods created, status with the conditions Complete
or Failed; a Job with ``ttlSecondsAfterFinished`` deleted when that time is over.

Invariants: a finished Job is not touched again; retries wait 10 s, doubling up to 6 min.
Not done here: indexed completion, pod failure policies, suspend by deleting Pods.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import time
from typing import Any

from fsm.kube.resources import JOBS, PODS
from fsm.standalone.workloads.cluster import condition, is_active, is_ready
from fsm.standalone.workloads.controller import Retry
from fsm.standalone.workloads.owners import OwnerController
from fsm.standalone.workloads.pods import now_text, parse_time, pod_from

KubeObject = dict[str, Any]
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 10.0, 360.0


class Jobs(OwnerController):
    """Makes Pods for Jobs."""

    name = "jobs"
    owners = JOBS

    async def _reconcile(self, job: KubeObject) -> None:
        """Start Pods while more completions are needed; report; expire."""
        if (end := finished(job)) is not None:
            await self._expire(job, end)
            return
        spec = job["spec"]
        pods = self._cluster.owned(PODS, job["metadata"]["uid"])
        done = [p for p in pods if _phase(p) == "Succeeded"]
        failed = [p for p in pods if _phase(p) == "Failed"]
        active = [p for p in pods if is_active(p)]
        parallel = int(spec.get("parallelism", 1))
        wanted = spec.get("completions")
        limit = int(spec.get("backoffLimit", 6))
        complete = len(done) >= int(wanted) if wanted is not None else bool(done) and not active
        verdict: tuple[str, str, str] | None = None
        if complete:
            verdict = ("Complete", "CompletionsReached", "")
        elif len(failed) > limit:
            verdict = (
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            )
        elif self._overdue(job):
            verdict = (
                "Failed",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            )
        if verdict is not None:
            for pod in active:
                await self._cluster.delete(PODS, pod)
            await self._report(job, done, failed, [], verdict)
            return
        await self._report(job, done, failed, active, None)
        missing = parallel if wanted is None else min(parallel, int(wanted) - len(done))
        missing = 0 if wanted is None and done else missing - len(active)
        if spec.get("suspend") or missing <= 0:
            self._wait_for_deadline(job)
            return
        if failed:
            wait_s = backoff_s(len(failed), max(map(_ended_at, failed)), time.time())
            if wait_s > 0:
                raise Retry(wait_s)
        for _ in range(missing):
            pod = pod_from(JOBS, job, spec.get("template") or {})
            await self._cluster.create(PODS, pod, job["metadata"]["namespace"])
        self._wait_for_deadline(job)

    def _overdue(self, job: KubeObject) -> bool:
        left_s = _deadline_left_s(job)
        return left_s is not None and left_s <= 0

    def _wait_for_deadline(self, job: KubeObject) -> None:
        left_s = _deadline_left_s(job)
        if left_s is not None:
            raise Retry(max(0.1, left_s))

    async def _report(
        self,
        job: KubeObject,
        done: list[KubeObject],
        failed: list[KubeObject],
        active: list[KubeObject],
        verdict: tuple[str, str, str] | None,
    ) -> None:
        before = job.get("status") or {}
        now = now_text()
        status: KubeObject = {
            "active": len(active),
            "ready": sum(map(is_ready, active)),
            "succeeded": len(done),
            "failed": len(failed),
            "startTime": before.get("startTime") or now,
        }
        if verdict is not None:
            kind, reason, message = verdict
            status["conditions"] = [
                {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": message,
                    "lastProbeTime": now,
                    "lastTransitionTime": now,
                }
            ]
            if kind == "Complete":
                status["completionTime"] = now
        await self._cluster.put_status(JOBS, job, status)

    async def _expire(self, job: KubeObject, end: KubeObject) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return
        left_s = parse_time(end.get("lastTransitionTime")) + float(ttl) - time.time()
        if left_s > 0:
            raise Retry(left_s)
        await self._cluster.delete(JOBS, job)


def finished(job: KubeObject) -> KubeObject | None:
    """Return the condition by which a Job is finished, if it is."""
    for kind in ("Complete", "Failed"):
        found = condition(job, kind)
        if found and found.get("status") == "True":
            return found
    return None


def backoff_s(failures: int, last_end_s: float, now_s: float) -> float:
    """How long to wait before the Pod that follows ``failures`` failed ones."""
    grown: float = _FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10)
    return last_end_s + min(_LAST_BACKOFF_S, grown) - now_s


def _deadline_left_s(job: KubeObject) -> float | None:
    limit = job["spec"].get("activeDeadlineSeconds")
    start = (job.get("status") or {}).get("startTime")
    return parse_time(start) + float(limit) - time.time() if limit and start else None


def _ended_at(pod: KubeObject) -> float:
    ends = [
        parse_time(((s.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for s in (pod.get("status") or {}).get("containerStatuses") or []
    ]
    return max(ends, default=0.0)


def _phase(pod: KubeObject) -> str:
    return str((pod.get("status") or {}).get("phase") or "")
