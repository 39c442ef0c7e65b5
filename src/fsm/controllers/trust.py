"""Tells others whom to believe: the public roots for sidecars, the CA bundle for webhooks.

What comes in: the namespaces of the mesh, webhook configurations. What goes out: a ConfigMap
``fsm-ca-bundle`` in each namespace (mounted by sidecars before they speak to us), and ``caBundle``
in our webhooks, whoever applied the manifests anew and emptied it.

Invariants: only public certificates; only objects of ours, by name; written only when different.
A namespace that leaves the mesh keeps its ConfigMap, because its running sidecars still use it.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any

from fsm.controllers.world import World
from fsm.kube import AlreadyExists, ApiError, Conflict, Informer, KubeClient, NotFound, Resource
from fsm.kube.resources import CONFIGMAPS, MUTATINGWEBHOOKS, VALIDATINGWEBHOOKS

log = logging.getLogger("fsm.trust")

ROOTS_KEY = "ca.crt"


class RootsEverywhere:
    """Keeps the ConfigMap with the public roots in every namespace of the mesh."""

    def __init__(
        self,
        client: KubeClient,
        world: World,
        name: str,
        mesh_name: str,
        roots: Callable[[], tuple[str, ...]],
    ) -> None:
        self._client = client
        self._world = world
        self._name = name
        self._mesh_name = mesh_name
        self._roots = roots
        self.informer = Informer(client, CONFIGMAPS, fields=f"metadata.name={name}")

    def lacking(self) -> list[str]:
        """Name the ConfigMaps that do not carry the roots of the moment (yet)."""
        data = {ROOTS_KEY: "".join(self._roots())}
        return [
            f"ConfigMap {namespace}/{self._name}"
            for namespace in self._world.monitored_namespaces()
            if not self._world.leaving(namespace)
            and (self.informer.get(namespace, self._name) or {}).get("data") != data
        ]

    async def reconcile(self) -> None:
        """Look at every namespace of the mesh and write what is missing or different.

        Raises:
            ApiError: it did not work in at least one of them; the others have it.
        """
        data = {ROOTS_KEY: "".join(self._roots())}
        failure: ApiError | None = None
        for namespace in self._world.monitored_namespaces():
            found = self.informer.get(namespace, self._name)
            if found is not None and found.get("data") == data:
                continue
            # Nothing can be created in a namespace that is being deleted, and nothing need be.
            if self._world.leaving(namespace):
                continue
            try:
                await self._write(namespace, data, exists=found is not None)
            except NotFound:
                log.debug("the namespace went away namespace=%s", namespace)
            except ApiError as error:
                failure = error
        if failure is not None:
            raise failure

    async def _write(self, namespace: str, data: dict[str, str], *, exists: bool) -> None:
        body: dict[str, Any] = {
            "metadata": {
                "name": self._name,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/name": "flomesh.io",
                    "app.kubernetes.io/instance": self._mesh_name,
                },
            },
            "data": data,
        }
        if not exists:
            try:
                await self._client.create(CONFIGMAPS, body, namespace)
                log.info("gave the public roots to namespace=%s", namespace)
                return
            except AlreadyExists:
                log.debug("the roots are there already namespace=%s", namespace)
        await self._client.patch(CONFIGMAPS, self._name, body, namespace)


class WebhookBundle:
    """Keeps ``caBundle`` in the webhooks that point at our Service."""

    def __init__(
        self,
        client: KubeClient,
        fsm_namespace: str,
        service: str,
        names: dict[Resource, str],
        roots: Callable[[], tuple[str, ...]],
    ) -> None:
        self._client = client
        self._place = (fsm_namespace, service)
        self._roots = roots
        self._names = names
        self.informers = {
            resource: Informer(client, resource, fields=f"metadata.name={name}")
            for resource, name in names.items()
        }

    def lacking(self) -> list[str]:
        """Name the webhook configurations that do not carry the roots of the moment (yet)."""
        bundle = self._bundle()
        return [
            f"{resource.kind} {self._names[resource]}"
            for resource, informer in self.informers.items()
            if (found := informer.get("", self._names[resource])) and self._patch(found, bundle)
        ]

    def _bundle(self) -> str:
        return base64.b64encode("".join(self._roots()).encode()).decode()

    async def reconcile(self) -> None:
        """Look at each webhook and patch those that do not know our roots."""
        bundle = self._bundle()
        for resource, informer in self.informers.items():
            name = self._names[resource]
            found = informer.get("", name)
            if found is None:
                continue
            patch = self._patch(found, bundle)
            if not patch:
                continue
            try:
                await self._client.patch(resource, name, patch, kind="json")
                log.info("gave the CA bundle to %s name=%s", resource.kind, name)
            except (Conflict, NotFound) as error:
                log.debug("%s changed meanwhile: %s", name, error)

    def _patch(self, configuration: dict[str, Any], bundle: str) -> list[dict[str, Any]]:
        patch: list[dict[str, Any]] = []
        for index, webhook in enumerate(configuration.get("webhooks") or []):
            client = webhook.get("clientConfig") or {}
            service = client.get("service") or {}
            if (service.get("namespace"), service.get("name")) != self._place:
                continue
            if client.get("caBundle") == bundle:
                continue
            path = f"/webhooks/{index}"
            # The list may have changed since we saw it; the test makes the index safe.
            patch.append({"op": "test", "path": f"{path}/name", "value": webhook.get("name")})
            patch.append({"op": "add", "path": f"{path}/clientConfig/caBundle", "value": bundle})
        return patch


def webhook_names(mesh_name: str) -> dict[Resource, str]:
    """Name the webhook configurations of a mesh."""
    return {
        MUTATINGWEBHOOKS: f"fsm-webhook-{mesh_name}",
        VALIDATINGWEBHOOKS: f"fsm-validator-mesh-{mesh_name}",
    }
