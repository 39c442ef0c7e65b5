"""Configurations as the compiler makes them are samples of the contract, so the proxy's tests read
them too. They show whoever looks what the bookstore becomes.

``FSM_REFRESH_SAMPLES=1`` in the environment writes them anew; look at the difference before you
commit.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World, bookstore, bookstore_access, port

from fsm.compile.contract import ProxyConfig

SAMPLES = Path(__file__).parents[3] / "contract" / "samples" / "valid"


def shop() -> World:
    world = bookstore_access(bookstore(), "bookbuyer")
    return world.split(
        "bookstore", "bookstore-split", "bookstore", {"bookstore-v1": 50, "bookstore-v2": 50}
    )


def permissive_mixed() -> World:
    world = World().namespace("shop").mesh(permissive=True, egress=False, mode="mixed")
    world.pod("shop", "clerk")
    world.pod("shop", "db-0", account="db", labels={"app": "db"}, hostname="db-0")
    world.service("shop", "db", port(3306, app="tcp"), headless=True)
    return world.workload("shop", "till", port(80, 8080, name="grpc"), sidecar=False)


def egress() -> World:
    flags = {"enableEgressPolicy": True}
    world = World().namespace("curl").mesh(permissive=False, egress=False, featureFlags=flags)
    world.pod("curl", "curl")
    world.group("curl", "reads", {"name": "get", "pathRegex": "/get"})
    source = {"kind": "ServiceAccount", "name": "curl", "namespace": "curl"}
    http = {"number": 80, "protocol": "http"}
    ports = [http, {"number": 443, "protocol": "https"}, {"number": 8443, "protocol": "tcp"}]
    spec = {
        "sources": [source],
        "hosts": ["httpbin.org"],
        "ports": ports,
        "matches": [{"kind": "HTTPRouteGroup", "name": "reads"}],
    }
    return world.policy("Egress", "policy.flomesh.io/v1alpha1", "curl", "httpbin", spec)


COMPILED: dict[str, Callable[[], ProxyConfig]] = {
    "compiled-bookbuyer": lambda: shop().compile("bookbuyer", "bookbuyer"),
    "compiled-bookstore-v1": lambda: shop().compile("bookstore", "bookstore-v1"),
    "compiled-bookthief": lambda: shop().compile("bookthief", "bookthief"),
    "compiled-egress": lambda: egress().compile("curl", "curl"),
    "compiled-permissive-mixed": lambda: permissive_mixed().compile("shop", "clerk"),
}


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_the_sample_is_what_the_compiler_makes(name: str) -> None:
    compiled = json.loads(COMPILED[name]().to_json())
    file = SAMPLES / f"{name}.json"
    if os.environ.get("FSM_REFRESH_SAMPLES"):
        file.write_text(json.dumps(compiled, indent=1) + "\n")
    assert json.loads(file.read_text()) == compiled, (
        f"{file.name} is stale; FSM_REFRESH_SAMPLES=1 pytest {Path(__file__).name} writes it anew"
    )
