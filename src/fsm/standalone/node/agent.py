"""The node agent: watches Pods and gives each a worker, keeps the Node ready, runs proxy and DNS.

    Pod without a node ──bind──► Pod of this node ──worker──► processes
    Pod deleted ──► its worker ends it        directory without a Pod ──► leftovers removed

What comes in: settings, the API, the sockets of the DNS. What goes out: everything that runs.

Invariants: one worker per Pod uid; a worker that fails by a bug is logged and begun again, and no
other Pod notices; SIGTERM ends the agent and leaves every container running (it comes back and
finds them), SIGUSR2 ends the Pods first (the box is being closed).
Not done here: scheduling among nodes (there is one), images (``images``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsm import __version__
from fsm.kube import AlreadyExists, ApiError, Informer, KubeClient, NotFound
from fsm.kube.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from fsm.standalone.box.settings import StandaloneSettings
from fsm.standalone.node import network
from fsm.standalone.node.dns_server import DnsServer
from fsm.standalone.node.events import Events, Happening
from fsm.standalone.node.images import Images
from fsm.standalone.node.pod_worker import Node, PodWorker
from fsm.standalone.node.records import load_pod
from fsm.standalone.node.runtime import Process, Runtime
from fsm.standalone.node.scheduling import why_not
from fsm.standalone.node.server import NodeServer
from fsm.standalone.node.service_proxy import ServiceProxy
from fsm.standalone.node.status import timestamp
from fsm.standalone.node.volumes import sweep_claims

KubeObject = dict[str, Any]
logger = logging.getLogger(__name__)

_HEARTBEAT_S = 10.0
_AGAIN_S = 1.0
_SWEEP_S = 60.0

#: UDP and TCP for each address of the cluster DNS.
DnsSockets = Sequence[tuple[socket.socket, socket.socket]]


class Agent:
    """The agent of the one node."""

    def __init__(self, settings: StandaloneSettings, client: KubeClient) -> None:
        files = [settings.state_dir / "images.yaml", settings.image_map]
        images = Images([path for path in files if path is not None])
        self._settings = settings
        self._client = client
        self._events = Events(client, settings.node_name)
        addresses = network.Addresses(settings.pod_cidr)
        self._node = Node(settings, client, addresses, images, self._events)
        self._pods = Informer(client, PODS)
        self._nodes = Informer(client, NODES)
        #: Pods that wait for the node, with why, as it was told last.
        self._kept_off: dict[str, str] = {}
        self._workers: dict[str, PodWorker] = {}
        self._look = asyncio.Event()
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()

    async def run(self, dns: DnsSockets) -> None:
        """Serve until cancelled, or until the Pods have ended after ``drain``."""
        settings = self._settings
        services = Informer(self._client, SERVICES)
        slices = Informer(self._client, ENDPOINTSLICES)
        proxy = ServiceProxy(services, slices, settings.service_networks)
        names = DnsServer(settings.cluster_domain, services, slices, settings.resolvers)
        serving = asyncio.Event()
        self._claim_addresses()
        self._pods.subscribe(lambda *_: self._look.set())
        self._nodes.subscribe(lambda *_: self._look.set())
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(services.run()),
                group.create_task(slices.run()),
                group.create_task(self._pods.run()),
                group.create_task(self._nodes.run()),
                group.create_task(proxy.run()),
                *(group.create_task(names.run(udp, tcp)) for udp, tcp in dns),
                group.create_task(self._server().run(settings.state_dir / "node.sock", serving)),
                group.create_task(self._heartbeat(serving)),
                group.create_task(self._follow(group)),
                group.create_task(self._events.run()),
                group.create_task(self._sweep()),
            ]
            await self._draining.wait()
            await self._end_pods()
            for task in tasks:
                task.cancel()

    def drain(self) -> None:
        """End all Pods, then the agent."""
        self._draining.set()
        self._look.set()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """Look up the worker of a Pod by its present name."""
        pod = self._pods.get(namespace, name)
        return self._workers.get(pod["metadata"]["uid"]) if pod else None

    def _server(self) -> NodeServer:
        def describe() -> list[dict[str, Any]]:
            return [worker.describe() for worker in self._workers.values()]

        return NodeServer(self.find, describe)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        await self._pods.synced.wait()
        await self._nodes.synced.wait()
        await self._remove_leftovers()
        self._look.set()
        while True:
            await self._look.wait()
            self._look.clear()
            if self._draining.is_set():
                return
            present = {}
            for pod in list(self._pods.store.values()):
                present[pod["metadata"]["uid"]] = pod
            for uid, pod in present.items():
                await self._see(group, uid, pod)
            for uid, worker in self._workers.items():
                if uid not in present:
                    worker.forget()
            for uid in self._kept_off.keys() - present.keys():
                del self._kept_off[uid]

    async def _see(self, group: asyncio.TaskGroup, uid: str, pod: KubeObject) -> None:
        wanted = pod["spec"].get("nodeName")
        if not wanted:
            if not pod["metadata"].get("deletionTimestamp") and not await self._keep_off(pod):
                await self._bind(pod)
            return
        if wanted != self._settings.node_name:
            return
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        self._workers[uid] = worker = PodWorker(self._node, pod)
        group.create_task(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        while True:
            try:
                await worker.run()
                break
            except Exception:
                logger.exception("the worker of a Pod failed", extra={"pod": worker.where})
                await asyncio.sleep(_AGAIN_S)
                worker = self._workers[worker.uid] = worker.again()
        del self._workers[worker.uid]
        if not self._workers:
            self._idle.set()
        # A Pod of the same uid cannot come back, but the informer may be behind: look again.
        self._look.set()

    async def _keep_off(self, pod: KubeObject) -> bool:
        """Tell a Pod why it has to wait for the node; returns whether it has to."""
        meta = pod["metadata"]
        why = why_not(pod, self._nodes.get("", self._settings.node_name))
        if not why:
            self._kept_off.pop(meta["uid"], None)
            return False
        if self._kept_off.get(meta["uid"]) != why:
            self._events.tell(pod, [Happening("Warning", "FailedScheduling", why)])
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": why,
                "lastTransitionTime": timestamp(time.time()),
            }
            status = {"phase": "Pending", "conditions": [condition]}
            try:
                await self._client.patch_status(PODS, meta["name"], status, meta["namespace"])
            except ApiError as error:
                logger.warning("cannot report", extra={"pod": meta["name"], "why": str(error)})
            self._kept_off[meta["uid"]] = why
        return True

    async def _bind(self, pod: KubeObject) -> None:
        meta = pod["metadata"]
        body = {"spec": {"nodeName": self._settings.node_name}}
        try:
            await self._client.patch(PODS, meta["name"], body, meta["namespace"])
            text = f"Successfully assigned {meta['namespace']}/{meta['name']} to" + (
                f" {self._settings.node_name}"
            )
            self._events.tell(pod, [Happening("Normal", "Scheduled", text)])
        except NotFound:
            return
        except ApiError as error:
            logger.warning("cannot bind", extra={"pod": meta["name"], "why": str(error)})
            asyncio.get_running_loop().call_later(_AGAIN_S, self._look.set)

    async def _end_pods(self) -> None:
        # What the supervisor grants us, less a moment to remove networks and directories.
        grace_s = max(1.0, self._settings.down_timeout_s - 3.0)
        logger.info("ending all Pods", extra={"pods": len(self._workers)})
        for worker in self._workers.values():
            worker.drain(grace_s)
        if self._workers:
            self._idle.clear()
            await self._idle.wait()

    def _claim_addresses(self) -> None:
        for directory in self._pod_dirs():
            if (record := load_pod(directory)) is not None and record.netns is not None:
                self._node.addresses.claim(record.ip)

    async def _remove_leftovers(self) -> None:
        """Remove what belongs to Pods that were deleted while no agent watched."""
        known = {pod["metadata"]["uid"] for pod in self._pods.store.values()}
        links = set()
        for directory in self._pod_dirs():
            record = load_pod(directory)
            if directory.name in known:
                if record is not None:
                    links.add(record.link)
                continue
            logger.info("removing leftovers", extra={"uid": directory.name})
            await _kill_containers(directory)
            if record is not None:
                await network.remove(network.PodNetwork(record.ip, record.netns, record.link))
                self._node.addresses.give_back(record.ip)
            shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(Path("/run/fsm/pods") / directory.name, ignore_errors=True)
        await network.remove_leftovers(links)

    def _pod_dirs(self) -> list[Path]:
        root = self._settings.state_dir / "pods"
        return sorted(root.iterdir()) if root.is_dir() else []

    async def _sweep(self) -> None:
        """Remove what is kept for objects that are gone, and events that are old."""
        while True:
            try:
                await sweep_claims(self._client, self._settings.state_dir / "claims")
                await self._events.forget_old(time.time())
            except ApiError as error:
                logger.warning("cannot sweep", extra={"why": str(error)})
            await asyncio.sleep(_SWEEP_S)

    async def _heartbeat(self, serving: asyncio.Event) -> None:
        """Register the Node, and say every few seconds that it is ready."""
        await serving.wait()
        await self._pods.synced.wait()
        wait_s = 0.05
        while True:
            try:
                await self._report_node()
                wait_s = _HEARTBEAT_S
            except ApiError as error:
                logger.warning("cannot report the node", extra={"why": str(error)})
                wait_s = min(max(0.1, wait_s * 2), _HEARTBEAT_S)
            await asyncio.sleep(wait_s)

    async def _report_node(self) -> None:
        name = self._settings.node_name
        known = self._nodes.get("", name) or {}
        status = node_status(self._settings, time.time(), known.get("status") or {})
        try:
            await self._client.patch_status(NODES, name, status)
        except NotFound:
            labels = {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _ARCH.get(platform.machine(), platform.machine()),
                "node-role.kubernetes.io/control-plane": "",
            }
            body = {"metadata": {"name": name, "labels": labels}, "spec": {}}
            with contextlib.suppress(AlreadyExists):
                await self._client.create(NODES, body)
            await self._client.patch_status(NODES, name, status)


_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def node_status(settings: StandaloneSettings, now: float, before: KubeObject) -> KubeObject:
    """Build the status of the Node; ``before`` is the present one."""
    stamp = timestamp(now)
    kernel = platform.release()
    info = {
        "architecture": _ARCH.get(platform.machine(), platform.machine()),
        "bootID": os.environ.get("FSM_BOX_ID", ""),
        "containerRuntimeVersion": f"fsm://{__version__}",
        "kernelVersion": kernel,
        "kubeProxyVersion": "",
        "kubeletVersion": f"v{__version__}",
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": "the host's own files",
        "systemUUID": "",
    }
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AgentReady",
        "message": "the node agent runs Pods",
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
    }
    for known in before.get("conditions") or []:
        if (known.get("type"), known.get("status")) == ("Ready", "True"):
            ready["lastTransitionTime"] = known.get("lastTransitionTime") or stamp
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(settings.state_dir).total
    room = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{pages * page // 1024}Ki",
        "ephemeral-storage": f"{disk // 1024}Ki",
        "pods": "1000",
    }
    return {
        "conditions": [ready],
        "addresses": [
            *({"type": "InternalIP", "address": ip} for ip in settings.node_ips),
            {"type": "Hostname", "address": settings.node_name},
        ],
        "capacity": room,
        "allocatable": room,
        "nodeInfo": info,
    }


async def _kill_containers(directory: Path) -> None:
    containers = directory / "containers"
    for path in sorted(containers.iterdir()) if containers.is_dir() else []:
        runtime = Runtime(path)
        found = runtime.find()
        if isinstance(found, Process):
            found.send(signal.SIGKILL)
            await runtime.wait(found)
            found.close()
