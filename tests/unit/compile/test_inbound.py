"""Traffic to the application: ports, names, and who is let in."""

from oracle import Request, decide_inbound
from world import World, port

from fsm.compile.contract import InboundMatch, Mtls, ProxyConfig
from fsm.model import Protocol

CLERK = "spiffe://cluster.local/ns/shop/sa/clerk"
THIEF = "spiffe://cluster.local/ns/shop/sa/thief"
TILL = ("shop", "till")


def shop(**mesh: object) -> World:
    return World().namespace("shop").mesh(**mesh)


def door(config: ProxyConfig, number: int) -> InboundMatch:
    assert config.inbound is not None
    (match,) = [m for m in config.inbound.matches if m.port == number]
    return match


def test_a_pod_without_a_service_accepts_nothing() -> None:
    world = shop()
    world.pod("shop", "clerk")
    assert world.compile("shop", "clerk").inbound is None


def test_a_port_without_a_target_is_there_and_refuses_everyone() -> None:
    config = shop().workload("shop", "till", port(80, 8080)).compile(*TILL)
    match = door(config, 8080)
    assert match.mtls is Mtls.STRICT
    assert [host.routes for host in match.hosts] == [()]
    verdict = decide_inbound(config, 8080, CLERK, Request("till"))
    assert (verdict.word, verdict.origins) == ("403", ("Service/shop/till",))
    assert decide_inbound(config, 80, CLERK, Request("till")).word == "reset"
    assert decide_inbound(config, 8080, None, Request("till")).word == "reset"


def test_in_permissive_mode_everyone_with_an_identity_is_let_in_with_any_method() -> None:
    config = shop(permissive=True).workload("shop", "till", port(80)).compile(*TILL)
    request = Request("till.shop", "/any?x=1", "PROPFIND")
    verdict = decide_inbound(config, 80, "spiffe://cluster.local/ns/x/sa/y", request)
    assert (verdict.word, verdict.origins) == ("go", ("MeshConfig/fsm-system/fsm-mesh-config",))
    assert decide_inbound(config, 80, None, request).word == "reset"


def test_hosts_are_known_with_the_ports_of_service_and_pod() -> None:
    config = shop().workload("shop", "till", port(80, 8080)).compile(*TILL)
    names = door(config, 8080).hosts[0].names
    assert {"till", "till:80", "till:8080", "till.shop.svc.cluster.local:80"} <= set(names)


def test_grants_of_two_targets_for_one_request_add_up() -> None:
    world = shop().workload("shop", "till", port(80)).group("shop", "g", {"name": "all"})
    for name, source in (("a", "clerk"), ("b", "thief"), ("c", "clerk")):
        world.target(name, TILL, [("shop", source)], ("HTTPRouteGroup", "g", "all"))
    config = world.compile(*TILL)
    (route,) = door(config, 80).hosts[0].routes
    assert [(a.identity, a.origin) for a in route.allowed or ()] == [
        (CLERK, "TrafficTarget/shop/a"),
        (THIEF, "TrafficTarget/shop/b"),
    ]


def test_overlapping_grants_do_not_take_from_each_other() -> None:
    world = shop().workload("shop", "till", port(80))
    world.group(
        "shop", "g", {"name": "narrow", "pathRegex": "/a$"}, {"name": "wide", "pathRegex": "/.*"}
    )
    world.target("n", TILL, [("shop", "thief")], ("HTTPRouteGroup", "g", "narrow"))
    world.target("w", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g", "wide"))
    config = world.compile(*TILL)
    assert decide_inbound(config, 80, CLERK, Request("till", "/a")).word == "go"
    assert decide_inbound(config, 80, THIEF, Request("till", "/a")).word == "go"
    assert decide_inbound(config, 80, THIEF, Request("till", "/b")).word == "403"


def test_routes_are_tried_by_path_with_the_catch_all_last_and_the_stricter_first() -> None:
    world = shop().workload("shop", "till", port(80))
    world.group(
        "shop",
        "g",
        {"name": "all"},
        {"name": "z", "pathRegex": "/z"},
        {"name": "a", "pathRegex": "/a"},
        {"name": "a-get", "pathRegex": "/a", "methods": ["GET"]},
        {"name": "a-header", "pathRegex": "/a", "headers": {"x": "1"}},
    )
    names = ("all", "z", "a", "a-get", "a-header")
    world.target("t", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g", *names))
    routes = door(world.compile(*TILL), 80).hosts[0].routes
    order = [route.origin.partition("#")[2] for route in routes]
    assert order == ["a-header", "a-get", "a", "z", "all"]


def test_methods_that_are_not_named_are_the_usual_ones() -> None:
    world = shop().workload("shop", "till", port(80))
    world.group(
        "shop",
        "g",
        {"name": "none", "pathRegex": "/a"},
        {"name": "star", "pathRegex": "/b", "methods": ["GET", "*"]},
        {"name": "some", "pathRegex": "/c", "methods": ["TRACE", "GET", "GET"]},
    )
    world.target("t", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g", "none", "star", "some"))
    methods = [route.methods for route in door(world.compile(*TILL), 80).hosts[0].routes]
    usual = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
    assert methods == [usual, usual, ("GET", "TRACE")]


def test_a_rule_that_names_no_match_grants_nothing() -> None:
    world = shop().workload("shop", "till", port(80)).group("shop", "g", {"name": "all"})
    world.target("t", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g"))
    assert door(world.compile(*TILL), 80).hosts[0].routes == ()


def test_tcp_is_granted_by_port_of_the_pod() -> None:
    world = shop()
    world.workload(
        "shop", "till", port(9000, 9001, app="tcp", name="a"), port(9002, app="tcp", name="b")
    )
    world.tcp_route("shop", "r", 9001)
    world.target("t", TILL, [("shop", "clerk")], ("TCPRoute", "r"))
    config = world.compile(*TILL)
    assert decide_inbound(config, 9001, CLERK, None).word == "go"
    assert decide_inbound(config, 9001, THIEF, None).word == "reset"
    assert decide_inbound(config, 9002, CLERK, None).word == "reset"
    rule = door(config, 9001).tcp
    assert rule is not None
    assert (rule.origin, rule.service) == ("TCPRoute/shop/r", "shop/till")
    refused = door(config, 9002).tcp
    assert refused is not None
    assert (refused.allowed, refused.origin) == ((), "Service/shop/till")


def test_a_tcp_route_grants_nothing_on_an_http_port_and_the_other_way_round() -> None:
    world = shop().workload("shop", "till", port(80, name="web"), port(81, app="tcp", name="raw"))
    world.tcp_route("shop", "r").group("shop", "g", {"name": "all"})
    world.target("t", TILL, [("shop", "clerk")], ("TCPRoute", "r"))
    world.target("h", TILL, [("shop", "thief")], ("HTTPRouteGroup", "g", "all"))
    config = world.compile(*TILL)
    assert decide_inbound(config, 80, CLERK, Request("till")).word == "403"
    assert decide_inbound(config, 81, THIEF, None).word == "reset"


def test_a_target_for_one_port_holds_for_that_port() -> None:
    world = shop().workload("shop", "till", port(80, name="a"), port(81, name="b"))
    world.group("shop", "g", {"name": "all"})
    world.target("t", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g", "all"), number=81)
    config = world.compile(*TILL)
    assert decide_inbound(config, 80, CLERK, Request("till")).word == "403"
    assert decide_inbound(config, 81, CLERK, Request("till")).word == "go"


def test_several_services_lead_to_one_port_under_all_their_names() -> None:
    world = shop(permissive=True).workload("shop", "till", port(80, 8080))
    world.service("shop", "cash", port(90, 8080), selector={"app": "till"})
    hosts = door(world.compile(*TILL), 8080).hosts
    assert [host.service for host in hosts] == ["shop/cash", "shop/till"]
    assert "cash:90" in hosts[0].names
    assert "till:80" in hosts[1].names


def test_the_names_of_an_apex_belong_to_the_version_that_serves() -> None:
    world = shop(permissive=True).workload("shop", "till", port(8080))
    world.service("shop", "all-tills", port(80), selector={"app": "till"})
    world.split("shop", "s", "all-tills", {"till": 1})
    world.found["Service"][0]["spec"]["ports"] = [port(80, 8080)]
    world.found["Service"][1]["spec"]["ports"] = [port(80, 8080)]
    hosts = door(world.compile(*TILL), 8080).hosts
    assert [host.service for host in hosts] == ["shop/till"]
    assert {"all-tills:80", "till:80"} <= set(hosts[0].names)


def test_a_stated_protocol_is_believed_before_a_silent_one() -> None:
    world = shop(permissive=True)
    world.pod("shop", "till")
    world.service("shop", "a", port(9000), selector={"app": "till"}, headless=True)
    world.service("shop", "b", port(9000, app="tcp"), selector={"app": "till"})
    match = door(world.compile(*TILL), 9000)
    assert (match.protocol, match.origin) == (Protocol.TCP, "Service/shop/b")


def test_a_named_target_port_is_that_of_the_pod() -> None:
    world = shop()
    world.pod("shop", "till", ports=[{"name": "web", "containerPort": 7070}])
    world.service("shop", "till", port(80, "web"), port(81, "absent", name="x"))
    assert [m.port for m in world.compile(*TILL).inbound.matches] == [81, 7070]  # type: ignore[union-attr]


def test_a_service_that_is_not_ready_is_open_all_the_same() -> None:
    config = shop().workload("shop", "till", port(80), ready=False).compile(*TILL)
    assert door(config, 80)


def test_mesh_config_can_switch_encryption_off_and_nobody_gets_in_by_policy() -> None:
    world = shop(sidecar={"sidecarDisabledMTLS": True}).workload("shop", "till", port(80))
    world.group("shop", "g", {"name": "all"})
    world.target("t", TILL, [("shop", "clerk")], ("HTTPRouteGroup", "g", "all"))
    config = world.compile(*TILL)
    assert door(config, 80).mtls is Mtls.DISABLED
    assert decide_inbound(config, 80, None, Request("till")).word == "403"


def test_the_application_is_reached_at_loopback_or_at_the_pods_address() -> None:
    world = shop().workload("shop", "till", port(80))
    endpoint = world.compile(*TILL).clusters["shop/till|80|local"].endpoints[0]
    assert (endpoint.address, endpoint.identity) == ("127.0.0.1:80", None)
    world.mesh(sidecar={"localProxyMode": "PodIP"})
    endpoint = world.compile(*TILL).clusters["shop/till|80|local"].endpoints[0]
    assert endpoint.address == f"{world.ip('shop', 'till')}:80"
