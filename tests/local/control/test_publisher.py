"""The publisher with a compiler that fails when it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from fsm.controllers.publisher import Publisher
from fsm.controllers.world import World
from fsm.delivery import Compiled, ProxyKey, ProxyRegistry
from fsm.kube.resources import NAMESPACES, PODS, SERVICES
from fsm.settings import Settings


class FakeCompiler:
    """Configurations are the number of the snapshot; only Pods that ``changes`` names are due."""

    def __init__(self) -> None:
        self.number = 0
        self.known: dict[ProxyKey, int] = {}
        self.changed: set[str] = set()
        self.calls: list[str] = []
        self.broken: set[str] = set()

    def _did(self, what: str) -> int:
        self.calls.append(what)
        if what in self.broken:
            raise RuntimeError(f"cannot {what}")
        self.number += 1
        return self.number

    def begin(self, objects):
        self.known.clear()
        return self._did("begin")

    def update(self, touched):
        self.changed |= {t.name for t in touched if t.kind == "Pod"}
        return self._did("update")

    def due(self):
        return sorted(key for key in self.known if key.pod in self.changed)

    def compile(self, proxy):
        if "compile" in self.broken:
            raise RuntimeError("cannot compile")
        self.changed.discard(proxy.pod)
        self.known[proxy] = self.number
        return Compiled(str(self.number), b"")

    def forget(self, proxy):
        self.calls.append(f"forget {proxy.pod}")
        self.known.pop(proxy, None)


@pytest.fixture
async def parts(kube, wait_until) -> AsyncIterator[tuple[FakeCompiler, ProxyRegistry]]:
    kube.put(NAMESPACES, {"metadata": {"name": "shop"}})
    for name in ("one", "two"):
        pod(kube, name)
    metrics = CollectorRegistry()
    world = World(kube, Settings(), metrics)
    registry = ProxyRegistry(time.monotonic, time.time)
    compiler = FakeCompiler()
    publisher = Publisher(world, registry, compiler, metrics, coalesce_s=0.001)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(found) for found in world.tasks()]
        await world.synced()
        await publisher.first()
        running.append(tasks.create_task(publisher.run()))
        for name in ("one", "two"):
            record, _ = registry.touch(ProxyKey("shop", name, f"uid-{name}"), "id")
            publisher.new_proxy(record)
        await wait_until(lambda: all(r.target for r in registry.records()))
        await wait_until(lambda: "update" in compiler.calls)
        yield compiler, registry
        for task in running:
            task.cancel()


def pod(kube, name: str, **labels: str) -> None:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": labels}
    kube.put(PODS, {"metadata": metadata, "spec": {}})


def versions(registry: ProxyRegistry) -> dict[str, str | None]:
    return {r.key.pod: r.target.version if r.target else None for r in registry.records()}


async def test_only_who_is_concerned_is_compiled_for(parts, kube, wait_until):
    compiler, registry = parts
    before = versions(registry)
    pod(kube, "two", changed="yes")
    await wait_until(lambda: versions(registry)["two"] != before["two"])
    assert versions(registry)["one"] == before["one"]
    assert compiler.calls[-1] == "update"


async def test_where_a_change_cannot_be_applied_everything_is_made_anew(parts, kube, wait_until):
    compiler, registry = parts
    before = versions(registry)
    compiler.broken = {"update", "begin"}
    pod(kube, "two", changed="yes")
    await wait_until(lambda: compiler.calls[-2:] == ["update", "begin"])
    assert versions(registry) == before, "what was in force stays in force"
    compiler.broken = {"update"}
    kube.put(SERVICES, {"metadata": {"name": "s", "namespace": "shop"}, "spec": {}})
    await wait_until(
        lambda: all(version != before[name] for name, version in versions(registry).items())
    )
    # The update is not even tried on what a failed one has left behind.
    assert compiler.calls[-2:] == ["begin", "begin"]
    compiler.broken = set()
    pod(kube, "one", changed="again")
    await wait_until(lambda: compiler.calls[-1] == "update")


async def test_the_pods_that_go_are_forgotten(parts, kube, wait_until):
    compiler, registry = parts
    kube.remove(PODS, "two", "shop")
    await wait_until(lambda: "forget two" in compiler.calls)
    assert [record.key.pod for record in registry.records()] == ["one"]


async def test_a_pod_of_the_same_name_is_another_proxy(parts, kube, wait_until):
    compiler, registry = parts
    kube.remove(PODS, "two", "shop")
    kube.put(PODS, {"metadata": {"name": "two", "namespace": "shop", "uid": "other"}, "spec": {}})
    await wait_until(lambda: "forget two" in compiler.calls)
    assert [record.key.uid for record in registry.records()] == ["uid-one"]


async def test_a_proxy_that_cannot_be_compiled_for_keeps_what_it_has(parts, kube, wait_until):
    compiler, registry = parts
    before = versions(registry)
    compiler.broken = {"compile"}
    pod(kube, "two", changed="yes")
    record = registry.get(ProxyKey("shop", "two", "uid-two"))
    await wait_until(lambda: record.compile_error)
    assert record.compile_error == "RuntimeError: cannot compile"
    assert versions(registry) == before
    compiler.broken = set()
    kube.put(SERVICES, {"metadata": {"name": "s", "namespace": "shop"}, "spec": {}})
    await wait_until(lambda: versions(registry)["two"] != before["two"])
    assert record.compile_error is None
