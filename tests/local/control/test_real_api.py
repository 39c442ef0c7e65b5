"""The controller against the embedded API server: real watches, tokens, statuses, webhooks, a kill.

The test holds the listening socket and lends it to the server, so that a server that is killed
comes back at the same address and nobody needs a fixed port.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import socket
import sys

import pytest

from fsm.controllers.main import Controller
from fsm.controllers.settings import ControllerSettings
from fsm.kube import Invalid, KubeClient
from fsm.kube.resources import (
    CONFIGMAPS,
    CRDS,
    HTTPROUTEGROUPS,
    MESHCONFIGS,
    MUTATINGWEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    TRAFFICTARGETS,
    VALIDATINGWEBHOOKS,
)
from fsm.manifests import crds
from fsm.manifests.install import install_manifests
from fsm.settings import Delivery, Ports, Settings

KINDS = {
    found.kind: found
    for found in (
        NAMESPACES,
        SERVICEACCOUNTS,
        CONFIGMAPS,
    )
}
WEBHOOKS = {found.kind: found for found in (SERVICES, MUTATINGWEBHOOKS, VALIDATINGWEBHOOKS)}


class ApiServer:
    """The embedded API server as a process that tests may kill and start again."""

    def __init__(self, state_dir) -> None:
        self.state_dir = state_dir
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.log = (state_dir.parent / "apiserver.log").open("ab")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        number = self.listener.fileno()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fsm.standalone.apiserver",
            "--state-dir",
            str(self.state_dir),
            "--listen-fd",
            str(number),
            # Loopback, so that Services can be reached here, where nobody plays kube-proxy.
            "--service-cidr",
            "127.96.0.0/16",
            pass_fds=[number],
            stderr=self.log,
        )
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Exception):
                    async with KubeClient.from_kubeconfig(self.kubeconfig) as client:
                        await client.raw_get("/readyz")
                        return
                assert self.process.returncode is None, "the API server ended"
                await asyncio.sleep(0.02)

    @property
    def kubeconfig(self):
        return self.state_dir / "kubeconfig"

    async def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def close(self) -> None:
        if self.process and self.process.returncode is None:
            await self.kill()
        self.listener.close()
        self.log.close()


@pytest.fixture
async def api(tmp_path):
    server = ApiServer(tmp_path / "state")
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@pytest.fixture
async def client(api):
    async with KubeClient.from_kubeconfig(api.kubeconfig) as found:
        yield found


async def install(client, kinds, ports: Ports | None = None) -> None:
    for obj in install_manifests(Settings(ports=ports or Ports())):
        if obj["kind"] in kinds:
            meta = obj["metadata"]
            await client.patch(
                kinds[obj["kind"]], meta["name"], obj, meta.get("namespace"), kind="apply"
            )


@pytest.fixture
async def controller(client):
    for crd in crds():
        await client.create(CRDS, crd)
    await install(client, KINDS)
    mesh = Settings(ports=Ports(delivery=0, webhook=0, health=0), delivery=Delivery(coalesce_ms=5))
    made = Controller(client, ControllerSettings(mesh=mesh, host="0.0.0.0", status_delay_s=0.01))
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        waiting = asyncio.create_task(made.started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    yield made
    assert not task.done(), task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def make_pod(client, namespace: str) -> tuple[dict, str]:
    """Make a namespace of the mesh with a Pod, as far as an API server alone can; its token."""
    await client.create(
        NAMESPACES,
        {"metadata": {"name": namespace, "labels": {"flomesh.io/monitored-by": "fsm"}}},
    )
    await client.create(SERVICEACCOUNTS, {"metadata": {"name": "web"}}, namespace)
    pod = await client.create(
        PODS,
        {
            "metadata": {"name": "web-1", "labels": {"app": "web", "fsm-proxy-uuid": "0"}},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "a", "image": "a"}]},
        },
        namespace,
    )
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web-1", "uid": pod["metadata"]["uid"]}
    answer = await client.request(
        "POST",
        SERVICEACCOUNTS.path(namespace, "web", "token"),
        "issue a token",
        body={
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": ["fsm-controller"],
                "expirationSeconds": 600,
                "boundObjectRef": bound,
            },
        },
    )
    return pod, answer["status"]["token"]


async def roots_of(client) -> str:
    secret = await client.get(SECRETS, "fsm-ca-bundle", "fsm-system")
    return base64.b64decode(secret["data"]["ca.crt"]).decode()


def route_group(name: str, regex: str) -> dict:
    match = {"name": "m", "pathRegex": regex, "methods": ["GET"]}
    return {"metadata": {"name": name}, "spec": {"matches": [match]}}


async def test_the_controller_works_with_the_embedded_api_and_survives_its_death(
    api, client, controller, make_proxy, wait_until
):
    pod, token = await make_pod(client, "shop")
    roots = await roots_of(client)
    proxy = await make_proxy(
        controller.ports["delivery"], roots, "shop", "web-1", pod["metadata"]["uid"], token
    )
    await wait_until(lambda: controller.world.monitored("shop"))
    status, answer = await proxy.certify()
    assert (status, answer.get("identity")) == (200, "spiffe://cluster.local/ns/shop/sa/web"), (
        answer
    )
    proxy.token = "x" + token
    assert (await proxy.certify())[0] == 401
    proxy.token = token
    following = asyncio.create_task(proxy.follow())
    await wait_until(lambda: proxy.applied, "a first configuration")

    # A policy with nothing behind it says so in its status.
    target = {
        "metadata": {"name": "t"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
            "sources": [{"kind": "ServiceAccount", "name": "buyer", "namespace": "shop"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["m"]}],
        },
    }
    await client.create(TRAFFICTARGETS, target, "shop")

    async def condition(kind: str) -> dict:
        async with asyncio.timeout(10):
            while True:
                found = await client.get(TRAFFICTARGETS, "t", "shop")
                for entry in (found.get("status") or {}).get("conditions") or []:
                    if entry["type"] == kind:
                        return entry
                await asyncio.sleep(0.01)

    assert (await condition("Accepted"))["status"] == "True"
    programmed = await condition("Programmed")
    assert (programmed["status"], "routes" in programmed["message"]) == ("False", True)

    # Killed, the API takes nothing with it; back again, changes flow again.
    await api.kill()
    assert (await proxy.poll(version="x"))[0] == 200
    await api.start()
    before = len(proxy.applied)
    spec = {"spec": {"traffic": {"enableEgress": False}}}
    async with asyncio.timeout(20):
        await client.patch(MESHCONFIGS, "fsm-mesh-config", spec, "fsm-system")
    await wait_until(lambda: len(proxy.applied) > before, "the change after the restart", 30)
    assert (await proxy.certify())[0] == 200, "the token is still good"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_webhooks_work_through_the_embedded_api(client, controller, wait_until):
    # MeshConfig is made before the webhook that would check it can be reached.
    await wait_until(lambda: controller.world.object(MESHCONFIGS, "fsm-system", "fsm-mesh-config"))
    await install(client, WEBHOOKS, Ports(webhook=controller.ports["webhook"]))
    roots = base64.b64encode((await roots_of(client)).encode()).decode()
    for resource, name in (
        (MUTATINGWEBHOOKS, "fsm-webhook-fsm"),
        (VALIDATINGWEBHOOKS, "fsm-validator-mesh-fsm"),
    ):
        async with asyncio.timeout(10):
            while True:
                found = await client.get(resource, name)
                if {w["clientConfig"].get("caBundle") for w in found["webhooks"]} == {roots}:
                    break
                await asyncio.sleep(0.01)
    await client.create(
        NAMESPACES,
        {
            "metadata": {
                "name": "shop",
                "labels": {"flomesh.io/monitored-by": "fsm"},
                "annotations": {"flomesh.io/sidecar-injection": "enabled"},
            }
        },
    )
    await wait_until(lambda: controller.world.monitored("shop"))
    pod = {
        "metadata": {"name": "web-1"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    made = await client.create(PODS, pod, "shop")
    assert [c["name"] for c in made["spec"]["initContainers"]] == ["fsm-init", "sidecar"]
    assert made["metadata"]["labels"]["fsm-proxy-uuid"]
    pod["metadata"] = {"name": "web-2", "annotations": {"flomesh.io/sidecar-injection": "nope"}}
    with pytest.raises(Exception, match="'nope'; it may be enabled"):
        await client.create(PODS, pod, "shop")
    await client.create(HTTPROUTEGROUPS, route_group("good", "/buy"), "shop")
    with pytest.raises(Invalid, match=r"spec\.matches\[0\]\.pathRegex"):
        await client.create(HTTPROUTEGROUPS, route_group("bad", "(?=x)"), "shop")
    config = {"spec": {"certificate": {"serviceCertValidityDuration": "1s"}}}
    with pytest.raises(Invalid, match="too short"):
        await client.patch(MESHCONFIGS, "fsm-mesh-config", config, "fsm-system")
