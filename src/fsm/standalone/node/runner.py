"""One container through its life: start, probe, restart with back-off, stop.

    waiting ──start──► running ──ends──► terminated (final)
       ▲  └─ cannot start: wait, again      │ restart policy says so
       └────────── CrashLoopBackOff ◄───────┘

What comes in: a recipe (how to build the container's spec, anew each time) and the restart policy.
What goes out: ``state`` (what the Pod's status shows), and a call of ``changed`` when it differs.

Invariants: a container that runs already is adopted, not started again; cancelling ``run`` leaves
the container running (an agent that ends is not the end of Pods), only ``stop`` ends it; the first
restart comes at once, later ones after 10 s doubling to 5 min, forgiven after 10 min of running.
Not done here: the order among containers (``pod_worker``), the text of the status (``status``).
Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restarts
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from fsm.kube import ApiError
from fsm.standalone.node import probes
from fsm.standalone.node.environment import EnvironmentProblem
from fsm.standalone.node.images import UnknownImage
from fsm.standalone.node.records import ContainerState, Terminated, load, save
from fsm.standalone.node.runtime import Exit, Process, Runtime, StartError
from fsm.standalone.node.shim import ContainerSpec
from fsm.standalone.node.volumes import VolumeProblem

KubeObject = dict[str, Any]
Recipe = Callable[[], Awaitable[ContainerSpec]]

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 10.0
_LAST_BACKOFF_S = 300.0
_FORGIVEN_AFTER_S = 600.0
#: What a start that failed is tried again after, seconds: 0.5, 1, 2 … 30.
_RETRY_FIRST_S, _RETRY_LAST_S = 0.5, 30.0
#: LIMIT seconds that a postStart hook may take.
_HOOK_S = 60.0


def backoff_s(crashes: int) -> float:
    """Return the wait before the restart that follows the ``crashes``-th end in a row."""
    if crashes <= 1:
        return 0.0
    grown: float = _FIRST_BACKOFF_S * 2.0 ** min(crashes - 2, 10)
    return min(_LAST_BACKOFF_S, grown)


class Runner:
    """Runs one container of one Pod."""

    def __init__(
        self,
        container: KubeObject,
        runtime: Runtime,
        recipe: Recipe,
        restart: str,
        pod_ips: tuple[str, ...],
        changed: Callable[[], None],
    ) -> None:
        self.name = str(container["name"])
        self.container = container
        self.state: ContainerState = load(runtime.directory)
        self.up = asyncio.Event()
        self.finished = asyncio.Event()
        self.process: Process | None = None
        #: While it is being started, and set when that has come to an end, good or bad.
        self.starting = False
        self.started = asyncio.Event()
        self._runtime = runtime
        self._recipe = recipe
        self._restart = restart
        self._ips = pod_ips
        self._changed = changed
        self._stopping = False
        self._wake = asyncio.Event()
        self._retries = 0
        if self.state.terminated is not None:
            self.finished.set()

    async def run(self) -> None:
        """Run the container until it has ended for good (see ``finished``)."""
        if self.finished.is_set():
            return
        found = self._runtime.find()
        try:
            # One that runs must be ended even when `stop` came before this task began.
            while not self._stopping or isinstance(found, Process):
                if found is None:
                    found = await self._start()
                if isinstance(found, Process):
                    try:
                        found = await self._running(found)
                    finally:
                        # `found` may be replaced or not: what we hold is closed either way.
                        if self.process is not None:
                            self.process.close()
                            self.process = None
                if isinstance(found, Exit) and not await self._again(found):
                    break
                found = None
        finally:
            self._save()
        if self.state.terminated is None:
            self.state.waiting = self.state.waiting or ("ContainerCreating", "")
        self.finished.set()
        self._changed()

    async def stop(self, deadline_s: float) -> None:
        """End the container: preStop, SIGTERM, and at ``deadline_s`` (loop time) SIGKILL."""
        self._stopping = True
        self._wake.set()
        process = self.process
        if process is not None:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._pre_stop(process, deadline_s - loop.time())
            except TimeoutError:
                logger.warning("preStop took too long", extra={"container": self.name})
            process.send(signal.SIGTERM)
        # One that is being started right now sees `_stopping` as soon as it runs.
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.finished.wait()
        except TimeoutError:
            self.kill()
            await self.finished.wait()

    def kill(self) -> None:
        """End the container at once."""
        self._stopping = True
        self._wake.set()
        if self.process is not None:
            self.process.send(signal.SIGKILL)

    async def _start(self) -> Process | None:
        """Start the container; ``None`` after a failure that was waited out."""
        self.starting = True
        self.started.clear()
        try:
            spec = await self._recipe()
            if self._stopping:
                self._has_started()
                return None
            process = await self._runtime.start(spec)
        except (UnknownImage, EnvironmentProblem, VolumeProblem, StartError, ApiError) as error:
            self._has_started()
            await self._cannot_start(error)
            return None
        self._retries = 0
        return process

    def _has_started(self) -> None:
        self.starting = False
        self.started.set()

    async def _cannot_start(self, error: Exception) -> None:
        self._retries += 1
        text = str(error)
        if isinstance(error, UnknownImage):
            # As on a cluster: the first time the error, then the back-off, in turns.
            reason = "ErrImagePull" if self._retries % 2 else "ImagePullBackOff"
        elif isinstance(error, EnvironmentProblem):
            reason = "CreateContainerConfigError"
        elif isinstance(error, StartError):
            reason = "RunContainerError"
        else:
            reason = "ContainerCreating"
        self._wait_because(reason, text)
        wait_s = min(_RETRY_LAST_S, _RETRY_FIRST_S * 2.0 ** min(self._retries - 1, 10))
        if isinstance(error, StartError) and self._restart == "Never":
            now = time.time()
            self._end(Terminated(128, None, "StartError", now, now, text), final=True)
            self._stopping = True
            return
        await self._pause(wait_s)

    async def _running(self, process: Process) -> Exit:
        self.process = process
        self._has_started()
        if self._stopping:
            process.send(signal.SIGTERM)
        state = self.state
        # What was known of this very process stays true until a probe says otherwise: an agent
        # that comes back must not take Pods out of their Services.
        same = (state.started_pid, state.running_since) == (process.pid, process.started_at)
        state.waiting, state.terminated = None, None
        state.running_since = process.started_at
        state.started = same and state.started
        state.started_pid = process.pid
        if self.container.get("startupProbe") is None:
            state.started = True
        known_ready = self.container.get("readinessProbe") is None or (same and state.ready)
        state.ready = state.started and known_ready
        if state.started:
            self.up.set()
        self._save()
        self._changed()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._probe(process))
            post = group.create_task(self._post_start(process))
            end = await self._runtime.wait(process)
            watch.cancel()
            post.cancel()
        return end

    async def _again(self, end: Exit) -> bool:
        """Record an end; returns whether the container is to be started again."""
        state = self.state
        began = state.running_since or end.finished_at
        reason = "Completed" if end.code == 0 else "Error"
        done = Terminated(end.code, end.signal, reason, began, end.finished_at, "")
        if self._stopping:
            self._end(done, final=True)
            return False
        wanted = self._restart == "Always" or (self._restart == "OnFailure" and end.code != 0)
        if not wanted:
            self._end(done, final=True)
            return False
        # An agent that was restarted during the back-off meets the same end again.
        if state.last is None or state.last.finished_at != end.finished_at:
            lasted_s = end.finished_at - began
            state.crashes = 1 if lasted_s >= _FORGIVEN_AFTER_S else state.crashes + 1
            self._end(done, final=False)
        wait_s = backoff_s(state.crashes)
        if wait_s:
            text = f"back-off {wait_s:g}s restarting failed container={self.name}"
            self._wait_because("CrashLoopBackOff", text)
            # Whoever restarts the agent meanwhile must not make the container wait anew.
            await self._pause(max(0.0, end.finished_at + wait_s - time.time()))
        if self._stopping:
            self._end(done, final=True)
            return False
        state.restarts += 1
        return True

    def _end(self, done: Terminated, *, final: bool) -> None:
        state = self.state
        state.running_since, state.ready, state.started = None, False, False
        if final:
            state.terminated, state.waiting = done, None
        else:
            state.last = done
        self._save()
        self._changed()

    def _wait_because(self, reason: str, message: str) -> None:
        self.state.waiting = (reason, message)
        self.state.running_since = None
        self._changed()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _target(self, process: Process) -> probes.Target:
        async def run(argv: list[str], limit_s: float) -> tuple[int | None, str]:
            outcome = await self._runtime.run_inside(process, argv, limit_s)
            said = (outcome.stdout + outcome.stderr).decode(errors="replace").strip()
            return outcome.code, said[:1000]

        ports = {
            p["name"]: int(p["containerPort"])
            for p in self.container.get("ports") or []
            if "name" in p
        }
        return probes.Target(self._ips, ports, run)

    async def _probe(self, process: Process) -> None:
        target = self._target(process)
        if not self.state.started:
            await self._until_started(target, process)
        async with asyncio.TaskGroup() as group:
            if probe := self.container.get("readinessProbe"):
                group.create_task(probes.follow(probe, target, self._on_ready))
            if probe := self.container.get("livenessProbe"):
                report = self._on_dead("Liveness", process)
                group.create_task(probes.follow(probe, target, report))

    async def _until_started(self, target: probes.Target, process: Process) -> None:
        started = asyncio.Event()
        fail = self._on_dead("Startup", process)

        def report(good: bool, message: str) -> None:
            if good:
                started.set()
            else:
                fail(good, message)

        follow = asyncio.ensure_future(
            probes.follow(self.container["startupProbe"], target, report)
        )
        try:
            await started.wait()
        finally:
            follow.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follow
        self.state.started = True
        self.state.ready = self.container.get("readinessProbe") is None
        self.up.set()
        self._save()
        self._changed()

    def _on_ready(self, good: bool, message: str) -> None:
        if self.state.ready != good:
            self.state.ready = good
            if not good:
                logger.info("readiness lost", extra={"container": self.name, "why": message})
            self._save()
            self._changed()

    def _on_dead(self, kind: str, process: Process) -> Callable[[bool, str], None]:
        def report(good: bool, message: str) -> None:
            if good or self._stopping:
                return
            logger.warning(
                "probe failed, ending the container",
                extra={"container": self.name, "probe": kind, "why": message},
            )
            process.send(signal.SIGTERM)
            loop = asyncio.get_running_loop()
            # LIMIT 10 s: what an application that fails its probe gets to end by itself.
            loop.call_later(10.0, process.send, signal.SIGKILL)

        return report

    async def _post_start(self, process: Process) -> None:
        hook = (self.container.get("lifecycle") or {}).get("postStart") or {}
        good, why = await self._hook(hook, process, _HOOK_S)
        if not good:
            logger.warning("postStart failed", extra={"container": self.name, "why": why})
            process.send(signal.SIGKILL)

    async def _pre_stop(self, process: Process, limit_s: float) -> None:
        hook = (self.container.get("lifecycle") or {}).get("preStop") or {}
        good, why = await self._hook(hook, process, limit_s)
        if not good:
            # The container ends all the same.
            logger.warning("preStop failed", extra={"container": self.name, "why": why})

    async def _hook(self, hook: KubeObject, process: Process, limit_s: float) -> tuple[bool, str]:
        """Carry out a hook; returns whether it succeeded and, if not, why."""
        if action := hook.get("exec"):
            outcome = await self._runtime.run_inside(process, list(action["command"]), limit_s)
            return outcome.code == 0, f"exit code {outcome.code}"
        if action := hook.get("httpGet"):
            try:
                async with asyncio.timeout(limit_s):
                    return await probes.http(action, self._target(process))
            except (OSError, aiohttp.ClientError, ValueError) as error:
                return False, str(error) or f"no answer within {limit_s:g} s"
        if pause := hook.get("sleep"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(pause.get("seconds") or 0)):
                    await self.finished.wait()
        return True, ""

    def _save(self) -> None:
        save(self._runtime.directory, self.state)
