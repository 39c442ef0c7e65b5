"""Several replicas of a controller on one API: one writes, all serve, all are heard."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from controlworld import BUYER, STORE, install, routes, settings, smi_mode, target, workload
from controlworld.rotating import kept, phase, request, spread_roots

from fsm.ca.rotation import Phase
from fsm.controllers import publisher
from fsm.controllers.main import Controller
from fsm.kube.resources import CONFIGMAPS, LEASES, PODS, TRAFFICTARGETS

__all__ = ["kept"]

LEASE_S = 0.9


def controller_pod(kube, name: str) -> None:
    """The Pod of a replica, as its Deployment has it."""
    labels = {"app": "fsm-controller", "app.kubernetes.io/instance": "fsm"}
    meta = {"name": name, "namespace": "fsm-system", "uid": f"uid-{name}", "labels": labels}
    kube.put(PODS, {"metadata": meta, "spec": {}, "status": {"phase": "Running"}})


@pytest.fixture
async def replica(kube):
    """Start a replica; gives it and its task."""
    install(kube)
    tasks = []

    async def start(name: str):
        controller_pod(kube, name)
        own = replace(settings(), identity=name, pod_uid=f"uid-{name}", lease_s=LEASE_S)
        controller = Controller(kube, own)
        task = asyncio.create_task(controller.run())
        tasks.append(task)
        started = asyncio.create_task(controller.started.wait())
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert controller.started.is_set(), task
        return controller, task

    yield start
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def both(replica, kube, wait_until):
    first, _ = pair = await replica("a")
    await wait_until(lambda: first.elector.leads, "the first to lead")
    second, other = await replica("b")
    await wait_until(lambda: second.replicas.others() == ["a"], "to know each other")
    await wait_until(lambda: first.replicas.others() == ["b"], "to know each other")
    assert not second.elector.leads
    return (*pair, second, other)


def holder(kube) -> str:
    return kube.objects[LEASES]["fsm-system", "fsm-controller"]["spec"]["holderIdentity"]


def status(kube) -> dict | None:
    return kube.objects[TRAFFICTARGETS][STORE, "allow"].get("status")


async def end(task) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_one_writes_and_when_it_ends_the_other_does(replica, kube, wait_until):
    first, task, second, _ = await both(replica, kube, wait_until)
    assert holder(kube) == "a"
    await end(task)
    await wait_until(lambda: second.elector.leads, "the other to lead")
    assert holder(kube) == "b"
    target(kube)
    assert await wait_until(lambda: status(kube), "a status that the other writes")
    spec = kube.objects[LEASES]["fsm-system", "fsm-controller"]["spec"]
    assert spec["leaseTransitions"] >= 1
    assert not first.elector.leads


async def test_one_that_dies_is_followed_when_its_lease_has_run_out(
    replica, kube, wait_until, monkeypatch
):
    first, task, second, _ = await both(replica, kube, wait_until)

    async def dead() -> None:
        pass

    monkeypatch.setattr(first.elector, "_release", dead)
    await end(task)
    assert holder(kube) == "a", "it had no time to let go"
    assert not second.elector.leads
    await wait_until(lambda: second.elector.leads, "the other to lead")


async def test_one_without_an_api_stops_before_another_may_begin(replica, kube, wait_until):
    first, _, second, _ = await both(replica, kube, wait_until)
    together = []
    for controller in (first, second):
        controller.elector.subscribe(
            lambda: together.append((first.elector.leads, second.elector.leads))
        )
    kube.down = True
    await wait_until(lambda: not first.elector.leads, "the leader to stop")
    kube.down = False
    await wait_until(lambda: first.elector.leads or second.elector.leads, "one to lead")
    assert (True, True) not in together


async def test_only_the_one_that_leads_writes(replica, kube, wait_until):
    await both(replica, kube, wait_until)
    smi_mode(kube)
    before = len(kube.writes)
    target(kube)
    await wait_until(lambda: status(kube), "a status")
    writes = [w for w in kube.writes[before:] if w[1] == "TrafficTarget"]
    assert [w[0] for w in writes] == ["ADDED", "MODIFIED"], "the status is written once"


async def connect(kube, make_proxy, controller, name: str, answer: str = "applied"):
    roots = spread_roots(kube, name)
    port = controller.ports["delivery"]
    proxy = await make_proxy(port, roots, name, f"{name}-1", f"uid-{name}", f"token-{name}")
    status, said = await proxy.certify()
    assert status == 200, said
    ack = proxy.ack

    async def acknowledge(version, outcome="applied", reason=""):
        return await ack(version, answer, "no such stage" if answer == "refused" else "")

    proxy.ack = acknowledge
    return proxy, asyncio.create_task(proxy.follow())


async def test_refusals_of_the_other_replicas_proxies_are_in_the_status(
    replica, kube, make_proxy, wait_until
):
    first, _, second, _ = await both(replica, kube, wait_until)
    smi_mode(kube)
    routes(kube)
    for name, ip in ((BUYER, "10.244.0.1"), (STORE, "10.244.0.2")):
        workload(kube, name, ip)
        await wait_until(lambda n=name: spread_roots(kube, n), "roots in the namespace")
    _, one = await connect(kube, make_proxy, first, BUYER)
    there, two = await connect(kube, make_proxy, second, STORE)
    try:
        await wait_until(lambda: there.applied, "a first configuration")
        await end(two)
        there, two = await connect(kube, make_proxy, second, STORE, "refused")
        await wait_until(lambda: there.applied, "the same again")
        target(kube)

        def refused():
            found = kube.objects[TRAFFICTARGETS][STORE, "allow"].get("status") or {}
            return found.get("currentStatus") == "Refused" and found["reason"]

        text = await wait_until(refused, "the leader to tell of the refusal")
        assert f"{STORE}/{STORE}-1: no such stage" in text
        report = kube.objects[CONFIGMAPS]["fsm-system", "fsm-replica-b"]
        assert report["metadata"]["ownerReferences"][0]["uid"] == "uid-b"
    finally:
        await end(one)
        await end(two)


async def test_plugins_that_fail_on_the_other_replicas_proxies_are_known_to_the_leader(
    replica, kube, make_proxy, wait_until
):
    first, _, second, _ = await both(replica, kube, wait_until)
    for name, ip in ((BUYER, "10.244.0.1"), (STORE, "10.244.0.2")):
        workload(kube, name, ip)
        await wait_until(lambda n=name: spread_roots(kube, n), "roots in the namespace")
    here, one = await connect(kube, make_proxy, first, BUYER)
    there, two = await connect(kube, make_proxy, second, STORE)
    try:
        for proxy, errors in ((here, 1), (there, 2)):
            await wait_until(lambda p=proxy: p.applied, "a first configuration")
            said = {"verifier": {"errors": errors, "last": f"line {errors}: oh"}}
            status, _ = await proxy.post("/v1/reports", {"plugins": said})
            assert status == 204

        def known():
            found = first.replicas.failing("verifier")
            return found is not None and len(found.proxies) == 2 and str(found)

        text = await wait_until(known, "the leader to know of both")
        assert text == f"fails on 2 proxies; on {BUYER}/{BUYER}-1: line 1: oh"
        assert first.replicas.failing("other") is None
        # The other would tell the same, should it lead.
        await there.post("/v1/reports", {"plugins": {}})
        await wait_until(
            lambda: str(first.replicas.failing("verifier")).startswith("fails on 1 proxy;"),
            "the leader to hear that it is over there",
        )
    finally:
        await end(one)
        await end(two)


async def stubborn(proxy) -> None:
    """Poll for ever, and believe whom it has believed."""
    while True:
        status, config = await proxy.poll(wait_s=5)
        if status == 200:
            proxy.version = config["version"]


async def test_a_rotation_waits_for_proxies_of_the_other_replica(replica, kube, kept, wait_until):
    first, _, second, _ = await both(replica, kube, wait_until)
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: spread_roots(kube, STORE), "roots in the namespace")
    polling = asyncio.create_task(stubborn(await kept(second, follows=False)))
    await request(kube, wait_until, "rotate")
    await wait_until(lambda: first.rotator.rotates and second.rotator.rotates, "both to know")

    def waited() -> list[str]:
        return [f"{wait.name} {wait.why}" for wait in first.rotator.waits]

    text = f"{STORE}/{STORE}-1 has not confirmed the roots"
    await wait_until(lambda: text in waited(), "the leader to wait for it")
    assert phase(kube) is Phase.TRUSTING
    await end(polling)
    follower = await kept(second)
    await wait_until(lambda: phase(kube) is Phase.STABLE, "the rotation to end", 20.0)
    await wait_until(lambda: not second.rotator.rotates, "the other to follow")
    assert second.rotator.report()["trust"] == first.rotator.report()["trust"] == follower.trusts


async def test_a_rotation_goes_on_when_the_one_that_leads_it_ends(replica, kube, kept, wait_until):
    first, task, second, _ = await both(replica, kube, wait_until)
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: spread_roots(kube, STORE), "roots in the namespace")
    proxy = await kept(second, follows=False)
    await proxy.poll()
    await request(kube, wait_until, "rotate")
    await wait_until(lambda: first.rotator.waits, "it to wait")
    await end(task)
    kube.remove(PODS, "a", "fsm-system")
    await kept(second)
    await wait_until(lambda: phase(kube) is Phase.STABLE, "the other to end it", 20.0)


async def test_a_wave_that_its_replica_does_not_survive_is_ended_by_the_other(
    replica, kube, make_proxy, wait_until, monkeypatch
):
    monkeypatch.setattr(publisher, "SLICE_S", -1.0)
    first, task, second, _ = await both(replica, kube, wait_until)
    names = [f"shop-{number}" for number in range(6)]
    for number, name in enumerate(names):
        workload(kube, name, f"10.244.0.{10 + number}")
    proxies, following = [], []
    try:
        for name in names:
            await wait_until(lambda n=name: spread_roots(kube, n), "roots in the namespace")
            proxy, follows = await connect(kube, make_proxy, first, name)
            proxies.append(proxy)
            following.append(follows)
        await wait_until(lambda: all(proxy.applied for proxy in proxies), "configurations")
        await wait_until(lambda: all(r.polls for r in first.registry.records()), "polls")
        before = {proxy.namespace: proxy.version for proxy in proxies}
        told = []
        publish = first.registry.publish

        def published(key, compiled, change=None):
            if change is not None:
                told.append(key)
                if len(told) == 3:
                    task.cancel()
            return publish(key, compiled, change)

        monkeypatch.setattr(first.registry, "publish", published)
        smi_mode(kube)
        await wait_until(task.done, "the replica to end")
        assert len(told) < len(names), "in the middle of the wave"
        assert any(proxy.version == before[proxy.namespace] for proxy in proxies)
        for proxy in proxies:
            # As the Service leads them now.
            proxy.port = second.ports["delivery"]

        def ended():
            shall = {r.key.namespace: r.target for r in second.registry.records() if r.target}
            return len(shall) == len(names) and all(
                before[p.namespace] != p.version == shall[p.namespace].version for p in proxies
            )

        await wait_until(ended, "the other to end it", 30)
        await wait_until(lambda: second.elector.leads, "the other to lead")
        target(kube)
        await wait_until(lambda: status(kube), "a status that the other writes")
    finally:
        for follows in following:
            await end(follows)
