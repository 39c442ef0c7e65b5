"""All kinds that the API server has now, by asking it: built-in ones and those of CRDs.

What comes in: the discovery documents. What goes out: ``Resource`` values, one per kind in its
preferred version. Invariant: a group whose document cannot be read is an error, not an empty group:
who empties a namespace must not take "could not ask" for "nothing there".
"""

from __future__ import annotations

from typing import Any

from fsm.kube import KubeClient
from fsm.kube.resources import Resource


async def deletable_kinds(client: KubeClient, *, namespaced: bool) -> list[Resource]:
    """List the kinds whose objects can be listed and deleted.

    Raises:
        ApiError: the server does not say.
    """
    versions = ["v1"]
    groups = await client.request("GET", "/apis", "list the API groups")
    for group in groups.get("groups") or []:
        preferred = group.get("preferredVersion") or (group.get("versions") or [{}])[0]
        versions.append(str(preferred.get("groupVersion", "")))
    found = []
    for version in versions:
        found += _kinds_in(await _document(client, version), version, namespaced)
    return found


async def _document(client: KubeClient, version: str) -> dict[str, Any]:
    path = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return await client.request("GET", path, f"list the kinds of {version}")


def _kinds_in(document: dict[str, Any], version: str, namespaced: bool) -> list[Resource]:
    group, _, number = version.rpartition("/")
    return [
        Resource(group, number, entry["name"], entry["kind"], namespaced)
        for entry in document.get("resources") or []
        if "/" not in entry["name"]
        and bool(entry.get("namespaced")) == namespaced
        and {"delete", "list"} <= set(entry.get("verbs") or [])
    ]
