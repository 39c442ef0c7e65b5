"""The bookstore's story, from its own manifests in the versions of its document."""

from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from oracle import Mesh, Request
from world import World, bookstore, bookstore_access

MANIFESTS = Path(__file__).parents[3] / "examples" / "bookstore" / "manifests"
BUYER, THIEF = ("bookbuyer", "bookbuyer"), ("bookthief", "bookthief")
SHOP = ("bookstore", "bookstore")
BOUGHT = Request(
    "bookstore.bookstore:14001",
    "/books-bought",
    headers={"client-app": "bookbuyer", "user-agent": "Go-http-client/1.1"},
)
BUY = Request("bookstore.bookstore", "/buy-a-book/new")
HALF = Fraction(1, 2)


def shop(world: World, *sources: str, v1: int = 100, v2: int = 0) -> Mesh:
    if sources:
        bookstore_access(world, *sources)
    world.split("bookstore", "s", "bookstore.bookstore", {"bookstore-v1": v1, "bookstore-v2": v2})
    return Mesh(world)


def test_nobody_gets_in_by_default() -> None:
    mesh = shop(bookstore())
    assert mesh.name(BUYER, SHOP, 14001, BUY) == {"passthrough": 1}
    assert mesh.name(THIEF, SHOP, 14001, BUY) == {"passthrough": 1}


def test_a_connection_is_refused_at_once_when_egress_is_closed() -> None:
    mesh = shop(bookstore().mesh(egress=False))
    assert mesh.configs[BUYER].outbound is None  # type: ignore[index]
    assert mesh.name(BUYER, SHOP, 14001, BUY) == {"closed": 1}


def test_the_buyer_is_let_in_and_the_thief_is_not() -> None:
    mesh = shop(bookstore(), "bookbuyer")
    assert mesh.name(BUYER, SHOP, 14001, BUY) == {"bookstore/bookstore-v1": 1}
    assert mesh.name(BUYER, SHOP, 14001, BOUGHT) == {"bookstore/bookstore-v1": 1}
    assert mesh.name(THIEF, SHOP, 14001, BUY) == {"passthrough": 1}


def test_a_route_that_was_not_granted_is_refused() -> None:
    mesh = shop(bookstore(), "bookbuyer")
    assert mesh.name(BUYER, SHOP, 14001, Request("bookstore.bookstore", "/reset")) == {"403": 1}
    post = Request("bookstore.bookstore", "/buy-a-book/new", "POST")
    assert mesh.name(BUYER, SHOP, 14001, post) == {"403": 1}
    anonymous = Request("bookstore.bookstore", "/books-bought")
    assert mesh.name(BUYER, SHOP, 14001, anonymous) == {"403": 1}


def test_the_thief_is_let_in_by_one_more_source() -> None:
    mesh = shop(bookstore(), "bookbuyer", "bookthief")
    assert mesh.name(THIEF, SHOP, 14001, BUY) == {"bookstore/bookstore-v1": 1}


@pytest.mark.parametrize(
    ("v1", "v2", "shares"),
    [
        (100, 0, {"bookstore/bookstore-v1": 1}),
        (50, 50, {"bookstore/bookstore-v1": HALF, "bookstore/bookstore-v2": HALF}),
        (0, 100, {"bookstore/bookstore-v2": 1}),
        (0, 0, {"bookstore/bookstore-v1": HALF, "bookstore/bookstore-v2": HALF}),
    ],
)
def test_the_split_is_as_it_is_written(v1: int, v2: int, shares: dict[str, Fraction]) -> None:
    mesh = shop(bookstore(), "bookbuyer", v1=v1, v2=v2)
    assert mesh.name(BUYER, SHOP, 14001, BUY) == shares


def test_a_version_can_still_be_called_by_its_own_name() -> None:
    mesh = shop(bookstore(), "bookbuyer", v1=0, v2=100)
    direct = Request("bookstore-v1.bookstore", "/buy-a-book/new")
    assert mesh.name(BUYER, ("bookstore", "bookstore-v1"), 14001, direct) == {
        "bookstore/bookstore-v1": 1
    }


def test_every_rule_says_where_it_comes_from() -> None:
    world = bookstore_access(bookstore(), "bookbuyer")
    world.split("bookstore", "split", "bookstore", {"bookstore-v1": 1, "bookstore-v2": 1})
    client = world.compile("bookbuyer", "bookbuyer")
    assert client.outbound is not None
    apex = next(m for m in client.outbound.matches if m.origin == "Service/bookstore/bookstore")
    route = apex.hosts[0].routes[0]
    group = "HTTPRouteGroup/bookstore/bookstore-service-routes"
    assert route.origin == f"{group}#buy-a-book"
    assert {c.origin for c in route.clusters} == {"TrafficSplit/bookstore/split"}
    server = world.compile("bookstore", "bookstore-v1")
    assert server.inbound is not None
    host = server.inbound.matches[0].hosts[0]
    assert host.service == "bookstore/bookstore-v1"
    assert "bookstore.bookstore" in host.names
    assert [(allow.identity, allow.origin) for allow in host.routes[0].allowed or ()] == [
        (
            "spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer",
            "TrafficTarget/bookstore/bookstore-v1",
        )
    ]


def test_the_examples_manifests_lead_the_buyer_to_the_shop_and_the_shop_to_the_warehouse() -> None:
    world = bookstore()
    folders = ("access", "apps", "bookstore-v2")
    for file in sorted(f for folder in folders for f in (MANIFESTS / folder).glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] in ("TrafficTarget", "HTTPRouteGroup", "TrafficSplit"):
                world.found[document["kind"]].append(document)
    mesh = Mesh(world)
    assert mesh.name(BUYER, SHOP, 14001, BOUGHT) == {"bookstore/bookstore-v1": 1}
    assert mesh.name(THIEF, SHOP, 14001, BUY) == {"passthrough": 1}
    restock = Request("bookwarehouse.bookwarehouse", "/restock-books", "POST")
    assert mesh.name(
        ("bookstore", "bookstore-v1"), ("bookwarehouse", "bookwarehouse"), 14001, restock
    ) == {"bookwarehouse/bookwarehouse": 1}
