"""TrafficSplits: shares, matches, several splits, TCP, and shares that lead nowhere."""

from fractions import Fraction

import pytest
from oracle import Mesh, Request
from world import World, port

CLERK = ("shop", "clerk")
APEX = ("shop", "till")
Q1, Q3, HALF = Fraction(1, 4), Fraction(3, 4), Fraction(1, 2)


def shop(*, permissive: bool = True, app: str = "") -> World:
    world = World().namespace("shop").mesh(permissive=permissive)
    world.pod("shop", "clerk")
    for name in ("till-v1", "till-v2", "till"):
        world.workload("shop", name, port(80, app=app))
    return world


def granted(world: World, *names: str) -> World:
    world.group("shop", "g", {"name": "all"}).tcp_route("shop", "r")
    for name in names:
        world.target(
            name, ("shop", name), [CLERK], ("HTTPRouteGroup", "g", "all"), ("TCPRoute", "r")
        )
    return world


@pytest.mark.parametrize("permissive", [True, False])
def test_the_pods_of_the_apex_get_nothing_unless_they_are_listed(permissive: bool) -> None:
    world = granted(shop(permissive=permissive), "till", "till-v1", "till-v2")
    world.split("shop", "s", "till", {"till-v1": 75, "till-v2": 25})
    shares = {"shop/till-v1": Q3, "shop/till-v2": Q1}
    assert Mesh(world).name(CLERK, APEX, 80, Request("till.shop")) == shares


def test_the_apex_may_be_one_of_its_backends() -> None:
    world = shop().split("shop", "s", "till", {"till": 3, "till-v2": 1})
    shares = {"shop/till": Q3, "shop/till-v2": Q1}
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == shares


def test_tcp_is_shared_too() -> None:
    for permissive in (True, False):
        world = granted(shop(permissive=permissive, app="tcp"), "till-v1", "till-v2")
        world.split("shop", "s", "till", {"till-v1": 3, "till-v2": 1})
        shares = {"shop/till-v1": Q3, "shop/till-v2": Q1}
        assert Mesh(world).call(CLERK, world.cluster_ip(*APEX), 80) == shares


def test_a_split_with_matches_is_about_these_requests_only() -> None:
    world = shop().group("shop", "test", {"name": "t", "pathRegex": "/test"})
    world.group("shop", "demo", {"name": "d", "pathRegex": "/demo"})
    world.split("shop", "a", "till", {"till-v1": 75, "till-v2": 25}, "test")
    world.split("shop", "b", "till", {"till-v1": 100, "till-v2": 0}, "demo")
    mesh = Mesh(world)
    assert mesh.name(CLERK, APEX, 80, Request("till", "/test/x")) == {
        "shop/till-v1": Q3,
        "shop/till-v2": Q1,
    }
    assert mesh.name(CLERK, APEX, 80, Request("till", "/demo")) == {"shop/till-v1": 1}
    # Every split has matches: the rest goes to all backends alike.
    assert mesh.name(CLERK, APEX, 80, Request("till", "/rest")) == {
        "shop/till-v1": HALF,
        "shop/till-v2": HALF,
    }


def test_a_split_without_matches_is_about_the_rest() -> None:
    for permissive in (True, False):
        world = granted(shop(permissive=permissive), "till-v1", "till-v2")
        world.group("shop", "test", {"name": "t", "pathRegex": "/test"})
        world.split("shop", "z", "till", {"till-v1": 1, "till-v2": 1}, "test")
        world.split("shop", "a", "till", {"till-v1": 1})
        mesh = Mesh(world)
        assert mesh.name(CLERK, APEX, 80, Request("till", "/test"))["shop/till-v2"] == HALF
        assert mesh.name(CLERK, APEX, 80, Request("till", "/")) == {"shop/till-v1": 1}


def test_a_matched_split_lets_nobody_in() -> None:
    world = shop(permissive=False)
    world.group("shop", "g", {"name": "a", "pathRegex": "^/a"})
    world.group("shop", "test", {"name": "t", "pathRegex": "^/test"})
    world.target("t", ("shop", "till-v1"), [CLERK], ("HTTPRouteGroup", "g", "a"))
    world.split("shop", "s", "till", {"till-v1": 1}, "test")
    mesh = Mesh(world)
    assert mesh.name(CLERK, APEX, 80, Request("till", "/test")) == {"403": 1}
    assert mesh.name(CLERK, APEX, 80, Request("till", "/a")) == {"shop/till-v1": 1}


def test_of_two_splits_that_say_the_same_the_first_by_name_is_followed() -> None:
    world = (
        shop().split("shop", "b", "till", {"till-v2": 1}).split("shop", "a", "till", {"till-v1": 1})
    )
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == {"shop/till-v1": 1}


@pytest.mark.parametrize("permissive", [True, False])
def test_a_share_that_leads_nowhere_fails_and_is_not_handed_on(permissive: bool) -> None:
    world = granted(shop(permissive=permissive), "till-v1")
    world.split("shop", "s", "till", {"till-v1": 1, "nowhere": 1})
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == {"shop/till-v1": HALF, "503": HALF}


def test_a_share_that_was_not_granted_fails_and_is_not_handed_on() -> None:
    world = granted(shop(permissive=False), "till-v1")
    world.split("shop", "s", "till", {"till-v1": 1, "till-v2": 1})
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == {"shop/till-v1": HALF, "503": HALF}


def test_an_apex_of_which_nothing_was_granted_is_not_known() -> None:
    world = granted(shop(permissive=False), "till")
    world.split("shop", "s", "till", {"till-v1": 1, "till-v2": 1})
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == {"passthrough": 1}


def test_a_backends_port_is_found_by_number_by_name_or_because_it_is_the_only_one() -> None:
    world = World().namespace("shop").mesh(permissive=True)
    world.pod("shop", "clerk")
    world.workload("shop", "till", port(80, name="web"), port(81, name="admin"))
    world.workload("shop", "till-v1", port(8080, name="web"), port(81, 9091, name="x"))
    world.workload("shop", "till-v2", port(9000))
    world.split("shop", "s", "till", {"till-v1": 1, "till-v2": 1})
    config = world.compile(*CLERK)
    clusters = {
        match.port: [c.cluster for c in match.hosts[0].routes[0].clusters]
        for match in config.outbound.matches  # type: ignore[union-attr]
        if match.origin == "Service/shop/till"
    }
    assert clusters == {
        80: ["shop/till-v1|8080", "shop/till-v2|9000"],
        81: ["shop/till-v1|9091", "shop/till-v2|9000"],
    }
    mesh = Mesh(world)
    assert mesh.name(CLERK, APEX, 80, Request("till:80")) == {
        "shop/till-v1": HALF,
        "shop/till-v2": HALF,
    }


def test_a_split_in_an_unmonitored_namespace_has_no_effect() -> None:
    world = shop().namespace("away", monitored=False)
    world.split("away", "s", "till", {"till": 1})
    assert Mesh(world).name(CLERK, APEX, 80, Request("till")) == {"shop/till": 1}


def test_backends_may_be_in_other_namespaces() -> None:
    world = shop().namespace("attic").workload("attic", "till", port(80))
    world.split("shop", "s", "till", {"attic/till": 1, "till-v1": 1})
    assert Mesh(world).name(CLERK, APEX, 80, Request("till.shop")) == {
        "attic/till": HALF,
        "shop/till-v1": HALF,
    }


def test_weights_that_are_all_zero_are_written_out_as_equal() -> None:
    world = shop().split("shop", "s", "till", {"till-v1": 0, "till-v2": 0})
    apex = next(
        match
        for match in world.compile(*CLERK).outbound.matches  # type: ignore[union-attr]
        if match.origin == "Service/shop/till"
    )
    assert [c.weight for c in apex.hosts[0].routes[0].clusters] == [100, 100]


def test_of_two_splits_about_the_same_requests_the_first_by_name_is_followed() -> None:
    world = shop().group("shop", "test", {"name": "t", "pathRegex": "/test"})
    world.split("shop", "b", "till", {"till-v2": 1}, "test")
    world.split("shop", "a", "till", {"till-v1": 1}, "test")
    assert Mesh(world).name(CLERK, APEX, 80, Request("till", "/test")) == {"shop/till-v1": 1}
