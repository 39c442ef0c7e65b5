"""Admission webhooks: a real one over TLS, with all the ways in which it can fail."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fsm.kube import ApiError, Forbidden, Invalid, KubeClient
from fsm.kube import resources as res
from fsm.standalone.apiserver import pki

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Hook:
    """A webhook server; ``answer`` decides, ``requests`` remembers what was asked."""

    url: str
    bundle: str
    answer: Answer = lambda request: {"allowed": True}
    requests: list[dict[str, Any]] = field(default_factory=list)
    arrivals: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    hang: asyncio.Event | None = None

    def configuration(self, kind: str, **more: Any) -> dict[str, Any]:
        webhook = {
            "name": f"{kind}.example.com",
            "clientConfig": {"url": self.url, "caBundle": self.bundle},
            "rules": [
                {
                    "operations": ["*"],
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps", "pods"],
                }
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {"metadata": {"name": kind}, "webhooks": [webhook | more]}


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Hook]:
    keys = pki.ensure(tmp_path / "hook", ["127.0.0.1"])
    found = Hook("", base64.b64encode(keys.ca.certificate).decode())

    async def handle(request: web.Request) -> web.Response:
        review = await request.json()
        found.requests.append(review["request"])
        found.arrivals.put_nowait(review["request"]["name"])
        if found.hang is not None:
            await found.hang.wait()
        response = {"uid": review["request"]["uid"]} | found.answer(review["request"])
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )

    application = web.Application()
    application.router.add_post("/hook", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.server_path)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    if found.hang is not None:
        found.hang.set()
    await runner.cleanup()


def patching(*operations: dict[str, Any]) -> Answer:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def config_map(name: str = "c", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}}


async def test_a_mutating_webhook_changes_what_is_stored(api: KubeClient, hook: Hook) -> None:
    hook.answer = patching({"op": "add", "path": "/data", "value": {"injected": "yes"}})
    await api.create(res.MUTATINGWEBHOOKS, hook.configuration("mutate"))
    made = await api.create(res.CONFIGMAPS, config_map(a="b"))
    assert made["data"] == {"injected": "yes"}
    asked = hook.requests[0]
    assert (asked["operation"], asked["namespace"], asked["name"]) == ("CREATE", "default", "c")
    assert asked["object"]["metadata"]["labels"] == {"a": "b"}
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert asked["userInfo"]["username"] == "kubernetes-admin"
    assert asked["kind"]["kind"] == "ConfigMap"
    await api.patch(res.CONFIGMAPS, "c", {"data": {"more": "x"}}, "default")
    assert hook.requests[1]["operation"] == "UPDATE"
    assert hook.requests[1]["oldObject"]["data"] == {"injected": "yes"}


async def test_injected_containers_get_their_defaults_and_are_checked(
    api: KubeClient, hook: Hook
) -> None:
    await api.create(res.MUTATINGWEBHOOKS, hook.configuration("mutate"))
    spec = {"containers": [{"name": "app", "image": "app:1"}]}
    side = {"name": "sidecar", "image": "side:1", "restartPolicy": "Always"}
    hook.answer = patching({"op": "add", "path": "/spec/initContainers", "value": [side]})
    made = await api.create(res.PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    assert made["spec"]["initContainers"][0]["imagePullPolicy"] == "IfNotPresent"
    hook.answer = patching(
        {"op": "add", "path": "/spec/initContainers", "value": [side | {"name": "Bad Name"}]}
    )
    with pytest.raises(Invalid, match=r"spec\.initContainers\[0\]\.name"):
        await api.create(res.PODS, {"metadata": {"name": "q"}, "spec": spec}, "default")


async def test_a_validating_webhook_refuses_with_its_words(api: KubeClient, hook: Hook) -> None:
    hook.answer = lambda request: {
        "allowed": request["operation"] == "DELETE",
        "status": {"message": "spec.a: two problems\nspec.b: here", "code": 422},
        "warnings": ["look out"],
    }
    await api.create(res.VALIDATINGWEBHOOKS, hook.configuration("check"))
    with pytest.raises(Invalid, match=r'webhook "check.example.com" denied the request: spec\.a'):
        await api.create(res.CONFIGMAPS, config_map())
    hook.answer = lambda request: {"allowed": False}
    with pytest.raises(Forbidden, match="without explanation"):
        await api.create(res.CONFIGMAPS, config_map())
    hook.answer = lambda request: {"allowed": request["operation"] != "DELETE"}
    await api.create(res.CONFIGMAPS, config_map())
    with pytest.raises(Forbidden):
        await api.delete(res.CONFIGMAPS, "c", "default")
    assert await api.get(res.CONFIGMAPS, "c", "default")


async def test_selectors_decide_whom_a_webhook_sees(api: KubeClient, hook: Hook) -> None:
    await api.create(
        res.NAMESPACES, {"metadata": {"name": "meshed", "labels": {"monitored-by": "fsm"}}}
    )
    wanted = hook.configuration(
        "mutate",
        namespaceSelector={
            "matchLabels": {"monitored-by": "fsm"},
            "matchExpressions": [{"key": "ignore", "operator": "DoesNotExist"}],
        },
        objectSelector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]},
    )
    await api.create(res.MUTATINGWEBHOOKS, wanted)
    for namespace, label in (("default", "a"), ("meshed", "b"), ("meshed", "a")):
        body = {"metadata": {"name": f"c-{label}", "labels": {"app": label}}}
        await api.create(res.CONFIGMAPS, body, namespace)
    assert [(r["namespace"], r["name"]) for r in hook.requests] == [("meshed", "c-a")]
    await api.create(res.SECRETS, {"metadata": {"name": "s", "labels": {"app": "a"}}}, "meshed")
    assert len(hook.requests) == 1


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize("failure", ["refused", "slow", "untrusted", "nonsense", "bad patch"])
async def test_failures_count_by_policy(
    api: KubeClient, hook: Hook, policy: str, failure: str
) -> None:
    wanted = hook.configuration("mutate", failurePolicy=policy, timeoutSeconds=1)
    client = wanted["webhooks"][0]["clientConfig"]
    if failure == "refused":
        client["url"] = "https://127.0.0.1:1/hook"
    elif failure == "untrusted":
        del client["caBundle"]
    elif failure == "slow":
        hook.hang = asyncio.Event()
    elif failure == "nonsense":
        hook.answer = lambda request: {"uid": "someone else's"}
    else:
        hook.answer = patching({"op": "remove", "path": "/no/such/thing"})
    await api.create(res.MUTATINGWEBHOOKS, wanted)
    if policy == "Ignore":
        assert await api.create(res.CONFIGMAPS, config_map())
        return
    with pytest.raises(ApiError, match=r'failed calling webhook "mutate\.example\.com"') as caught:
        await api.create(res.CONFIGMAPS, config_map())
    assert caught.value.status == 500
    listed = await api.list(res.CONFIGMAPS, "default")
    assert "c" not in [item["metadata"]["name"] for item in listed.items]


async def test_a_webhook_behind_a_service_must_have_one(api: KubeClient, hook: Hook) -> None:
    wanted = hook.configuration("mutate")
    wanted["webhooks"][0]["clientConfig"] = {
        "service": {"namespace": "default", "name": "absent", "path": "/hook"}
    }
    await api.create(res.MUTATINGWEBHOOKS, wanted)
    with pytest.raises(ApiError, match="Service default/absent does not exist"):
        await api.create(res.CONFIGMAPS, config_map())
    # Nobody is locked out: the configuration itself can always be changed.
    await api.delete(res.MUTATINGWEBHOOKS, "mutate")
    assert await api.create(res.CONFIGMAPS, config_map())


async def test_an_update_that_races_with_a_slow_webhook_is_done_again(
    api: KubeClient, hook: Hook
) -> None:
    made = await api.create(res.CONFIGMAPS, config_map())
    await api.create(res.VALIDATINGWEBHOOKS, hook.configuration("check"))
    hook.hang = asyncio.Event()
    patching_a = asyncio.create_task(
        api.patch(res.CONFIGMAPS, "c", {"data": {"a": "1"}}, "default")
    )
    pinned = asyncio.create_task(api.replace(res.CONFIGMAPS, made | {"data": {"z": "1"}}))
    for _ in range(2):
        await asyncio.wait_for(hook.arrivals.get(), 10)
    hook.hang.set()
    results = await asyncio.gather(patching_a, pinned, return_exceptions=True)
    found = await api.get(res.CONFIGMAPS, "c", "default")
    # The patch holds in any order; the replace of an exact version holds only if it was first.
    assert found["data"]["a"] == "1"
    assert isinstance(results[1], ApiError) != ("z" in found["data"])


async def test_broken_configurations_are_refused(api: KubeClient, hook: Hook) -> None:
    wanted = hook.configuration("mutate", admissionReviewVersions=["v1beta1"], timeoutSeconds=99)
    wanted["webhooks"][0]["clientConfig"] = {"url": "http://plain"}
    with pytest.raises(Invalid) as caught:
        await api.create(res.MUTATINGWEBHOOKS, wanted)
    for part in ("must be https", "must include v1", "must be from 1 to 30"):
        assert part in caught.value.message
