"""UDP: which Services are reached by datagrams, from whom they are taken, and when not at all."""

from __future__ import annotations

import pytest
from world import World, port

from fsm.compile import assess
from fsm.compile.contract import InboundMatch, OutboundMatch, ProxyConfig
from fsm.model import Protocol
from fsm.settings import Proxy, Settings

CARRIES = Settings(proxy=Proxy(carries_udp=True))
CLERK, THIEF, TILL = ("shop", "clerk"), ("shop", "thief"), ("shop", "till")
ECHO = port(7000, name="echo", protocol="UDP")


def shop(*, permissive: bool = False, settings: Settings = CARRIES, egress: bool = False) -> World:
    world = World(settings).namespace("shop").mesh(permissive=permissive, egress=egress)
    world.workload(*TILL, port(80, name="http"), ECHO)
    for client in (CLERK, THIEF):
        world.pod(*client)
    return world


def granted(world: World, *ports: int) -> World:
    world.udp_route("shop", "echo", *ports)
    return world.target("t", TILL, [CLERK], ("UDPRoute", "echo"))


def outbound(config: ProxyConfig) -> list[OutboundMatch]:
    found = config.outbound.matches if config.outbound else ()
    return [match for match in found if match.protocol is Protocol.UDP]


def inbound(config: ProxyConfig) -> list[InboundMatch]:
    found = config.inbound.matches if config.inbound else ()
    return [match for match in found if match.protocol is Protocol.UDP]


def test_in_permissive_mode_everyone_may() -> None:
    world = shop(permissive=True)
    (match,) = outbound(world.compile(*THIEF))
    assert match.destinations == (f"{world.cluster_ip(*TILL)}/32",)
    (endpoint,) = world.compile(*THIEF).clusters["shop/till|7000/udp"].endpoints
    # Datagrams carry no certificate, so none is asked for.
    assert (endpoint.address, endpoint.identity) == (f"{world.ip(*TILL)}:7000", None)
    (door,) = inbound(world.compile(*TILL))
    assert door.tcp is not None
    assert (door.port, door.tcp.allowed, door.sources) == (7000, None, ())


def test_without_a_target_nobody_may() -> None:
    world = shop()
    assert outbound(world.compile(*CLERK)) == []
    (door,) = inbound(world.compile(*TILL))
    assert door.tcp is not None
    assert (door.tcp.allowed, door.sources) == ((), ())


def test_a_target_lets_the_pods_of_its_sources_in_by_address_and_no_others() -> None:
    world = granted(shop(), 7000)
    (pod,) = [p for p in world.found["Pod"] if p["metadata"]["name"] == "clerk"]
    v4 = pod["status"]["podIP"]
    pod["status"]["podIPs"] = [{"ip": v4}, {"ip": "fd00::7"}]
    assert [m.port for m in outbound(world.compile(*CLERK))] == [7000]
    assert outbound(world.compile(*THIEF)) == []
    (door,) = inbound(world.compile(*TILL))
    (source,) = door.sources
    assert source.cidrs == (f"{v4}/32", "fd00::7/128")
    assert source.origin == "TrafficTarget/shop/t"
    assert door.tcp is not None
    assert (door.tcp.allowed, door.tcp.origin) == ((), "UDPRoute/shop/echo")


def test_a_pod_of_the_node_s_own_network_is_known_by_no_address() -> None:
    world = granted(shop(), 7000)
    (pod,) = [p for p in world.found["Pod"] if p["metadata"]["name"] == "clerk"]
    pod["spec"]["hostNetwork"] = True
    (door,) = inbound(world.compile(*TILL))
    assert door.sources == ()


@pytest.mark.parametrize(("ports", "reaches"), [((7000,), True), ((), True), ((7001,), False)])
def test_a_route_means_its_ports_or_all(ports: tuple[int, ...], reaches: bool) -> None:
    world = granted(shop(), *ports)
    assert bool(outbound(world.compile(*CLERK))) is reaches
    (door,) = inbound(world.compile(*TILL))
    assert bool(door.sources) is reaches


def test_a_tcp_route_grants_no_datagrams_and_a_udp_route_no_connections() -> None:
    world = shop().tcp_route("shop", "tcp", 7000)
    world.target("t", TILL, [CLERK], ("TCPRoute", "tcp"))
    assert outbound(world.compile(*CLERK)) == []
    world = granted(shop(), 80)
    config = world.compile(*CLERK)
    assert outbound(config) == []
    assert config.outbound is not None
    assert not any(host.routes for match in config.outbound.matches for host in match.hosts)


def test_one_number_may_serve_both_and_has_two_clusters() -> None:
    world = World(CARRIES).namespace("shop").mesh(permissive=True)
    both = (port(53, name="tcp-dns", app="tcp"), port(53, name="dns", protocol="UDP"))
    world.workload(*TILL, *both)
    world.pod(*CLERK)
    config = world.compile(*CLERK)
    assert config.outbound is not None
    assert {m.protocol for m in config.outbound.matches} == {Protocol.TCP, Protocol.UDP}
    assert {"shop/till|53", "shop/till|53/udp"} <= set(config.clusters)
    own = world.compile(*TILL)
    assert own.inbound is not None
    assert [(m.port, m.protocol) for m in own.inbound.matches] == [
        (53, Protocol.TCP),
        (53, Protocol.UDP),
    ]
    assert {"shop/till|53|local", "shop/till|53/udp|local"} <= set(own.clusters)


def test_a_split_divides_sessions_among_the_udp_ports_of_its_backends() -> None:
    world = shop(permissive=True)
    for version in ("till-v1", "till-v2"):
        world.workload("shop", version, port(7000, name="tcp", app="tcp"), ECHO)
    world.split("shop", "s", "till", {"till-v1": 90, "till-v2": 10})
    (match,) = [
        m
        for m in outbound(world.compile(*CLERK))
        if m.destinations == (f"{world.cluster_ip(*TILL)}/32",)
    ]
    assert match.tcp is not None
    assert [(c.cluster, c.weight) for c in match.tcp.clusters] == [
        ("shop/till-v1|7000/udp", 90),
        ("shop/till-v2|7000/udp", 10),
    ]


def test_an_excluded_port_is_open_to_everyone() -> None:
    world = shop()
    (pod,) = [p for p in world.found["Pod"] if p["metadata"]["name"] == "till"]
    pod["metadata"]["annotations"] = {"flomesh.io/inbound-port-exclusion-list": "7000"}
    (door,) = inbound(world.compile(*TILL))
    assert door.tcp is not None
    assert (door.port, door.tcp.allowed) == (7000, None)


def test_a_service_of_udp_alone_is_of_the_mesh() -> None:
    world = World(CARRIES).namespace("shop").mesh(permissive=True)
    world.workload(*TILL, ECHO)
    world.pod(*CLERK)
    assert [m.port for m in outbound(world.compile(*CLERK))] == [7000]


def test_a_mesh_that_cannot_carry_udp_says_nothing_of_it() -> None:
    world = granted(shop(settings=Settings()), 7000)
    assert outbound(world.compile(*CLERK)) == []
    assert inbound(world.compile(*TILL)) == []


def let_in(world: World, *sources: dict[str, str], **spec: object) -> World:
    world.mesh(permissive=False, egress=False, featureFlags={"enableAccessControlPolicy": True})
    body = {"sources": list(sources), **spec}
    return world.policy("AccessControl", "policy.flomesh.io/v1alpha1", "shop", "in", body)


OFFICE = {"kind": "IPRange", "name": "192.0.2.0/24"}
DATAGRAMS = {"name": "till", "port": {"number": 7000, "protocol": "udp"}}
STREAMS = {"name": "till", "port": {"number": 7000, "protocol": "tcp"}}


def sources(world: World) -> list[tuple[tuple[str, ...], str]]:
    (door,) = inbound(world.compile(*TILL))
    return [(rule.cidrs, rule.origin) for rule in door.sources]


@pytest.mark.parametrize("spec", [{}, {"backends": [DATAGRAMS]}])
def test_access_control_lets_datagrams_in_by_address(spec: dict[str, object]) -> None:
    world = let_in(granted(shop()), OFFICE, **spec)
    assert sources(world) == [
        ((f"{world.ip(*CLERK)}/32",), "TrafficTarget/shop/t"),
        (("192.0.2.0/24",), "AccessControl/shop/in"),
    ]
    (status,) = [s for s in assess(world.snapshot(), CARRIES) if s.kind == "AccessControl"]
    assert status.current_status == "Programmed"


def test_a_port_for_streams_is_another_one() -> None:
    world = let_in(
        shop(), OFFICE, backends=[{**STREAMS, "port": {"number": 80, "protocol": "http"}}]
    )
    assert sources(world) == []
    world = let_in(shop(), OFFICE, backends=[STREAMS])
    assert sources(world) == []
    (status,) = [s for s in assess(world.snapshot(), CARRIES) if s.kind == "AccessControl"]
    assert (status.current_status, "it has 80" in status.reason) == ("NotFound", True)


def test_what_asks_for_more_than_an_address_lets_no_datagram_in() -> None:
    name = {"kind": "AuthenticatedPrincipal", "name": "edge"}
    assert sources(let_in(shop(), name)) == []
    matches = [{"kind": "HTTPRouteGroup", "name": "reads"}]
    assert sources(let_in(shop(), OFFICE, matches=matches)) == []


def test_where_sidecars_carry_no_datagrams_the_policy_says_so() -> None:
    world = let_in(shop(settings=Settings()), OFFICE, backends=[DATAGRAMS])
    (status,) = [s for s in assess(world.snapshot(), Settings()) if s.kind == "AccessControl"]
    assert (status.current_status, "cannot carry UDP" in status.reason) == ("NoEffect", True)
