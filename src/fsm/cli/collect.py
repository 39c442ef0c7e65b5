"""What a bug report holds: objects, statuses, logs, and what sidecars say of themselves.

What comes in: a target, and which Pods. What goes out: texts by file name.

    about.json  status.json  control-plane/{proxies,changes,metrics,log}  cluster/KIND.yaml
    namespaces/NAMESPACE/KIND.yaml
    namespaces/NAMESPACE/PODS/POD/{pod.yaml,sidecar.log,config_dump,stats,clusters,listeners,…}
    box/*.log

Invariants: every text has gone through ``redact``; each thing is tried by itself within a time
limit; logs are cut to their ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fsm.cli import box, kinds, planes, pods, redact, status
from fsm.cli.podhttp import PodHttp

if TYPE_CHECKING:
    from fsm.cli.install import Progress
    from fsm.cli.options import Target
    from fsm.kube import KubeClient, Resource

LOG_LINES = 2_000
"""LIMIT: lines of each log, from its end."""
ITEM_S = 15.0
"""LIMIT: seconds for one thing."""
AT_ONCE = 8
"""LIMIT: Pods that are looked at at the same time."""
QUERIES = ("config_dump", "stats", "clusters", "listeners", "ready", "certs")
CONTROLLER_PAGES = ("proxies", "changes", "metrics", "version", "health/ready")

Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of the mesh; nothing named means all of it."""

    namespaces: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()


class Collector:
    """Collects texts; what fails becomes a line of ``errors.txt``."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.texts: Texts = {}
        self._errors: list[str] = []

    async def add(self, name: str, make: Callable[[], Awaitable[str]]) -> None:
        """Collect one thing, or write down why it could not be."""
        try:
            async with asyncio.timeout(ITEM_S):
                self.texts[name] = redact.text(await make())
        except TimeoutError:
            self._errors.append(f"{name}: not within {ITEM_S:g} s")
        except Exception as error:
            # WHY everything: a report about a broken mesh meets broken things.
            self._errors.append(f"{name}: {redact.text(' '.join(str(error).split()))}")

    def finish(self) -> Texts:
        """Return all texts."""
        if self._errors:
            self.texts["errors.txt"] = "\n".join(self._errors) + "\n"
        return self.texts


async def everything(target: Target, wanted: Wanted, progress: Progress) -> Texts:
    """Collect what is wanted.

    Raises:
        Failure: there is nothing to talk to, or what is named is not there.
        ApiError: the API does not answer at all.
    """
    from fsm.kube.resources import PODS

    async with target.client() as client:
        collector = Collector(client)
        progress("looking at the mesh")
        named = [
            *[await pods.find(client, text, target.pod_namespace()) for text in wanted.pods],
            *[
                await pods.find(client, _as_deployment(text), target.pod_namespace())
                for text in wanted.deployments
            ],
        ]
        for namespace in wanted.namespaces:
            await pods.check_namespace(client, namespace)
        listed = (await client.list(PODS)).items
        members = await _members(client)
        chosen = named + [
            pod
            for pod in listed
            if pod["metadata"]["namespace"] in (wanted.namespaces or (() if named else members))
        ]
        await collector.add("about.json", lambda: _about(client))
        await collector.add("status.json", lambda: _status(target))
        progress("asking the control plane")
        await _control_plane(collector, target.fsm_namespace, listed)
        progress("reading objects")
        homes = sorted({p["metadata"]["namespace"] for p in chosen} | set(wanted.namespaces))
        await _objects(collector, [*homes, target.fsm_namespace])
        progress(f"asking the sidecars of {len(chosen)} Pods")
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(_pod(collector, pod, limit) for pod in chosen))
        if info := box.behind(client.connection.server):
            progress("reading the box's logs")
            for log in sorted((info.state_dir / "log").glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
                collector.texts[f"box/{log.name}"] = redact.text("\n".join(lines) + "\n")
        return collector.finish()


async def _members(client: KubeClient) -> set[str]:
    from fsm.controllers import namespaces

    return {found.name for found in await namespaces.list_(client) if found.mesh != "-"}


async def _about(client: KubeClient) -> str:
    import platform
    import sys

    import fsm

    version = json.loads(await client.raw_get("/version"))
    return _json(
        {
            "fsm": fsm.__version__,
            "python": sys.version,
            "platform": platform.platform(),
            "api": client.connection.server,
            "kubernetes": version,
        }
    )


async def _status(target: Target) -> str:
    return _json(redact.obj(await status.collect(target)))


async def _control_plane(
    collector: Collector, namespace: str, listed: list[dict[str, Any]]
) -> None:
    async def page(path: str) -> str:
        http = await planes.controller_http(collector.client, namespace)
        try:
            return (await http.get(f"/{path}")).body.decode(errors="replace")
        finally:
            await http.close()

    for path in CONTROLLER_PAGES:
        await collector.add(f"control-plane/{path.replace('/', '-')}.txt", partial(page, path))
    for pod in listed:
        if pod["metadata"]["namespace"] == namespace:
            await _logs(collector, pod, f"control-plane/{pod['metadata']['name']}")


async def _objects(collector: Collector, namespaces: list[str]) -> None:
    from fsm.kube import resources as core

    async def listed(resource: Resource, namespace: str | None) -> str:
        items = (await collector.client.list(resource, namespace)).items
        for item in items:
            item["metadata"].pop("managedFields", None)
        return _yaml(redact.obj(items))

    for resource in (core.NODES, core.NAMESPACES, core.MUTATINGWEBHOOKS, core.VALIDATINGWEBHOOKS):
        await collector.add(f"cluster/{resource.plural}.yaml", partial(listed, resource, None))
    per_namespace = (
        *(core.EVENTS, core.SERVICES, core.ENDPOINTSLICES, core.SERVICEACCOUNTS),
        *(core.DEPLOYMENTS, core.REPLICASETS, core.STATEFULSETS, core.JOBS, core.CONFIGMAPS),
        *(core.SECRETS, *kinds.resources()),
    )
    for namespace in dict.fromkeys(namespaces):
        for resource in per_namespace:
            await collector.add(
                f"namespaces/{namespace}/{resource.plural}.yaml",
                partial(listed, resource, namespace),
            )


async def _pod(collector: Collector, pod: dict[str, Any], limit: asyncio.Semaphore) -> None:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    folder = f"namespaces/{namespace}/pods/{name}"
    async with limit:
        pod["metadata"].pop("managedFields", None)
        collector.texts[f"{folder}/pod.yaml"] = redact.text(_yaml(redact.obj(pod)))
        await _logs(collector, pod, folder)
        if not pods.has_sidecar(pod):
            return
        http = PodHttp(collector.client, namespace, name, 15000)

        async def ask(query: str) -> str:
            answer = await http.get(f"/{query}")
            text = answer.body.decode(errors="replace")
            return text if answer.status == 200 else f"{answer.status} {text}"

        try:
            for query in QUERIES:
                await collector.add(f"{folder}/{query}.txt", partial(ask, query))
        finally:
            await http.close()


async def _logs(collector: Collector, pod: dict[str, Any], folder: str) -> None:
    """Collect the logs of sidecar and control plane; those of applications are their owners'."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        if container["name"] not in (pods.SIDECAR, "fsm-init", "fsm-controller"):
            continue

        async def read(which: str = container["name"]) -> str:
            stream = await collector.client.logs(namespace, name, which, tail=LOG_LINES)
            async with stream:
                parts = [part async for part in stream]
            return b"".join(parts).decode(errors="replace")

        await collector.add(f"{folder}/{container['name']}.log", read)


def _as_deployment(text: str) -> str:
    namespace, _, name = text.rpartition("/")
    return f"{namespace}/deploy/{name}" if namespace else f"deploy/{name}"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"


def _yaml(value: object) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text
