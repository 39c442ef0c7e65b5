"""``/rollout`` and its figures: what became of an object's last change, proxy by proxy."""

from __future__ import annotations

from controlworld import BUYER, STORE, ask, last, routes, smi_mode, target, workload

from fsm.kube.resources import TRAFFICTARGETS

NAME = "TrafficTarget/bookstore/allow"


async def small_mesh(kube, follow, wait_until):
    smi_mode(kube)
    workload(kube, BUYER, "10.244.0.1")
    workload(kube, STORE, "10.244.0.2")
    routes(kube)
    proxies = []
    for name in (BUYER, STORE):
        proxies.append(await follow(name))
    await wait_until(lambda: all(map(last, proxies)), "first configurations")
    return proxies


async def rollout(running, name=NAME):
    return await ask(running, f"/rollout?object={name}")


async def done(running, wait_until, generation):
    while True:
        status, answer = await rollout(running)
        if status == 200 and answer["generation"] == generation and answer["change"]["done"]:
            return answer


async def test_a_change_is_done_when_every_affected_proxy_has_applied_it(
    running, kube, follow, wait_until
):
    await wait_until(lambda: running.world.informers)
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    await small_mesh(kube, follow, wait_until)
    target(kube, generation=3)
    answer = await done(running, wait_until, 3)
    change = answer["change"]
    assert (change["proxies"], change["applied"], change["pending"]) == (2, 2, 0)
    assert [(row["pod"], row["state"]) for row in change["rows"]] == [
        ("bookbuyer-1", "applied"),
        ("bookstore-1", "applied"),
    ]
    assert max(row["applied_s"] for row in change["rows"]) == change["slowest_s"] > 0
    _, text = await ask(running, "/metrics")
    line = 'fsm_object_time_to_applied_seconds{kind="TrafficTarget",name="allow"'
    assert line in text
    assert 'fsm_proxy_time_to_applied_seconds{namespace="bookbuyer",pod="bookbuyer-1"}' in text


async def test_a_proxy_that_refuses_is_named_with_its_reason(running, kube, follow, wait_until):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    _, store = await small_mesh(kube, follow, wait_until)
    ack = store.ack

    async def refuse(version, outcome="applied", reason=""):
        return await ack(version, "refused", "no such stage")

    store.ack = refuse
    target(kube)
    change = (await done(running, wait_until, 1))["change"]
    assert [(row["pod"], row["state"], row["reason"]) for row in change["rows"]] == [
        ("bookbuyer-1", "applied", ""),
        ("bookstore-1", "refused", "no such stage"),
    ]


async def test_a_proxy_that_says_nothing_is_pending(running, kube, follow, wait_until):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    _, store = await small_mesh(kube, follow, wait_until)

    async def silent(version, outcome="applied", reason=""):
        return 204, {}

    store.ack = silent
    store.version = ""
    target(kube)
    answer = {}
    while not answer.get("change") or answer["change"]["applied"] < 1:
        _, answer = await rollout(running)
    assert not answer["change"]["done"]
    assert ("bookstore-1", "pending") in [
        (row["pod"], row["state"]) for row in answer["change"]["rows"]
    ]


async def test_what_is_not_there_or_not_asked_properly(running, kube, wait_until):
    assert (await rollout(running))[0] == 404
    assert (await rollout(running, "TrafficTarget"))[0] == 400
    smi_mode(kube)
    name = "MeshConfig/fsm-system/fsm-mesh-config"
    while (answer := await rollout(running, name))[0] != 200:
        pass
    assert answer[1]["generation"] in (0, 1)


async def test_a_deleted_object_is_told_until_nobody_heeds_it(running, kube, follow, wait_until):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    await small_mesh(kube, follow, wait_until)
    target(kube)
    await done(running, wait_until, 1)
    kube.remove(TRAFFICTARGETS, "allow", STORE)
    answer = await done(running, wait_until, None)
    assert answer["gone"]
    assert (answer["change"]["proxies"], answer["change"]["applied"]) == (2, 2)
    assert NAME not in running.registry.objects
    target(kube, generation=2)
    assert not (await done(running, wait_until, 2))["gone"]


async def test_a_pod_that_has_ended_is_waited_for_no_more(running, kube, follow, wait_until):
    from fsm.kube.resources import PODS

    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    buyer, _ = await small_mesh(kube, follow, wait_until)

    async def silent(version, outcome="applied", reason=""):
        return 204, {}

    buyer.ack = silent
    target(kube)
    while (await rollout(running))[0] != 200:
        pass
    pod = kube.objects[PODS][BUYER, f"{BUYER}-1"]
    kube.put(PODS, {**pod, "status": {**pod["status"], "phase": "Succeeded"}})
    change = (await done(running, wait_until, 1))["change"]
    assert (change["proxies"], change["pending"]) == (1, 0)
