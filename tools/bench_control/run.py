"""One run: a mesh of one size, a controller, a fleet, and changes one after the other.

In: a mesh. Out: ``Result``. What is measured, and how:

- time to applied: from the write into the API until the proxy has read its new configuration,
  by one clock, over all proxies of all changes of a kind;
- CPU of a change: of the controller process, from the write until all is quiet again, statuses
  written included;
- memory: of the controller process, resident, with all proxies connected.

Invariants: at the end every proxy that is looked at (all, if not told otherwise) holds the version
that a compilation from nothing comes to, or the run fails: fast and wrong is no result.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

from fsm.compile import KINDS, build_snapshot, compile_proxy
from fsm.kube import Resource
from fsm.kube.resources import (
    ENDPOINTSLICES,
    HTTPROUTEGROUPS,
    MESHCONFIGS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    TCPROUTES,
    TRAFFICSPLITS,
    TRAFFICTARGETS,
)
from fsm.settings import Settings
from tools.bench_control.api import Api
from tools.bench_control.mesh import Json, Mesh
from tools.bench_control.process import Failed, Process, started

FLEETS = 2
QUIET_S = 0.3
START_S, CHANGE_S = 120.0, 60.0
_LISTENING = re.compile(r"(certificates|health).*address=[^:]*:(\d+)")
_RESOURCES = (
    NAMESPACES,
    PODS,
    SERVICES,
    ENDPOINTSLICES,
    TRAFFICTARGETS,
    HTTPROUTEGROUPS,
    TCPROUTES,
    TRAFFICSPLITS,
    MESHCONFIGS,
)


@dataclass(frozen=True, slots=True)
class Change:
    """Changes of one kind.

    Attributes:
        kind: what was changed.
        proxies: how many proxies each changed, on average.
        applied_s: for every proxy of every change, seconds from the write.
        cpu_s: of the controller, per change.
    """

    kind: str
    proxies: float
    applied_s: list[float]
    cpu_s: float


@dataclass(slots=True)
class Result:
    """What one run measured."""

    services: int
    proxies: int
    permissive: bool
    start_s: float = 0.0
    start_cpu_s: float = 0.0
    rss_mb: float = 0.0
    peak_mb: float = 0.0
    nothing_s: float = 0.0
    """CPU seconds to compile everything from nothing, in one process without the rest."""
    bytes_mean: float = 0.0
    """Bytes of a configuration, on average."""
    changes: list[Change] = field(default_factory=list)


class Run:
    """The processes of a run and what is heard of them; ``measure`` is all there is to call."""

    def __init__(self, mesh: Mesh, checked: int | None = None) -> None:
        """Prepare it.

        Args:
            mesh: what is measured.
            checked: how many proxies' configurations are compiled from nothing and compared at the
                end; None: all.
        """
        self._mesh = mesh
        self._checked = checked
        self._api = Api()
        self._result = Result(mesh.services, mesh.proxies, mesh.permissive)
        self._ports: dict[str, int] = {}
        self._ready = asyncio.Event()
        self._versions: dict[int, str] = {}
        self._heard: list[tuple[int, float]] = []
        self._last = 0.0
        self._processes: list[Process] = []

    async def measure(self, changes: int) -> Result:
        """Do it all.

        Args:
            changes: how many TrafficTargets are changed; of other kinds it is a quarter.

        Raises:
            Failed: a process ended, or a proxy holds what it should not.
            TimeoutError: something took longer than any sensible result.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            async with self._world() as controller:
                await self._connect(controller)
                await self._change(controller, changes)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self._check()
        return self._result

    @contextlib.asynccontextmanager
    async def _world(self) -> AsyncIterator[Process]:
        for res, obj in self._mesh.objects():
            self._api.put(res, obj)
        await self._api.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._api.stop)
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = directory / "kubeconfig"
            config.write_text(_KUBECONFIG % self._api.port)
            controller = await stack.enter_async_context(
                started("controller", "tools.bench_control.controller", KUBECONFIG=str(config))
            )
            self._processes.append(controller)
            tasks = await stack.enter_async_context(_cancelled_at_the_end())
            tasks(controller.lines(self._on_log, errors=True))
            await self._until(self._ready.is_set, START_S)
            for number in range(FLEETS):
                fleet = await stack.enter_async_context(
                    started(f"fleet {number}", "tools.bench_control.fleet")
                )
                self._processes.append(fleet)
                tasks(fleet.lines(self._on_applied))
                tasks(fleet.lines(lambda line: None, errors=True))
            yield controller

    async def _connect(self, controller: Process) -> None:
        secret = self._api.get(SECRETS, "fsm-system", "fsm-ca-bundle")
        assert secret is not None, "a controller that is ready has made its root"
        roots = _decoded(secret["data"]["ca.crt"])
        fleets = self._processes[1:]
        begun, cpu = time.monotonic(), controller.cpu_s()
        for number, fleet in enumerate(fleets):
            pods = [
                {
                    "index": index,
                    "namespace": pod["metadata"]["namespace"],
                    "name": pod["metadata"]["name"],
                    "uid": pod["metadata"]["uid"],
                    "account": pod["spec"]["serviceAccountName"],
                }
                for index, (_, pod) in enumerate(self._mesh.pods())
                if index % len(fleets) == number
            ]
            order = {"port": self._ports["certificates"], "roots": roots, "pods": pods}
            await fleet.tell(orjson.dumps(order))
        await self._until(lambda: len(self._versions) == self._mesh.proxies, START_S)
        self._result.start_s = self._last - begun
        self._result.start_cpu_s = controller.cpu_s() - cpu
        await self._settled(controller)
        self._result.rss_mb, self._result.peak_mb = controller.memory_mb()

    async def _change(self, controller: Process, count: int) -> None:
        mesh = self._mesh
        step = max(1, mesh.services // max(1, count))
        # WHY not 0: the Services with splits would be over-represented.
        chosen = [(3 + n * step) % mesh.services for n in range(count)]
        few = chosen[: max(1, count // 4)]
        pods: dict[int, list[Json]] = {}
        for service, pod in mesh.pods():
            pods.setdefault(service, []).append(pod)

        def target(service: int) -> tuple[Resource, Json]:
            callers = mesh.callers(service)
            return TRAFFICTARGETS, mesh.target(service, [*callers[1:], service + 7])

        def routes(service: int) -> tuple[Resource, Json]:
            return HTTPROUTEGROUPS, mesh.group(mesh.namespace(service), f"/v{service}/.*")

        def endpoint(service: int) -> tuple[Resource, Json]:
            return ENDPOINTSLICES, mesh.slice(service, pods[service % mesh.services][:-1])

        async with aiohttp.ClientSession() as session:
            for kind, make, services in (
                ("TrafficTarget", target, chosen),
                ("HTTPRouteGroup", routes, few),
                ("EndpointSlice", endpoint, few),
            ):
                done = [await self._one(controller, session, *make(s)) for s in services]
                self._result.changes.append(_summed(kind, done))
            done = [
                await self._one(controller, session, MESHCONFIGS, mesh.mesh_config(egress=False))
            ]
            self._result.changes.append(_summed("MeshConfig", done))

    async def _one(
        self, controller: Process, session: aiohttp.ClientSession, res: Resource, obj: Json
    ) -> tuple[list[float], float]:
        self._heard.clear()
        number = await self._changes_published(session)
        cpu, begun = controller.cpu_s(), time.monotonic()
        # A generation of its own is what a real API server gives a changed spec.
        obj["metadata"]["generation"] = 2
        self._api.put(res, obj)
        end = begun + CHANGE_S
        while True:
            await self._quiet()
            used = controller.cpu_s() - cpu
            published, pending = await self._newest(session)
            if published > number and not pending:
                return [moment - begun for _, moment in self._heard], used
            if time.monotonic() > end:
                raise Failed(f"{res.kind}: {pending} proxies have not applied it in {CHANGE_S} s")

    async def _quiet(self) -> None:
        """Wait until no proxy has said anything for a while."""
        begun = time.monotonic()
        await self._until(lambda: time.monotonic() - max(self._last, begun) > QUIET_S, CHANGE_S)

    async def _changes_published(self, session: aiohttp.ClientSession) -> int:
        return (await self._newest(session))[0]

    async def _newest(self, session: aiohttp.ClientSession) -> tuple[int, int]:
        url = f"http://127.0.0.1:{self._ports['health']}/changes"
        async with session.get(url) as response:
            changes = (await response.json())["changes"]
        if not changes:
            return 0, 0
        pending = sum(c["proxies"] - c["applied"] - c["refused"] for c in changes)
        return changes[-1]["number"], pending

    async def _settled(self, controller: Process) -> None:
        """Wait until the controller has nothing to do."""
        end = time.monotonic() + START_S
        before = -1.0
        while controller.cpu_s() - before > 0.03:
            before = controller.cpu_s()
            await asyncio.sleep(0.5)
            if time.monotonic() > end:
                raise Failed("the controller does not come to rest")

    async def _until(self, state: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not state():
                for process in self._processes:
                    process.check()
                await asyncio.sleep(0.01)

    def _check(self) -> None:
        """Compile everything from nothing, and compare.

        Raises:
            Failed: a proxy holds another version.
        """
        objects = {res.kind: self._api.objects(res) for res in _RESOURCES if res.kind in KINDS}
        secret = self._api.get(SECRETS, "fsm-system", "fsm-ca-bundle")
        assert secret is not None, "it was there at the start"
        begun = time.process_time()
        settings = Settings()
        roots = (_decoded(secret["data"]["ca.crt"]),)
        snapshot, _ = build_snapshot(objects, settings, trust_roots=roots)
        indexed = time.process_time()
        size = count = 0
        wrong = []
        step = max(1, self._mesh.proxies // (self._checked or self._mesh.proxies))
        for index, (_, pod) in enumerate(self._mesh.pods()):
            if index % step:
                continue
            count += 1
            uid = pod["metadata"]["uid"]
            config = compile_proxy(snapshot, snapshot.pods_by_uid[uid], settings)
            size += len(config.to_json())
            if self._versions[index] != config.version:
                wrong.append(pod["metadata"]["name"])
        each = (time.process_time() - indexed) / count
        self._result.nothing_s = indexed - begun + each * self._mesh.proxies
        self._result.bytes_mean = size / count
        if wrong:
            raise Failed(f"{len(wrong)} proxies hold a wrong configuration, one is {wrong[0]}")

    def _on_log(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if found := _LISTENING.search(text):
            self._ports[found[1]] = int(found[2])
        if "the control plane is ready" in text:
            self._ready.set()

    def _on_applied(self, line: bytes) -> None:
        index, moment, version = orjson.loads(line)
        self._versions[index] = version
        self._heard.append((index, moment))
        self._last = max(self._last, moment)


_KUBECONFIG = """
{apiVersion: v1, kind: Config, current-context: a,
 contexts: [{name: a, context: {cluster: a, user: a}}],
 clusters: [{name: a, cluster: {server: 'http://127.0.0.1:%d'}}],
 users: [{name: a, user: {}}]}
"""


def _summed(kind: str, done: list[tuple[list[float], float]]) -> Change:
    applied = [seconds for found, _ in done for seconds in found]
    return Change(kind, len(applied) / len(done), applied, sum(cpu for _, cpu in done) / len(done))


def _decoded(text: str) -> str:
    import base64

    return base64.b64decode(text).decode()


@contextlib.asynccontextmanager
async def _cancelled_at_the_end() -> AsyncIterator[Callable[..., object]]:
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda coroutine: tasks.append(asyncio.create_task(coroutine))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
