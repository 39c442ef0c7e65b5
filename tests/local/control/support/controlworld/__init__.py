"""A whole controller against an API in memory: what is in it, and proxies that follow it.

In: an API in memory (the fixture ``kube``). Out: objects of a small mesh, a running controller
(the fixture ``running``), proxies that certify themselves and follow (the fixture ``follow``).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import aiohttp
import pytest

from fsm.controllers.main import Controller
from fsm.controllers.settings import ControllerSettings
from fsm.kube import TokenIdentity
from fsm.kube.resources import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    HTTPROUTEGROUPS,
    MESHCONFIGS,
    MUTATINGWEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    TRAFFICTARGETS,
    VALIDATINGWEBHOOKS,
)
from fsm.manifests.install import install_manifests
from fsm.settings import Delivery, Ports, Settings

BUYER, STORE = "bookbuyer", "bookstore"


def settings() -> ControllerSettings:
    mesh = Settings(ports=Ports(delivery=0, webhook=0, health=0), delivery=Delivery(coalesce_ms=5))
    return ControllerSettings(
        mesh=mesh, host="127.0.0.1", status_delay_s=0.01, status_settle_s=0.3, resync_s=5.0
    )


def install(kube) -> None:
    by_kind = {
        "Namespace": NAMESPACES,
        "ConfigMap": CONFIGMAPS,
        "MutatingWebhookConfiguration": MUTATINGWEBHOOKS,
        "ValidatingWebhookConfiguration": VALIDATINGWEBHOOKS,
    }
    for obj in install_manifests(Settings()):
        if obj["kind"] in by_kind:
            kube.put(by_kind[obj["kind"]], obj)


def workload(kube, name: str, ip: str) -> None:
    """A namespace of the mesh with one Service, one Pod behind it, and its token."""
    kube.put(
        NAMESPACES,
        {"metadata": {"name": name, "labels": {"flomesh.io/monitored-by": "fsm"}}},
    )
    kube.put(
        PODS,
        {
            "metadata": {
                "name": f"{name}-1",
                "namespace": name,
                "uid": f"uid-{name}",
                "labels": {"app": name, "fsm-proxy-uuid": "0-0"},
            },
            "spec": {"serviceAccountName": name, "containers": [{"name": "app"}]},
            "status": {
                "podIP": ip,
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        },
    )
    kube.put(
        SERVICES,
        {
            "metadata": {"name": name, "namespace": name},
            "spec": {
                "clusterIP": ip.replace("10.244", "10.96"),
                "selector": {"app": name},
                "ports": [{"name": "http", "port": 14001, "targetPort": 14001}],
            },
        },
    )
    kube.put(
        ENDPOINTSLICES,
        {
            "metadata": {
                "name": f"{name}-x",
                "namespace": name,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 14001, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [ip],
                    "conditions": {"ready": True},
                    "targetRef": {
                        "kind": "Pod",
                        "name": f"{name}-1",
                        "namespace": name,
                        "uid": f"uid-{name}",
                    },
                }
            ],
        },
    )
    kube.tokens[f"token-{name}"] = TokenIdentity(name, name, f"{name}-1", f"uid-{name}")


def smi_mode(kube) -> None:
    kube.put(
        MESHCONFIGS,
        {
            "metadata": {"name": "fsm-mesh-config", "namespace": "fsm-system", "generation": 1},
            "spec": {
                "traffic": {"enablePermissiveTrafficPolicyMode": False, "enableEgress": False}
            },
        },
    )


def routes(kube) -> None:
    kube.put(
        HTTPROUTEGROUPS,
        {
            "metadata": {"name": "routes", "namespace": STORE, "generation": 1},
            "spec": {"matches": [{"name": "buy", "pathRegex": "/buy", "methods": ["GET"]}]},
        },
    )


def target(kube, generation: int = 1, name: str = "allow") -> None:
    kube.put(
        TRAFFICTARGETS,
        {
            "metadata": {"name": name, "namespace": STORE, "generation": generation},
            "spec": {
                "destination": {"kind": "ServiceAccount", "name": STORE, "namespace": STORE},
                "sources": [{"kind": "ServiceAccount", "name": BUYER, "namespace": BUYER}],
                "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["buy"]}],
            },
        },
    )


@pytest.fixture
async def running(kube):
    """A running controller; its task is watched, so that a crash fails the test."""
    install(kube)
    controller = Controller(kube, settings())
    task = asyncio.create_task(controller.run())
    started = asyncio.create_task(controller.started.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    if task.done():
        await task
    assert controller.started.is_set()
    yield controller
    assert not task.done(), task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def follow(running, kube, make_proxy):
    """Start a proxy that certifies itself and follows its configuration."""
    tasks = []

    async def start(name: str):
        roots = base64.b64decode(
            kube.objects[SECRETS]["fsm-system", "fsm-ca-bundle"]["data"]["ca.crt"]
        ).decode()
        proxy = await make_proxy(
            running.ports["delivery"], roots, name, f"{name}-1", f"uid-{name}", f"token-{name}"
        )
        status, answer = await proxy.certify()
        assert status == 200, answer
        tasks.append(asyncio.create_task(proxy.follow()))
        return proxy

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ask(controller, path: str):
    url = f"http://127.0.0.1:{controller.ports['health']}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
        kind = response.content_type
        return response.status, json.loads(text) if kind == "application/json" else text


def last(proxy):
    return proxy.applied[-1][1] if proxy.applied else None
