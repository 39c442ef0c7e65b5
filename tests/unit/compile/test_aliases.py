"""ExternalName Services that point at a Service of the mesh are names for it, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from world import World, meta, port

from fsm.compile import Change, IncrementalCompiler
from fsm.compile.contract import ProxyConfig
from fsm.model import Key

POINTS_AT = "till.shop.svc.cluster.local"


def alias(namespace: str = "shop", name: str = "cashier", to: str = POINTS_AT, **note: str) -> Any:
    return {
        "metadata": meta(namespace, name, annotations=note),
        "spec": {"type": "ExternalName", "externalName": to, "selector": {}},
    }


def shop(*services: Any, permissive: bool = True) -> World:
    world = World().namespace("shop").namespace("home").mesh(permissive=permissive)
    world.workload("shop", "till", port(80, 8080)).workload("home", "client", port(90))
    world.group("shop", "g", {"name": "all"})
    world.target("t", ("shop", "till"), [("home", "client")], ("HTTPRouteGroup", "g", "all"))
    world.found["Service"] += services
    return world


def outbound_names(config: ProxyConfig) -> set[str]:
    assert config.outbound is not None
    return {name for m in config.outbound.matches for h in m.hosts for name in h.names}


def inbound_names(config: ProxyConfig) -> set[str]:
    assert config.inbound is not None
    return {name for m in config.inbound.matches for h in m.hosts for name in h.names}


@pytest.mark.parametrize("permissive", [True, False])
def test_an_alias_is_a_host_for_client_and_server(permissive: bool) -> None:
    world = shop(alias(), permissive=permissive)
    client = outbound_names(world.compile("home", "client"))
    assert {"cashier.shop", "cashier.shop:80", "cashier.shop.svc.cluster.local"} <= client
    assert "cashier" not in client, "the short name is for its own namespace"
    server = inbound_names(world.compile("shop", "till"))
    assert {"cashier", "cashier.shop", "cashier.shop.svc:80"} <= server


@pytest.mark.parametrize("permissive", [True, False])
def test_an_alias_in_the_clients_own_namespace_may_be_short(permissive: bool) -> None:
    world = shop(alias("home", "pay"), permissive=permissive)
    assert {"pay", "pay:80", "pay.home"} <= outbound_names(world.compile("home", "client"))


@pytest.mark.parametrize(
    "obj",
    [
        alias(to="example.com"),
        alias(to="till.shop"),
        alias(to="till.shop.svc.other.domain"),
        alias(to=""),
        alias(to="..svc"),
        alias(**{"flomesh.io/service-exclusion": "true"}),
        alias("attic"),
    ],
    ids=lambda obj: obj["spec"]["externalName"] or "nowhere",
)
def test_what_points_elsewhere_or_does_not_count_is_no_alias(obj: Any) -> None:
    assert "cashier.shop" not in outbound_names(shop(obj).compile("home", "client"))


def test_an_alias_that_comes_and_goes_changes_what_it_is_about() -> None:
    world = shop()
    compiler = IncrementalCompiler(world.settings)
    uids = list(compiler.begin(world.objects(), trust_roots=world.roots).pods_by_uid)
    without = {uid: compiler.compile(uid) for uid in uids}
    key = Key("home", "pay")
    for obj in (alias("home", "pay"), None):
        compiler.update([Change("Service", key, obj)], trust_roots=world.roots)
        if obj is not None:
            world.found["Service"].append(obj)
        else:
            world.found["Service"].pop()
        for namespace, name in (("home", "client"), ("shop", "till")):
            text = compiler.compile(f"uid-{namespace}-{name}")
            assert text is not None
            assert text.to_json() == world.compile(namespace, name).to_json()
    assert {uid: compiler.compile(uid) for uid in uids} == without
