"""The control planes that a cluster runs, and what each says of itself on port 9091.

What comes in: a client. What goes out: ``ControlPlane`` values, their versions, the proxies they
serve. A control plane is a Deployment with the label ``app=fsm-controller``; the mesh it serves is
the value of its label ``app.kubernetes.io/instance``.

Not done here: printing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsm.cli import options, runner
from fsm.cli.errors import ExitCode, Failure
from fsm.cli.podhttp import PodHttp

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.settings import Settings

CONTROLLER_LABEL = "app=fsm-controller"
LEASE = "fsm-controller"
"""Held by the replica that writes."""
HEALTH_PORT = 9091


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """One control plane, as its Deployment describes it."""

    mesh: str
    namespace: str
    version: str
    ready: bool


async def find(client: KubeClient, namespace: str | None = None) -> list[ControlPlane]:
    """Return the control planes of ``namespace``, or of the whole cluster."""
    from fsm.kube.resources import DEPLOYMENTS

    found = await client.list(DEPLOYMENTS, namespace, labels=CONTROLLER_LABEL)
    return [_plane(deployment) for deployment in found.items]


async def require(client: KubeClient, mesh: str) -> ControlPlane:
    """Return the control plane of ``mesh``.

    Raises:
        Failure: there is none; names those that are there.
    """
    planes = await find(client)
    for plane in planes:
        if plane.mesh == mesh:
            return plane
    known = ", ".join(plane.mesh for plane in planes)
    raise Failure(
        f"mesh {mesh!r} does not exist" + (f" (there is: {known})" if known else ""),
        hint="install one with `fsm up` (this machine) or `fsm install` (a cluster)"
        if not known
        else "choose one with --mesh-name",
    )


async def settings(client: KubeClient, namespace: str) -> Settings | None:
    """Return what the control plane of ``namespace`` was started with; ``None``: there is none."""
    from fsm.controllers.settings import ControllerSettings
    from fsm.kube.resources import DEPLOYMENTS

    for deployment in (await client.list(DEPLOYMENTS, namespace, labels=CONTROLLER_LABEL)).items:
        (container, *_) = deployment["spec"]["template"]["spec"]["containers"]
        environ = {v["name"]: v["value"] for v in container.get("env") or [] if "value" in v}
        return ControllerSettings.from_environment(environ, fsm_namespace=namespace).mesh
    return None


async def controller_pods(client: KubeClient, namespace: str) -> list[str]:
    """Name the replicas of the control plane that run, the one that writes first.

    Raises:
        Failure: none runs.
    """
    from fsm.kube import NotFound
    from fsm.kube.resources import LEASES, PODS

    pods = (await client.list(PODS, namespace, labels=CONTROLLER_LABEL)).items
    running = [
        str(p["metadata"]["name"])
        for p in pods
        if p.get("status", {}).get("phase") == "Running"
        and not p["metadata"].get("deletionTimestamp")
    ]
    if not running:
        raise Failure(
            f"no control plane runs in namespace {namespace}",
            hint=f"see `kubectl get pods -n {namespace}`",
            code=ExitCode.NO_MESH,
        )
    if len(running) == 1:
        return running
    try:
        lease = await client.get(LEASES, LEASE, namespace)
    except NotFound:
        return sorted(running)
    holder = (lease.get("spec") or {}).get("holderIdentity")
    return sorted(running, key=lambda name: (name != holder, name))


async def controller_http(client: KubeClient, namespace: str) -> PodHttp:
    """Return a door to port 9091 of the controller that writes.

    Raises:
        Failure: none runs.
    """
    pods = await controller_pods(client, namespace)
    return PodHttp(client, namespace, pods[0], HEALTH_PORT)


async def every_controller(client: KubeClient, namespace: str) -> list[PodHttp]:
    """Return doors to port 9091 of all replicas, the one that writes first.

    Raises:
        Failure: none runs.
    """
    pods = await controller_pods(client, namespace)
    return [PodHttp(client, namespace, pod, HEALTH_PORT) for pod in pods]


async def report(client: KubeClient, namespace: str, path: str) -> Any:
    """Return the JSON that the controller that writes answers at ``path``."""
    http = await controller_http(client, namespace)
    try:
        return await http.get_json(path)
    finally:
        await http.close()


async def certificates(client: KubeClient, namespace: str) -> dict[str, Any]:
    """Return what the replica that writes says of roots, with the proxies of all replicas."""
    told: list[dict[str, Any]] = []
    for http in await every_controller(client, namespace):
        try:
            told.append(dict(await http.get_json("/certs")))
        finally:
            await http.close()
    found, *others = told
    known = {proxy["name"]: proxy for proxy in found.get("proxies", [])}
    for proxy in (proxy for other in others for proxy in other.get("proxies", [])):
        before = known.get(proxy["name"])
        if before is None or _shown(proxy) > _shown(before):
            known[proxy["name"]] = proxy
    return {**found, "proxies": [known[name] for name in sorted(known)]}


def _shown(proxy: dict[str, Any]) -> tuple[bool, float]:
    # Of two certificates the one that was issued last ends last, and is the one in use.
    return bool(proxy.get("connected")), float(proxy.get("not_after") or 0)


async def proxies(client: KubeClient, namespace: str) -> list[dict[str, Any]]:
    """Return what is known of every proxy: of each, by the replica that heard of it last."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for http in await every_controller(client, namespace):
        try:
            rows = list((await http.get_json("/proxies"))["proxies"])
        finally:
            await http.close()
        for row in rows:
            key = (row["namespace"], row["pod"], row["uid"])
            before = found.get(key)
            if before is None or _heard(row) > _heard(before):
                found[key] = row
    return [found[key] for key in sorted(found)]


def _heard(row: dict[str, Any]) -> tuple[bool, float]:
    return bool(row.get("connected")), float(row.get("seen_at") or 0)


def versions(target: options.Target, timeout_s: float) -> list[dict[str, object]]:
    """Return what ``fsm version`` shows; empty when nothing answers in ``timeout_s`` seconds."""
    from fsm.kube import ApiError, ConfigError

    async def ask() -> list[dict[str, object]]:
        async with asyncio.timeout(timeout_s), target.client() as client:
            return [
                {"mesh": plane.mesh, "namespace": plane.namespace, "version": plane.version}
                for plane in await find(client)
            ]

    try:
        return runner.run(ask(), "asking the API")
    except (ApiError, ConfigError, TimeoutError, Failure):
        return []


def _plane(deployment: dict[str, Any]) -> ControlPlane:
    metadata = deployment["metadata"]
    labels = metadata.get("labels") or {}
    status = deployment.get("status") or {}
    return ControlPlane(
        mesh=str(labels.get("app.kubernetes.io/instance", "-")),
        namespace=str(metadata["namespace"]),
        version=str(labels.get("app.kubernetes.io/version", "-")),
        ready=int(status.get("readyReplicas") or 0) > 0,
    )
