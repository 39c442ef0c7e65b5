"""One Pod on this node, from its first sight to its removal.

    network, volumes ─► init containers, one by one (native sidecars: until started)
        ─► containers ─► all ended? native sidecars end, phase Succeeded or Failed
    deleted: containers end within the grace period, then native sidecars, last one first;
        network, volumes, directory removed; the API object removed

What comes in: the Pod as the API has it (``update``). What goes out: processes, and the status.

Invariants: every step looks first whether it was done before (by an agent that was killed), so the
same life can be begun again at any point; cancelling ``run`` leaves everything running; after
``run`` returned, nothing of the Pod is left on this machine.
Not done here: how a container is run (``runner``) and what it sees (``recipe``).
Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsm.kube import ApiError, Conflict, KubeClient, NotFound
from fsm.kube.resources import PODS
from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.node import network
from fsm.standalone.node.events import Events, Happening, between
from fsm.standalone.node.images import Images
from fsm.standalone.node.log_times import Clerk
from fsm.standalone.node.recipe import Recipes
from fsm.standalone.node.records import ContainerState, PodRecord, load, load_pod, save_pod
from fsm.standalone.node.runner import Runner
from fsm.standalone.node.runtime import Runtime
from fsm.standalone.node.status import is_sidecar, phase_of, pod_status
from fsm.standalone.node.volumes import PodVolumes, VolumeProblem

KubeObject = dict[str, Any]
logger = logging.getLogger(__name__)

_REFRESH_S = 20.0
#: How exact the times of log lines are.
_NOTE_S = 1.0
_DEFAULT_GRACE_S = 30
_SECRET_DIR = Path("/run/fsm/pods")
#: LIMIT 16 MiB per container log; beyond it the file begins anew.
_LOG_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """What all Pods of this node share."""

    settings: StandaloneSettings
    client: KubeClient
    addresses: network.Addresses
    images: Images
    events: Events

    def pod_dir(self, uid: str) -> Path:
        """Directory of a Pod's logs and records."""
        return self.settings.state_dir / "pods" / uid


class PodWorker:
    """Makes one Pod so, and keeps the API informed."""

    def __init__(self, node: Node, pod: KubeObject) -> None:
        self.pod = pod
        self.uid = str(pod["metadata"]["uid"])
        self.namespace = str(pod["metadata"]["namespace"])
        self.name = str(pod["metadata"]["name"])
        self.net: network.PodNetwork | None = None
        self.runners: dict[str, Runner] = {}
        self._node = node
        self._volumes: PodVolumes | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._dirty = asyncio.Event()
        self._gone = False
        self._grace_s: float | None = None
        self._problem: tuple[str, str] | None = None
        self._started_at: float | None = None
        self._sent: KubeObject | None = None
        if pod["metadata"].get("deletionTimestamp"):
            self._stop.set()

    def update(self, pod: KubeObject) -> None:
        """Take note of a newer version of the Pod."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._stop.set()

    def forget(self) -> None:
        """Take note that the API has the Pod no more: end it soon, report nothing."""
        self._gone = True
        self._stop.set()

    def drain(self, grace_s: float) -> None:
        """End the containers, as for a deletion, but leave the object in the API."""
        self._grace_s = min(grace_s, self._grace())
        self._gone = True
        self._stop.set()

    def again(self) -> PodWorker:
        """Make a worker that begins anew where this one failed; the containers go on running."""
        fresh = PodWorker(self._node, self.pod)
        fresh._gone, fresh._grace_s = self._gone, self._grace_s
        if self._stop.is_set():
            fresh._stop.set()
        return fresh

    @property
    def directory(self) -> Path:
        """Where logs and records of the Pod are."""
        return self._node.pod_dir(self.uid)

    @property
    def where(self) -> str:
        """Namespace and name, for messages."""
        return f"{self.namespace}/{self.name}"

    def describe(self) -> dict[str, Any]:
        """Describe what runs, for people who look for a fault."""
        processes = {n: r.process.pid for n, r in self.runners.items() if r.process}
        net = self.net
        return {
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "ip": net.ip if net else None,
            "ips": list(net.ips) if net else [],
            "netns": net.netns if net else None,
            "link": net.link if net else None,
            "processes": processes,
        }

    def log_of(self, container: str, *, previous: bool = False) -> Path:
        """Return where the log of a container is.

        Raises:
            KeyError: the Pod has no such container.

        """
        spec = self.pod["spec"]
        listed = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        if container not in {c["name"] for c in listed}:
            raise KeyError(container)
        return self.directory / f"{container}{'.previous' if previous else ''}.log"

    def done_of(self, container: str) -> asyncio.Event:
        """Return what is set when a container writes no more."""
        runner = self.runners.get(container)
        return runner.finished if runner else self._stop

    async def run(self) -> None:
        """Live the Pod's life; returns when nothing of it is left here."""
        async with asyncio.TaskGroup() as group:
            report = group.create_task(self._report())
            life = group.create_task(self._life(group))
            refresh = group.create_task(self._refresh())
            clerk = group.create_task(self._note_logs())
            await self._stop.wait()
            life.cancel()
            await asyncio.wait([life])
            await self._terminate(group)
            refresh.cancel()
            clerk.cancel()
            report.cancel()
        await self._remove()

    async def _life(self, group: asyncio.TaskGroup) -> None:
        """Bring the Pod up; its containers are tasks of ``group`` and outlive this one."""
        if phase_of(self.pod, {}) in ("Succeeded", "Failed"):
            return
        await self._sandbox()
        spec = self.pod["spec"]
        for container in spec.get("initContainers") or []:
            runner = self._begin(group, container, init=True)
            if is_sidecar(container):
                await runner.up.wait()
                continue
            await runner.finished.wait()
            end = runner.state.terminated
            if end is None or end.exit_code:
                await self._end_sidecars(time_left_s=_DEFAULT_GRACE_S)
                self._dirty.set()
                return
        apps = [self._begin(group, c, init=False) for c in spec.get("containers") or []]
        for runner in apps:
            await runner.finished.wait()
        await self._end_sidecars(time_left_s=_DEFAULT_GRACE_S)
        self._dirty.set()

    async def _sandbox(self) -> None:
        """Make network and volumes, or find those of before; tries until it works."""
        wait_s = 0.2
        while True:
            try:
                if self.net is None:
                    self.net = await self._network()
                if self._volumes is None:
                    self._volumes = self._new_volumes(self.net)
                await self._volumes.prepare(self.pod)
                self._problem = None
                self._dirty.set()
                return
            except network.NetworkError as error:
                self._problem = ("FailedCreatePodSandBox", str(error))
            except (VolumeProblem, ApiError, OSError) as error:
                self._problem = ("FailedMount", str(error))
            logger.warning("Pod waits", extra={"pod": self.where, "why": self._problem[1]})
            self._dirty.set()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 10.0)

    async def _network(self) -> network.PodNetwork:
        known = load_pod(self.directory)
        if known is not None and known.exists():
            self._started_at = known.started_at
            return network.PodNetwork(known.ip, known.netns, known.link, known.ip6)
        settings = self._node.settings
        if self.pod["spec"].get("hostNetwork"):
            made = network.PodNetwork(settings.node_ip, None, "", settings.node_ip6)
        else:
            ip = self._node.addresses.take()
            ips = tuple(filter(None, (ip, settings.pod_ip6(ip))))
            try:
                made = await network.create(
                    self.uid, self.namespace, self.name, ips, settings.node_ips
                )
            except BaseException:
                self._node.addresses.give_back(ip)
                raise
        self._started_at = time.time()
        record = PodRecord(
            self.uid,
            self.namespace,
            self.name,
            made.ip,
            made.netns,
            made.link,
            self._started_at,
            made.ip6,
        )
        save_pod(self.directory, record)
        return made

    def _new_volumes(self, net: network.PodNetwork) -> PodVolumes:
        return PodVolumes(
            self._node.client,
            _SECRET_DIR / self.uid,
            self.directory / "volumes",
            self._node.settings.state_dir / "claims",
            net.ips,
            self._node.settings.node_ips,
        )

    def _begin(self, group: asyncio.TaskGroup, container: KubeObject, *, init: bool) -> Runner:
        name = str(container["name"])
        assert self.net is not None
        assert self._volumes is not None
        policy = str(self.pod["spec"].get("restartPolicy") or "Always")
        if init:
            # A plain init container must succeed once; a native sidecar always comes back.
            policy = "Always" if is_sidecar(container) else policy
            policy = "OnFailure" if policy == "Always" and not is_sidecar(container) else policy
        recipes = Recipes(self._node.settings, self._node.images, self._volumes, self.net)
        runner = Runner(
            container,
            Runtime(self.directory / "containers" / name),
            lambda: recipes.build(self.pod, container, self.directory / f"{name}.log"),
            policy,
            self.net.ips,
            self._dirty.set,
        )
        self.runners[name] = runner
        self._tasks[name] = group.create_task(runner.run())
        return runner

    async def _terminate(self, group: asyncio.TaskGroup) -> None:
        """End all containers within the grace period: applications, then native sidecars."""
        grace_s = self._grace()
        for name, runner in self.runners.items():
            if runner.process is not None:
                text = f"Stopping container {name}"
                self._node.events.tell(self.pod, [Happening("Normal", "Killing", text, name)])
        if not self.runners:
            self._adopt_for_the_end(group)
        deadline_s = asyncio.get_running_loop().time() + grace_s
        sidecars = self._sidecar_names()
        apps = [r for r in self.runners.values() if r.name not in sidecars]
        await asyncio.gather(*(runner.stop(deadline_s) for runner in apps))
        await self._end_sidecars(deadline_s - asyncio.get_running_loop().time())

    def _adopt_for_the_end(self, group: asyncio.TaskGroup) -> None:
        """Take on what an agent before us started, when the first we see is its deletion."""
        known = load_pod(self.directory)
        if known is None:
            return
        self.net = self.net or network.PodNetwork(known.ip, known.netns, known.link, known.ip6)
        self._volumes = self._volumes or self._new_volumes(self.net)
        spec = self.pod["spec"]
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            if (self.directory / "containers" / container["name"] / "process.json").exists():
                self._begin(group, container, init=False)

    async def _end_sidecars(self, time_left_s: float) -> None:
        names = [name for name in reversed(self._sidecar_names()) if name in self.runners]
        # Sidecars get their word even when the applications used up the whole period.
        deadline_s = asyncio.get_running_loop().time() + max(2.0, time_left_s)
        for name in names:
            await self.runners[name].stop(deadline_s)

    def _sidecar_names(self) -> list[str]:
        inits = self.pod["spec"].get("initContainers") or []
        return [str(c["name"]) for c in inits if is_sidecar(c)]

    def _grace(self) -> float:
        if self._grace_s is not None:
            return self._grace_s
        if self._gone:
            # Removed by force: the object is gone, and its successor may be waiting.
            return 1.0
        meta, spec = self.pod["metadata"], self.pod["spec"]
        for value in (
            meta.get("deletionGracePeriodSeconds"),
            spec.get("terminationGracePeriodSeconds"),
        ):
            if value is not None:
                return float(value)
        return float(_DEFAULT_GRACE_S)

    async def _remove(self) -> None:
        """Remove every trace on this machine, then tell the API that the Pod is gone."""
        known = load_pod(self.directory)
        if self.net is None and known is not None:
            self.net = network.PodNetwork(known.ip, known.netns, known.link)
        # Also when we never got as far as having one: an attempt may have left half of it.
        net = self.net or network.expected(self.uid, self.namespace, self.name)
        await network.remove(net)
        if net.netns is not None:
            self._node.addresses.give_back(net.ip)
        if self._volumes is not None:
            self._volumes.remove()
        shutil.rmtree(_SECRET_DIR / self.uid, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        wait_s = 0.1
        while not self._gone:
            try:
                await self._node.client.delete(
                    PODS, self.name, self.namespace, grace_seconds=0, uid=self.uid
                )
                return
            except (NotFound, Conflict):
                return
            except ApiError as error:
                logger.warning("cannot remove Pod", extra={"pod": self.where, "why": str(error)})
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)

    async def _report(self) -> None:
        """Send the status whenever it differs from what was sent last."""
        wait_s = 0.1
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if self._gone:
                continue
            status = self.status(time.time())
            if status == self._sent:
                continue
            try:
                await self._node.client.patch_status(PODS, self.name, status, self.namespace)
                before = self._sent or self.pod.get("status") or {}
                self._node.events.tell(self.pod, between(before, status))
                self._sent, wait_s = status, 0.1
            except NotFound:
                continue
            except ApiError as error:
                logger.warning("cannot report", extra={"pod": self.where, "why": str(error)})
                self._dirty.set()
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)

    def status(self, now: float) -> KubeObject:
        """Build the Pod's status as it is now."""
        sent = self._sent or self.pod.get("status") or {}
        return pod_status(
            self.pod | {"status": sent},
            self._states(),
            ips=self.net.ips if self.net else (),
            node_ips=self._node.settings.node_ips,
            started_at=self._started_at,
            problem=self._problem,
            now=now,
        )

    def _states(self) -> dict[str, ContainerState]:
        """Collect what is known of each container, also of those that are yet to be adopted."""
        spec = self.pod["spec"]
        states = {}
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            name = str(container["name"])
            runner = self.runners.get(name)
            states[name] = runner.state if runner else load(self.directory / "containers" / name)
        return states

    async def _note_logs(self) -> None:
        """Keep the times of log lines."""
        clerk = Clerk()
        while True:
            for name in self.runners:
                clerk.note(self.directory / f"{name}.log", time.time())
            await asyncio.sleep(_NOTE_S)

    async def _refresh(self) -> None:
        """Keep the files of volumes current, tokens valid, and logs bounded."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            for name in self.runners:
                _bound(self.directory / f"{name}.log")
            if self._volumes is None:
                continue
            try:
                await self._volumes.refresh(self.pod)
            except (VolumeProblem, ApiError, OSError) as error:
                # What was written before stays valid; the next round tries again.
                logger.warning("volume not renewed", extra={"pod": self.where, "why": str(error)})


def _bound(log: Path) -> None:
    try:
        if log.stat().st_size > _LOG_BYTES_MAX:
            # Containers write with O_APPEND: cutting the file is safe while they do.
            with open(log, "r+b") as file:
                file.truncate(0)
    except OSError:
        return
