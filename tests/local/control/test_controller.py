"""The whole controller against an API in memory: from objects to what proxies apply."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from datetime import UTC, datetime

import aiohttp
import orjson
import pytest
from controlworld import (
    BUYER,
    STORE,
    ask,
    install,
    last,
    routes,
    settings,
    smi_mode,
    target,
    workload,
)

from fsm.ca import CaError
from fsm.controllers.main import Controller
from fsm.kube import Forbidden
from fsm.kube.resources import (
    CONFIGMAPS,
    MESHCONFIGS,
    MUTATINGWEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    TRAFFICTARGETS,
    VALIDATINGWEBHOOKS,
)


async def test_a_policy_reaches_exactly_the_proxies_it_is_about(running, kube, follow, wait_until):
    smi_mode(kube)
    for name, ip in ((BUYER, "10.244.0.1"), (STORE, "10.244.0.2"), ("thief", "10.244.0.3")):
        workload(kube, name, ip)
    routes(kube)
    await wait_until(lambda: running.world.monitored("thief"))
    buyer, store, thief = [await follow(name) for name in (BUYER, STORE, "thief")]
    await wait_until(lambda: all(map(last, (buyer, store, thief))), "first configurations")
    assert last(buyer)["outbound"] is None
    counts = [len(p.applied) for p in (buyer, store, thief)]
    target(kube)
    await wait_until(lambda: last(buyer)["outbound"], "the buyer to be let out")
    match = last(buyer)["outbound"]["matches"][0]
    assert match["port"] == 14001
    (host,) = last(store)["inbound"]["matches"][0]["hosts"]
    assert host["routes"][0]["allowed"] == [
        {
            "identity": "spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer",
            "origin": "TrafficTarget/bookstore/allow",
        }
    ]
    assert len(thief.applied) == counts[2], "nobody bothers the thief's proxy"
    _, changes = await ask(running, "/changes")
    mine = changes["changes"][-1]
    assert mine["objects"] == ["TrafficTarget/bookstore/allow"]
    assert (mine["proxies"], mine["applied"], mine["refused"]) == (2, 2, 0)
    assert 0 < mine["slowest_s"] < 1


async def test_an_object_says_what_became_of_it(running, kube, follow, wait_until):
    smi_mode(kube)
    workload(kube, BUYER, "10.244.0.1")
    workload(kube, STORE, "10.244.0.2")
    target(kube, generation=3)

    def programmed():
        status = kube.objects[TRAFFICTARGETS]["bookstore", "allow"].get("status", {})
        found = {c["type"]: c for c in status.get("conditions", [])}
        return status.get("observedGeneration") == 3 and found.get("Programmed")

    condition = await wait_until(programmed, "a status")
    assert condition["status"] == "False"
    assert "routes" in condition["message"], "it names the missing HTTPRouteGroup"
    routes(kube)
    await wait_until(lambda: programmed()["status"] == "True", "the status to follow")
    writes = len(kube.writes)
    statuses = running.duties.status
    statuses.poke()
    runs = statuses.runs
    await wait_until(lambda: statuses.runs > runs)
    assert len(kube.writes) == writes, "an unchanged status is not written again"


async def test_a_refused_configuration_shows_in_the_status_and_in_proxies(
    running, kube, follow, wait_until
):
    smi_mode(kube)
    workload(kube, BUYER, "10.244.0.1")
    workload(kube, STORE, "10.244.0.2")
    routes(kube)
    await wait_until(lambda: running.world.monitored(STORE))
    store = await follow(STORE)
    await wait_until(lambda: last(store))
    ack = store.ack

    async def refuse(version, outcome="applied", reason=""):
        return await ack(version, "refused", "no such stage")

    store.ack = refuse
    target(kube)

    def message():
        status = kube.objects[TRAFFICTARGETS]["bookstore", "allow"].get("status", {})
        by_type = {c["type"]: c for c in status.get("conditions", [])}
        return by_type.get("Programmed", {}).get("message", "")

    await wait_until(lambda: "no such stage" in message(), "the reason in the status")
    assert "1 of 1 proxies" in message()
    _, answer = await ask(running, "/proxies")
    (row,) = answer["proxies"]
    assert row["refused_reason"] == "no such stage"
    assert row["applied_version"] != row["target_version"]
    store.ack = ack
    target(kube, generation=2, name="other")
    smi = kube.objects[MESHCONFIGS]["fsm-system", "fsm-mesh-config"]
    smi["spec"]["traffic"]["enableEgress"] = True
    kube.put(MESHCONFIGS, smi)
    await wait_until(lambda: message() == "in effect", "the status to recover")


async def test_broken_objects_disturb_nobody(running, kube, follow, wait_until):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    store = await follow(STORE)
    await wait_until(lambda: last(store))
    kube.put(SERVICES, {"metadata": {"name": "bad", "namespace": STORE}, "spec": {"ports": 7}})
    kube.put(TRAFFICTARGETS, {"metadata": {"name": "bad", "namespace": STORE}, "spec": "?"})
    kube.put(PODS, {"metadata": {"name": "bad", "namespace": STORE}, "spec": {}, "status": []})
    workload(kube, BUYER, "10.244.0.1")

    def knows_buyer():
        return "bookbuyer/bookbuyer|14001" in last(store)["clusters"]

    await wait_until(knows_buyer, "the good objects to arrive in spite of the bad ones")


async def test_one_proxy_that_cannot_be_compiled_keeps_what_it_has(
    running, kube, follow, wait_until, monkeypatch
):
    from fsm.compile import incremental

    workload(kube, BUYER, "10.244.0.1")
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    buyer, store = await follow(BUYER), await follow(STORE)
    await wait_until(lambda: last(buyer) and last(store))
    made, before = incremental.IncrementalCompiler, len(buyer.applied)
    real = made._text

    def broken(self, snapshot, uid):
        if uid == "uid-bookbuyer":
            raise RuntimeError("a fault of ours")
        return real(self, snapshot, uid)

    monkeypatch.setattr(made, "_text", broken)
    workload(kube, "third", "10.244.0.9")
    await wait_until(lambda: "third/third|14001" in last(store)["clusters"])
    _, answer = await ask(running, "/proxies")
    errors = {row["pod"]: row["compile_error"] for row in answer["proxies"]}
    assert errors == {"bookbuyer-1": "RuntimeError: a fault of ours", "bookstore-1": None}
    assert len(buyer.applied) == before
    monkeypatch.setattr(made, "_text", real)
    workload(kube, "fourth", "10.244.0.10")
    await wait_until(lambda: "fourth/fourth|14001" in last(buyer)["clusters"])


async def test_it_survives_lost_watches_and_an_api_that_goes_away(
    running, kube, follow, wait_until
):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    store = await follow(STORE)
    await wait_until(lambda: last(store))
    kube.down = True
    kube.cut_watches()
    await wait_until(lambda: not kube.watchers)
    assert (await store.poll(version="x"))[0] == 200, "delivery goes on without the API"
    assert (await store.certify())[0] == 503
    workload(kube, BUYER, "10.244.0.1")
    kube.down = False
    await wait_until(lambda: "bookbuyer/bookbuyer|14001" in last(store)["clusters"], "", 30)
    assert (await store.certify())[0] == 200


async def test_a_controller_that_is_replaced_finds_root_and_proxies_again(
    kube, wait_until, make_proxy
):
    install(kube)
    workload(kube, STORE, "10.244.0.2")
    roots, versions, applied = set(), set(), []
    for _ in range(2):
        controller = Controller(kube, settings())
        task = asyncio.create_task(controller.run())
        async with asyncio.timeout(10):
            await controller.started.wait()
        roots.add(kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"]["data"]["ca.crt"])
        proxy = await make_proxy(
            controller.ports["delivery"],
            base64.b64decode(next(iter(roots))).decode(),
            STORE,
            "bookstore-1",
            "uid-bookstore",
            "token-bookstore",
        )
        assert (await proxy.certify())[0] == 200
        known = proxy.headers() | {"fsm-applied": applied[-1]} if applied else None
        if known:
            waiting = asyncio.create_task(proxy.poll(5, applied[-1], known))
            key = ("bookstore", "bookstore-1", "uid-bookstore")
            await wait_until(lambda c=controller, k=key: c.registry.get(k))
            record = controller.registry.get(key)
            await wait_until(lambda r=record: r.target)
            assert record.target.version == record.applied_version == applied[-1]
            waiting.cancel()
        else:
            status, config = await proxy.poll(wait_s=5)
            assert status == 200
            versions.add(config["version"])
            await proxy.ack(config["version"])
            applied.append(config["version"])
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert len(roots) == 1


async def test_what_the_mesh_needs_is_made_and_kept(running, kube, wait_until):
    place = ("fsm-system", "fsm-mesh-config")
    assert place in kube.objects.get(MESHCONFIGS, {}), "it is there when the controller is ready"
    spec = kube.objects[MESHCONFIGS][place]["spec"]
    assert spec["traffic"]["enablePermissiveTrafficPolicyMode"] is True
    root = kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"]["data"]["ca.crt"]

    def bundles(resource):
        (found,) = kube.objects[resource].values()
        return {w["clientConfig"].get("caBundle") for w in found["webhooks"]}

    for resource in (MUTATINGWEBHOOKS, VALIDATINGWEBHOOKS):
        await wait_until(lambda r=resource: bundles(r) == {root}, "the CA bundle")
    install(kube)
    for resource in (MUTATINGWEBHOOKS, VALIDATINGWEBHOOKS):
        await wait_until(lambda r=resource: bundles(r) == {root}, "the CA bundle to come back")

    def spread():
        return kube.objects[CONFIGMAPS].get((STORE, "fsm-ca-bundle"), {}).get("data")

    workload(kube, STORE, "10.244.0.2")
    data = await wait_until(spread, "the roots in the namespace")
    assert data == {"ca.crt": base64.b64decode(root).decode()}
    kube.put(
        CONFIGMAPS,
        {"metadata": {"name": "fsm-ca-bundle", "namespace": STORE}, "data": {"ca.crt": "forged"}},
    )
    await wait_until(lambda: spread() == data, "the roots to be put right")
    kube.remove(CONFIGMAPS, "fsm-ca-bundle", STORE)
    await wait_until(lambda: spread() == data, "the roots to be put back")


async def test_one_namespace_that_takes_nothing_keeps_nothing_from_the_others(
    running, kube, wait_until, monkeypatch
):
    create = kube.create

    async def picky(res, obj, namespace=None):
        if namespace == "a-picky-one" and res is CONFIGMAPS:
            raise Forbidden(403, "Forbidden", "cannot create ConfigMap: not here")
        return await create(res, obj, namespace)

    monkeypatch.setattr(kube, "create", picky)
    for name, more in (
        ("a-leaving-one", {"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ("a-picky-one", {}),
        ("z", {}),
    ):
        labels = {"flomesh.io/monitored-by": "fsm"}
        kube.put(NAMESPACES, {"metadata": {"name": name, "labels": labels, **more}})
    place = ("z", "fsm-ca-bundle")
    await wait_until(lambda: place in kube.objects[CONFIGMAPS], "the roots in z")
    assert ("a-leaving-one", "fsm-ca-bundle") not in kube.objects[CONFIGMAPS]
    monkeypatch.setattr(kube, "create", create)
    place = ("a-picky-one", "fsm-ca-bundle")
    await wait_until(lambda: place in kube.objects[CONFIGMAPS], "the roots after all")


async def test_an_existing_mesh_config_is_left_alone(kube):
    install(kube)
    smi_mode(kube)
    controller = Controller(kube, settings())
    task = asyncio.create_task(controller.run())
    async with asyncio.timeout(10):
        await controller.started.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    traffic = kube.objects[MESHCONFIGS]["fsm-system", "fsm-mesh-config"]["spec"]["traffic"]
    assert traffic["enablePermissiveTrafficPolicyMode"] is False


async def test_an_unusable_root_ends_the_controller_in_words(kube):
    kube.put(
        SECRETS,
        {"metadata": {"name": "fsm-ca-bundle", "namespace": "fsm-system"}, "data": {"ca.crt": "!"}},
    )
    with pytest.raises(CaError, match="no base64"):
        await Controller(kube, settings()).run()


async def test_health_and_figures(running, kube, follow, wait_until):
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running.world.monitored(STORE))
    store = await follow(STORE)
    await wait_until(lambda: last(store))
    assert await ask(running, "/health/ready") == (200, "ok\n")
    assert await ask(running, "/health/alive") == (200, "ok\n")
    assert (await ask(running, "/version"))[1]["version"]
    workload(kube, BUYER, "10.244.0.1")
    await wait_until(lambda: "bookbuyer/bookbuyer|14001" in last(store)["clusters"])
    change = running.registry.changes[-1]
    await wait_until(lambda: change.proxies and change.applied == change.proxies)
    _, text = await ask(running, "/metrics")
    for line in (
        "fsm_proxy_connect_count 1.0",
        "fsm_resource_namespace_count 2.0",
        "fsm_cert_issued_count_total 1.0",
        "fsm_version_info{",
        "fsm_time_to_applied_seconds_count",
        'fsm_k8s_api_event_count_total{kind="Pod",type="ADDED"} 2.0',
    ):
        assert line in text, line


async def test_it_is_not_ready_before_it_has_seen_the_world(kube, wait_until):
    kube.down = True
    controller = Controller(kube, settings())
    task = asyncio.create_task(controller.run())
    await wait_until(lambda: controller.ports.get("health"))
    status, text = await ask(controller, "/health/ready")
    assert (status, "waiting" in text) == (503, True)
    assert (await ask(controller, "/health/alive"))[0] == 200
    kube.down = False
    async with asyncio.timeout(20):
        await controller.started.wait()
    assert (await ask(controller, "/health/ready"))[0] == 200
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def review(controller, kube, path: str, question: dict):
    root = kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"]["data"]["ca.crt"]
    context = ssl.create_default_context(cadata=base64.b64decode(root).decode())
    url = f"https://127.0.0.1:{controller.ports['webhook']}{path}"
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": question}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url, json=body, ssl=context, server_hostname="fsm-controller.fsm-system.svc"
        ) as response,
    ):
        assert response.status == 200, await response.text()
        return (await response.json())["response"]


async def test_the_webhooks_inject_and_refuse_with_all_problems(running, kube, wait_until):
    workload(kube, STORE, "10.244.0.2")
    pod = {
        "metadata": {"generateName": "x-", "annotations": {"flomesh.io/sidecar-injection": "yes"}},
        "spec": {"containers": [{"name": "app"}]},
    }
    question = {
        "uid": "u1",
        "kind": {"kind": "Pod"},
        "operation": "CREATE",
        "namespace": STORE,
        "object": pod,
    }
    answer = await review(running, kube, "/mutate-pod-creation", question)
    assert (answer["uid"], answer["allowed"], answer["patchType"]) == ("u1", True, "JSONPatch")
    patch = orjson.loads(base64.b64decode(answer["patch"]))
    assert any(op["path"] == "/spec/initContainers" for op in patch)
    pod["metadata"]["annotations"]["flomesh.io/sidecar-injection"] = "perhaps"
    answer = await review(running, kube, "/mutate-pod-creation", question)
    assert answer["allowed"] is False
    assert "'perhaps'" in answer["status"]["message"]
    broken = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "r", "namespace": STORE},
        "spec": {
            "matches": [
                {"name": "a", "pathRegex": "(?=x)", "methods": ["GET"]},
                {"name": "b", "pathRegex": "[", "methods": ["EAT"]},
            ]
        },
    }
    question = {"uid": "u2", "kind": {"kind": "HTTPRouteGroup"}, "object": broken}
    answer = await review(running, kube, "/validate", question)
    assert answer["allowed"] is False
    message = answer["status"]["message"]
    assert "matches[0].pathRegex" in message
    assert "matches[1].pathRegex" in message
    assert "matches[1].methods[0]" in message
    assert len(answer["status"]["details"]["causes"]) == 3
    question = {"uid": "u3", "kind": {"kind": "HTTPRouteGroup"}, "object": None}
    assert (await review(running, kube, "/validate", question))["allowed"] is True


async def test_a_certificate_lives_as_long_as_mesh_config_says(running, kube, follow, wait_until):
    smi_mode(kube)
    config = kube.objects[MESHCONFIGS]["fsm-system", "fsm-mesh-config"]
    config["spec"]["certificate"] = {"serviceCertValidityDuration": "10m"}
    kube.put(MESHCONFIGS, config)
    workload(kube, STORE, "10.244.0.2")
    await wait_until(lambda: running._mesh_config.certificate.service_cert_validity_s == 600)
    store = await follow(STORE)
    _, answer = await store.certify()
    left = datetime.fromisoformat(answer["not_after"]) - datetime.now(UTC)
    assert 590 < left.total_seconds() <= 600
    assert answer["renew_after_s"] in (399, 400)
