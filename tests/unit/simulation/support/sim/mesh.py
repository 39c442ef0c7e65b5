"""Controllers and proxies on a bad network, and what it means that they have converged.

In: an API, dice. Out: a ``Mesh`` whose controller can be killed and started anew, whose proxies
poll and acknowledge as ``fsm.delivery.server`` has them do, over a network that loses answers.
Invariants: everything but HTTP and certificates is the product's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from differences import carry_out
from prometheus_client import CollectorRegistry

from fsm.compile import assess, build_snapshot, compile_proxy
from fsm.controllers.engine import Engine
from fsm.controllers.loops import Reconciler
from fsm.controllers.publisher import Publisher
from fsm.controllers.status import StatusWriter
from fsm.controllers.world import World
from fsm.delivery import ProxyKey, ProxyRegistry
from fsm.model import Key, Snapshot
from fsm.settings import Settings
from sim.api import SimApi

ROOTS = ("ROOT",)
POLL_S = 55.0


class Wall:
    """The clock that people read: it jumps."""

    def __init__(self) -> None:
        self.off = 0.0

    def __call__(self) -> float:
        return 1_700_000_000.0 + asyncio.get_running_loop().time() + self.off


class Controller:
    """One life of a control plane, put together as ``fsm.controllers.main`` does."""

    def __init__(self, api: SimApi, settings: Settings, wall: Wall) -> None:
        metrics = CollectorRegistry()
        clock = asyncio.get_running_loop().time
        self.registry = ProxyRegistry(clock, wall)
        self.world = World(api, settings, metrics)  # type: ignore[arg-type]
        engine = Engine(settings, lambda: ROOTS)
        self.publisher = Publisher[Snapshot](
            self.world,
            self.registry,
            engine,
            metrics,
            coalesce_s=0.02,
            on_snapshot=lambda snapshot, change: self.statuses.poke(),
        )
        writer = StatusWriter(
            api,  # type: ignore[arg-type]
            self.world,
            self.registry,
            settle_s=2.0,
            assessments=lambda: engine.assessments,
        )
        self.statuses = Reconciler("statuses", writer.reconcile, period_s=60.0, delay_s=0.1)
        writer.again = self.statuses.poke
        self.open = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for coroutine in (*self.world.tasks(), self.statuses.run()):
                tasks.create_task(coroutine)
            await self.world.synced()
            await self.publisher.first()
            tasks.create_task(self.publisher.run())
            self.open = True

    async def kill(self) -> None:
        self.open = False
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.registry.forget_except(())


class Proxy:
    """The proxy beside one Pod."""

    def __init__(self, mesh: Mesh, key: ProxyKey) -> None:
        self.mesh = mesh
        self.key = key
        self.version = self.applied = ""
        self.held = b""
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            if not await self._poll():
                await self.mesh.wait(0.2)

    def restart(self) -> None:
        self.task.cancel()
        self.version = self.applied = ""
        self.held = b""
        self.task = asyncio.create_task(self._run())

    async def _poll(self) -> bool:
        """Ask once; return whether to ask again at once."""
        controller = self.mesh.controller
        facts = controller.world.pod(self.key.namespace, self.key.pod) if controller.open else None
        if facts is None or facts.key != self.key:
            return False
        if not controller.world.monitored(self.key.namespace) or self.mesh.unlucky():
            return False
        record, _ = controller.registry.touch(self.key, "identity")
        if record.target is None:
            controller.publisher.new_proxy(record)
        controller.registry.polled(record, self.version, self.applied)
        record.polls += 1
        try:
            async with asyncio.timeout(POLL_S):
                while controller.registry.get(self.key) is record:
                    if record.target is not None and record.target.version != self.version:
                        break
                    changed = asyncio.Event()
                    record.waiting.add(changed.set)
                    try:
                        await changed.wait()
                    finally:
                        record.waiting.discard(changed.set)
        except TimeoutError:
            return True
        finally:
            record.polls -= 1
            controller.registry.touch_if_known(record)
        if controller.registry.get(self.key) is not record or not controller.open:
            return False
        assert record.target is not None
        version, body, held = record.target.version, record.target.body, record.held
        if held is not None and held.version == self.version:
            said = record.target.difference(held)
            body = body if said is None else carry_out(self.held, said)
        controller.registry.sent(record, record.target)
        await self.mesh.wait(0.02)
        if self.mesh.unlucky():
            return False
        self.version = self.applied = version
        self.held = body
        await self.mesh.wait(0.02)
        if self.mesh.dice.random() < 0.5:
            # The next poll says so.
            return True
        if not self.mesh.unlucky() and controller.open:
            current = controller.registry.get(self.key)
            if current is not None:
                controller.registry.acknowledge(current, version, "applied", "")
                controller.statuses.poke()
        return True


class Mesh:
    """The whole."""

    def __init__(self, api: SimApi, settings: Settings, dice: random.Random) -> None:
        self.api = api
        self.settings = settings
        self.dice = dice
        self.wall = Wall()
        self.controller = Controller(api, settings, self.wall)
        self.proxies: dict[str, Proxy] = {}

    async def wait(self, mean_s: float) -> None:
        await asyncio.sleep(mean_s / 10 if self.api.calm else self.dice.expovariate(1 / mean_s))

    def unlucky(self) -> bool:
        return not self.api.calm and self.dice.random() < 0.1

    async def restart_controller(self) -> None:
        await self.controller.kill()
        await self.wait(1.0)
        self.controller = Controller(self.api, self.settings, self.wall)

    def follow_pods(self) -> None:
        """Start a proxy with every Pod that has one, and end it with the Pod."""
        alive = {
            obj["metadata"]["uid"]: ProxyKey(namespace, name, obj["metadata"]["uid"])
            for (namespace, name), obj in self.api.objects["Pod"].items()
            if obj["metadata"]["labels"].get("fsm-proxy-uuid")
        }
        for uid in [uid for uid in self.proxies if uid not in alive]:
            self.proxies.pop(uid).task.cancel()
        for uid, key in alive.items():
            if uid not in self.proxies:
                self.proxies[uid] = Proxy(self, key)

    def astray(self) -> list[str]:
        """Say what is not as it would be if all had been made from nothing; empty: converged."""
        objects: dict[str, list[Any]] = {
            kind: list(found.values()) for kind, found in self.api.objects.items()
        }
        snapshot, _ = build_snapshot(objects, self.settings, trust_roots=ROOTS)
        found = []
        for proxy in self.proxies.values():
            pod = snapshot.pods.get(Key(proxy.key.namespace, proxy.key.pod))
            if pod is None or not snapshot.pod_in_mesh(pod):
                continue
            if proxy.held != compile_proxy(snapshot, pod, self.settings).to_json():
                found.append(f"the configuration of {proxy.key}")
        for wanted in assess(snapshot, self.settings):
            obj = self.api.objects[wanted.kind].get((wanted.namespace, wanted.name))
            if obj is None:
                continue
            status = obj.get("status") or {}
            said = [
                (c["type"], c["status"] == "True", c["reason"], c["message"])
                for c in status.get("conditions", [])
            ]
            meant = [(c.type, c.status, c.reason, c.message) for c in wanted.conditions]
            if said != meant or status.get("observedGeneration") != wanted.generation:
                found.append(f"the status of {wanted.kind} {wanted.namespace}/{wanted.name}")
        registry = self.controller.registry
        found += [f"change {c.number} is not done" for c in registry.changes if not c.done]
        return found

    async def end(self) -> None:
        for proxy in self.proxies.values():
            proxy.task.cancel()
        await asyncio.gather(*(p.task for p in self.proxies.values()), return_exceptions=True)
        await self.controller.kill()
