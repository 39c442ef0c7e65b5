"""Applies manifests to a cluster and waits until they have taken effect.

What comes in: documents of Kubernetes objects. What goes out: the same objects in the cluster, by
server-side apply, so that applying twice changes nothing and others' fields stay.

Invariants: kinds are looked up in the cluster's own discovery, never guessed; every wait has a
deadline and says at the end what it was still waiting for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient, Resource

Object = dict[str, Any]

POLL_S = 0.05
"""Pause between two looks at something that is about to happen, in seconds."""


class Applier:
    """Applies objects with one client; remembers which kinds the cluster serves."""

    def __init__(self, client: KubeClient, field_manager: str = "fsm") -> None:
        self._client = client
        self._manager = field_manager
        self._served: dict[str, dict[str, Resource]] = {}

    async def apply(self, objects: Iterable[Object], namespace: str = "default") -> list[Object]:
        """Apply objects in their order and return them as the cluster keeps them.

        Raises:
            Failure: a document is not an object, or the cluster does not serve its kind.
            ApiError: the cluster refuses an object.
        """
        return [await self._apply_one(obj, namespace) for obj in objects]

    async def delete(self, objects: Iterable[Object], namespace: str = "default") -> None:
        """Delete objects; one that is not there is as good as deleted."""
        from fsm.kube import NotFound

        for obj in objects:
            resource, name = await self._resource(obj)
            try:
                await self._client.delete(resource, name, _namespace(obj, namespace))
            except NotFound:
                continue

    async def _apply_one(self, obj: Object, namespace: str) -> Object:
        resource, name = await self._resource(obj)
        where = _namespace(obj, namespace) if resource.namespaced else None
        return await self._client.patch(
            resource, name, obj, where, kind="apply", field_manager=self._manager
        )

    async def _resource(self, obj: Object) -> tuple[Resource, str]:
        version, kind = obj.get("apiVersion"), obj.get("kind")
        name = (obj.get("metadata") or {}).get("name")
        if not all(isinstance(word, str) and word for word in (version, kind, name)):
            raise Failure("a manifest lacks its apiVersion, kind or metadata.name")
        kinds = await self._kinds(str(version))
        if str(kind) not in kinds:
            raise Failure(
                f"{kind} {name}: the cluster serves no kind {kind} in {version}",
                hint="is the mesh installed? (`fsm up`, `fsm install`)",
            )
        return kinds[str(kind)], str(name)

    async def _kinds(self, api_version: str) -> dict[str, Resource]:
        from fsm.kube import NotFound, Resource

        if api_version not in self._served:
            group, _, version = api_version.rpartition("/")
            path = f"/apis/{api_version}" if group else f"/api/{api_version}"
            try:
                found = json.loads(await self._client.raw_get(path)).get("resources") or []
            except NotFound:
                found = []
            self._served[api_version] = {
                entry["kind"]: Resource(
                    group, version, entry["name"], entry["kind"], bool(entry["namespaced"])
                )
                for entry in found
                if "/" not in entry["name"]
            }
            if not found:
                return self._served.pop(api_version)
        return self._served[api_version]


async def until_established(client: KubeClient, crds: Iterable[Object], timeout_s: float) -> None:
    """Wait until the cluster serves the kinds that ``crds`` define.

    Raises:
        Failure: some are not served after ``timeout_s`` seconds.
    """
    from fsm.kube import NotFound
    from fsm.kube.resources import CRDS

    waiting = {crd["metadata"]["name"] for crd in crds}
    deadline = time.monotonic() + timeout_s
    while waiting:
        for name in sorted(waiting):
            try:
                conditions = (await client.get(CRDS, name)).get("status", {}).get("conditions", [])
            except NotFound:
                continue
            if _is_true(conditions, "Established"):
                waiting.discard(name)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(sorted(waiting))
            raise Failure(
                f"not served after {timeout_s:g} s: {names}",
                hint="see the conditions in `kubectl get crd NAME -o yaml`",
                code=ExitCode.TIMEOUT,
            )
        if waiting:
            await asyncio.sleep(POLL_S)


async def until_rolled_out(
    client: KubeClient, namespace: str, names: Iterable[str], timeout_s: float
) -> None:
    """Wait until each Deployment has all its Pods, of its newest template, ready.

    Raises:
        Failure: some have not after ``timeout_s`` seconds; tells what their Pods say.
    """
    from fsm.kube.resources import DEPLOYMENTS

    waiting = list(names)
    deadline = time.monotonic() + timeout_s
    while True:
        waiting = [
            n for n in waiting if not _rolled_out(await client.get(DEPLOYMENTS, n, namespace))
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            why = await explain_pods(client, namespace)
            raise Failure(
                f"Deployment {namespace}/{', '.join(waiting)} is not ready after {timeout_s:g} s"
                + (f": {why}" if why else ""),
                hint=f"see `kubectl describe pods -n {namespace}` and the Pods' logs",
                code=ExitCode.TIMEOUT,
            )
        await asyncio.sleep(POLL_S)


async def until_exists(
    client: KubeClient, resource: Resource, name: str, namespace: str, timeout_s: float
) -> Object:
    """Wait until an object that somebody else makes is there, and return it.

    Raises:
        Failure: it is not there after ``timeout_s`` seconds.
    """
    from fsm.kube import NotFound

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return await client.get(resource, name, namespace)
        except NotFound as error:
            if time.monotonic() > deadline:
                raise Failure(
                    f"{resource.kind} {namespace}/{name} is not there after {timeout_s:g} s",
                    hint=f"see `kubectl logs -n {namespace} deploy/fsm-controller`",
                    code=ExitCode.TIMEOUT,
                ) from error
        await asyncio.sleep(POLL_S)


async def explain_pods(client: KubeClient, namespace: str) -> str:
    """Return in words why Pods of a namespace are not ready; empty when they say nothing."""
    from fsm.kube.resources import PODS

    reasons: list[str] = []
    for pod in (await client.list(PODS, namespace)).items:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        if _is_true(status.get("conditions", []), "Ready"):
            continue
        words = [w for w in (status.get("reason"), status.get("message")) if w]
        for part in ("initContainerStatuses", "containerStatuses"):
            for container in status.get(part, []):
                waiting = container.get("state", {}).get("waiting")
                if waiting:
                    text = f"{container['name']} {waiting.get('reason', 'waits')}"
                    words.append(f"{text} {waiting.get('message', '')}".strip())
        reasons.append(f"Pod {name}: {'; '.join(words) or status.get('phase', 'Pending')}")
    return " · ".join(reasons)


def _rolled_out(deployment: Object) -> bool:
    wanted = deployment.get("spec", {}).get("replicas", 1)
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    counts = [status.get(k, 0) for k in ("updatedReplicas", "readyReplicas", "replicas")]
    return seen and all(count == wanted for count in counts)


def _is_true(conditions: list[Object], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _namespace(obj: Object, default: str) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or default)
