"""What a client learns about this server before it asks for objects.

What comes in: the registry. What goes out: the documents at /api, /apis, /apis/GROUP/VERSION and
/version, in the plain and in the aggregated form.

Invariants: computed on each request from the registry, so a CRD shows at once; the order is stable.
Not done here: schemas (``openapi``).
Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import platform
from typing import Any

from fsm.standalone.apiserver.crds import version_order
from fsm.standalone.apiserver.registry import ApiResource, Registry

Json = dict[str, Any]

# The version whose API this subset follows; clients compare it with their own.
KUBERNETES_MINOR = 32

_SUBRESOURCE_KINDS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # name → group, version, kind, verbs; empty strings mean those of the resource itself
    "status": ("", "", "", ("get", "patch", "update")),
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "finalize": ("", "", "", ("update",)),
    "log": ("", "", "", ("get",)),
    "portforward": ("", "v1", "PodPortForwardOptions", ("create", "get")),
    "exec": ("", "v1", "PodExecOptions", ("create", "get")),
    "attach": ("", "v1", "PodAttachOptions", ("create", "get")),
    "proxy": ("", "", "", ("create", "delete", "get", "patch", "update")),
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
}


def version() -> Json:
    """Return the answer to /version."""
    return {
        "major": "1",
        "minor": str(KUBERNETES_MINOR),
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+fsm",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
    }


def api_versions(address: str) -> Json:
    """Return the answer to /api: the versions of the core group."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _ordered(found: list[str]) -> list[str]:
    return sorted(found, key=version_order)


def groups(registry: Registry) -> list[Json]:
    """List the groups, for /apis."""
    return [_group(name, _ordered(found)) for name, found in registry.versions().items() if name]


def group(registry: Registry, name: str) -> Json | None:
    """Describe one group, for /apis/GROUP."""
    found = registry.versions().get(name)
    if not name or not found:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name, _ordered(found))


def group_list(registry: Registry) -> Json:
    """Return the answer to /apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(registry)}


def _group(name: str, versions: list[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _in_version(registry: Registry, group: str, version: str) -> list[ApiResource]:
    return [r for r in registry if r.group == group and version in r.versions]


def resource_list(registry: Registry, group: str, version: str) -> Json | None:
    """Return the answer to /api/v1 and /apis/GROUP/VERSION, or ``None`` if unknown."""
    resources = _in_version(registry, group, version)
    if not resources:
        return None
    listed: list[Json] = []
    for resource in resources:
        entry: Json = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        listed.append(entry)
        for name, (sub_group, sub_version, kind, verbs) in _subresources(resource):
            sub: Json = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind or resource.kind,
                "verbs": list(verbs),
            }
            if sub_version:
                sub |= {"group": sub_group, "version": sub_version}
            listed.append(sub)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


def _subresources(
    resource: ApiResource,
) -> list[tuple[str, tuple[str, str, str, tuple[str, ...]]]]:
    return [(name, _SUBRESOURCE_KINDS[name]) for name in sorted(resource.subresources)]


def aggregated(registry: Registry, *, core: bool, api: str) -> Json:
    """Return all groups with all their resources in one document.

    Args:
        registry: what is served.
        core: for /api (only the core group) or for /apis (all others).
        api: version of the apidiscovery.k8s.io API that the client asked for.
    """
    items: list[Json] = []
    for name, found in registry.versions().items():
        if bool(name) == core:
            continue
        versions = [_aggregated_version(registry, name, v) for v in _ordered(found)]
        items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{api}",
        "metadata": {},
        "items": items,
    }


def _aggregated_version(registry: Registry, group: str, version: str) -> Json:
    def kind_of(g: str, v: str, k: str) -> Json:
        return {"group": g, "version": v, "kind": k}

    listed: list[Json] = []
    for resource in _in_version(registry, group, version):
        entry: Json = {
            "resource": resource.plural,
            "responseKind": kind_of(group, version, resource.kind),
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        subs = [
            {
                "subresource": name,
                "responseKind": kind_of(g, v, k) if v else kind_of(group, version, resource.kind),
                "verbs": list(verbs),
            }
            for name, (g, v, k, verbs) in _subresources(resource)
        ]
        if subs:
            entry["subresources"] = subs
        listed.append(entry)
    return {"version": version, "freshness": "Current", "resources": listed}
