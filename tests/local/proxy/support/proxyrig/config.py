"""Configurations for tests, in the contract's form (``contract/proxy-config.schema.json``).

Each function gives a part or a whole; a test changes what it is about and leaves the rest alone.
"""

from __future__ import annotations

import itertools
from typing import Any

Json = dict[str, Any]

_versions = itertools.count(1)


def version() -> str:
    """Give a version that no other configuration has."""
    return f"v{next(_versions)}"


def endpoint(address: Any, identity: str | None = None, weight: int = 1) -> Json:
    """Give an endpoint; with an identity it is reached over mutual TLS."""
    return {"address": str(address), "weight": weight, "identity": identity}


def cluster(*endpoints: Json, **changes: Any) -> Json:
    """Give a cluster of endpoints."""
    return {"origin": "Service/shop/app", "endpoints": list(endpoints), **changes}


def route(*targets: tuple[str, int], **changes: Any) -> Json:
    """Give a route that fits everything, to these clusters with these weights."""
    clusters = [
        {"cluster": name, "weight": weight, "origin": "TrafficSplit/shop/split"}
        for name, weight in targets or (("app", 100),)
    ]
    return {
        "origin": "HTTPRouteGroup/shop/routes#all",
        "path": {"prefix": "/"},
        "clusters": clusters,
        **changes,
    }


def host(*routes: Json, names: tuple[str, ...] = ("*",)) -> Json:
    """Give a virtual host."""
    return {
        "names": list(names),
        "service": "shop/app",
        "origin": "Service/shop/app",
        "routes": list(routes),
    }


def http_match(port: int, *hosts: Json, **changes: Any) -> Json:
    """Give a match for HTTP on a port."""
    return {
        "port": port,
        "protocol": "http",
        "origin": "Service/shop/app",
        "hosts": list(hosts),
        **changes,
    }


def tcp_match(port: int, target: str = "app", **changes: Any) -> Json:
    """Give a match for TCP on a port."""
    rule: Json = {
        "origin": "TCPRoute/shop/app",
        "service": "shop/app",
        "clusters": [{"cluster": target, "weight": 100}],
    }
    if "allowed" in changes:
        rule["allowed"] = changes.pop("allowed")
    return {
        "port": port,
        "protocol": "tcp",
        "origin": "Service/shop/app",
        "tcp": rule,
        **changes,
    }


def whole(**parts: Any) -> Json:
    """Give a configuration with a new version that logs everything."""
    return {
        "version": version(),
        "identity": "spiffe://cluster.local/ns/shop/sa/client",
        "workload": {
            "namespace": "shop",
            "kind": "Deployment",
            "name": "client",
            "pod": "client-0",
            "service_account": "client",
        },
        "telemetry": {"access_log": "all"},
        **parts,
    }


def plain(port: int, address: Any, *routes: Json, **parts: Any) -> Json:
    """Carry every request that comes to the outbound port to one address, in plain text."""
    return whole(
        outbound={"matches": [http_match(port, host(*(routes or (route(),))))]},
        clusters={"app": cluster(endpoint(address))},
        **parts,
    )


def allow(*identities: str) -> list[Json]:
    """Allow these identities."""
    return [
        {"identity": identity, "origin": f"TrafficTarget/shop/{identity.rpartition('/')[2]}"}
        for identity in identities
    ]
