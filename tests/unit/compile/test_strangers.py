"""IngressBackend and AccessControl: what they make of the ports of a workload."""

from typing import Any

import pytest
from world import World, port

from fsm.compile import Change, IncrementalCompiler, assess, check, compile_proxy
from fsm.compile.contract import InboundMatch, SourceRule
from fsm.model import Key

API = "policy.flomesh.io/v1alpha1"
NGINX = {"kind": "Service", "namespace": "edge", "name": "nginx"}
NAME = {"kind": "AuthenticatedPrincipal", "name": "nginx.edge.cluster.local"}
OFFICE = {"kind": "IPRange", "name": "192.0.2.0/24"}
FLAGS = {"enableIngressBackendPolicy": True, "enableAccessControlPolicy": True}


def shop(*, permissive: bool = False, flags: dict[str, bool] | None = None) -> World:
    world = World().namespace("shop").namespace("edge", monitored=False)
    world.mesh(permissive=permissive, featureFlags=FLAGS if flags is None else flags)
    world.workload("edge", "nginx", port(80), sidecar=False)
    world.workload("shop", "till", port(80, 8080, app="http"))
    return world.workload("shop", "db", port(3306, app="tcp"))


def backend(name: str = "till", number: int = 8080, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": {"number": number, "protocol": "http"}, **more}


def opened(
    world: World,
    *sources: dict[str, str],
    kind: str = "IngressBackend",
    name: str = "in",
    **spec: Any,
) -> World:
    if kind == "IngressBackend":
        spec.setdefault("backends", [backend()])
    return world.policy(kind, API, "shop", name, {"sources": list(sources), **spec})


def match(world: World, name: str = "till") -> InboundMatch:
    config = world.compile("shop", name)
    assert check(config) == []
    assert config.inbound is not None
    return config.inbound.matches[0]


def told(world: World, name: str = "in") -> tuple[str, str]:
    (found,) = [s for s in assess(world.snapshot()) if s.name == name and s.kind in KINDS]
    return found.current_status, found.reason


KINDS = ("IngressBackend", "AccessControl")


def rules(world: World, name: str = "till") -> list[tuple[tuple[str, ...], bool, bool]]:
    return [(rule.cidrs, rule.mtls, rule.tls) for rule in match(world, name).sources]


@pytest.mark.parametrize("permissive", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_endpoints_of_a_service_outside_of_the_mesh_are_let_in(
    kind: str, permissive: bool
) -> None:
    world = opened(shop(permissive=permissive), NGINX, kind=kind, backends=[backend()])
    found = match(world)
    origin = f"{kind}/shop/in"
    assert found.sources == (SourceRule(cidrs=(f"{world.ip('edge', 'nginx')}/32",), origin=origin),)
    assert found.mtls == "strict", "members prove who they are as before"
    (last,) = found.hosts[-1].routes
    assert found.hosts[-1].names == ("*",), "an ingress sends the Host that its client sent"
    assert (last.allowed, last.origin) == ((), origin), "which is not for members"
    assert [c.cluster for c in last.clusters] == ["shop/till|8080|local"]
    assert match(world, "db").sources == ()
    assert told(world) == ("Programmed", "in effect")


def test_a_member_gets_no_more_than_before() -> None:
    world = shop()
    before = match(world)
    world.target("t", ("shop", "till"), [("shop", "db")], ("HTTPRouteGroup", "g", "all"))
    world.group("shop", "g", {"name": "all", "pathRegex": "/a"})
    with_target = match(world)
    after = match(opened(world, NGINX))
    assert after.hosts[0].routes[:-1] == with_target.hosts[0].routes
    new = [r for h in after.hosts for r in h.routes if r not in with_target.hosts[0].routes]
    assert {route.allowed for route in new} == {()}
    assert before.hosts[0].routes == ()


@pytest.mark.parametrize(
    ("tls", "protocol", "mtls", "one_way", "principals"),
    [
        (None, "http", False, False, ()),
        (None, "https", True, False, (NAME["name"],)),
        ({"skipClientCertValidation": False}, "http", True, False, (NAME["name"],)),
        ({"skipClientCertValidation": True}, "https", False, True, ()),
    ],
)
def test_what_clients_must_prove(
    tls: dict[str, bool] | None,
    protocol: str,
    mtls: bool,
    one_way: bool,
    principals: tuple[str, ...],
) -> None:
    door = {"name": "till", "port": {"number": 8080, "protocol": protocol}}
    world = opened(shop(), NGINX, NAME, backends=[door | ({"tls": tls} if tls else {})])
    (rule,) = match(world).sources
    assert (rule.mtls, rule.tls, rule.principals) == (mtls, one_way, principals)


def test_a_certificate_alone_lets_in_from_anywhere_and_a_name_without_one_nobody() -> None:
    secure = [backend(tls={"skipClientCertValidation": False})]
    assert rules(opened(shop(), NAME, backends=secure)) == [(("0.0.0.0/0", "::/0"), True, False)]
    world = opened(shop(), NAME)
    assert rules(world) == []
    assert len(match(world).hosts) == 1
    careless = [backend(tls={"skipClientCertValidation": True})]
    assert rules(opened(shop(), NAME, backends=careless)) == []


def test_addresses_are_looked_for_before_certificates_from_anywhere() -> None:
    secure = [backend(tls={"skipClientCertValidation": False})]
    world = opened(shop(), NAME, kind="AccessControl", name="a", backends=secure)
    opened(world, OFFICE, kind="AccessControl", name="b", backends=[backend()])
    assert [cidrs for cidrs, _, _ in rules(world)] == [("192.0.2.0/24",), ("0.0.0.0/0", "::/0")]


def test_members_among_the_endpoints_stay_members() -> None:
    world = shop().namespace("inside")
    world.pod("inside", "guard", labels={"app": "both"})
    world.pod("inside", "plain", labels={"app": "both"}, sidecar=False)
    world.service("inside", "both", selector={"app": "both"})
    world = opened(world, {"kind": "Service", "namespace": "inside", "name": "both"})
    assert rules(world) == [((f"{world.ip('inside', 'plain')}/32",), False, False)]


def test_access_control_without_backends_opens_every_port_of_its_namespace() -> None:
    world = opened(shop(), OFFICE, kind="AccessControl")
    assert rules(world) == [(("192.0.2.0/24",), False, False)]
    assert rules(world, "db") == [(("192.0.2.0/24",), False, False)]
    world.namespace("other").workload("other", "safe")
    config = world.compile("other", "safe")
    assert config.inbound is not None
    assert config.inbound.matches[0].sources == ()


def test_strangers_reach_ports_of_tls_as_it_is() -> None:
    world = shop().workload("shop", "vault", port(443, 8443, name="https"))
    world = opened(world, NGINX, backends=[backend("vault", 8443)])
    found = match(world, "vault")
    assert (found.protocol, found.hosts, len(found.sources)) == ("tls", (), 1)
    assert found.tcp is not None
    assert found.tcp.allowed == (), "members need a TrafficTarget as before"


def test_a_flag_that_is_off_or_absent_opens_nothing() -> None:
    for flags in ({}, {"enableIngressBackendPolicy": False}):
        world = opened(shop(flags=flags), NGINX)
        assert rules(world) == []
        assert told(world)[0] == "NotEnabled"


READS = [{"apiGroup": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "name": "reads"}]


def reading(world: World) -> World:
    return world.group("shop", "reads", {"name": "get", "pathRegex": "/get", "methods": ["GET"]})


@pytest.mark.parametrize("permissive", [True, False])
def test_route_groups_bound_what_a_client_may_ask_for(permissive: bool) -> None:
    world = opened(reading(shop(permissive=permissive)), NGINX, matches=READS)
    found = match(world)
    (rule,) = found.sources
    assert rule.routes == ("HTTPRouteGroup/shop/reads#get",)
    for host in found.hosts:
        (route,) = [r for r in host.routes if r.origin in rule.routes]
        assert (route.path.value, route.methods, route.allowed) == ("/get", ("GET",), ())
    assert found.hosts[-1].names == ("*",)
    # Nobody is let in beside that: there is no route for all requests that a source may use.
    others = [r for r in found.hosts[-1].routes if r.origin not in rule.routes]
    assert others == []
    assert told(world) == ("Programmed", "in effect")
    (group,) = [s for s in assess(world.snapshot()) if s.kind == "HTTPRouteGroup"]
    assert group.current_status == "Programmed"


def test_a_route_that_members_have_too_stands_there_once() -> None:
    world = opened(reading(shop()), NGINX, matches=READS)
    world.target("t", ("shop", "till"), [("shop", "db")], ("HTTPRouteGroup", "reads", "get"))
    found = match(world)
    for host in found.hosts[:-1]:
        (route,) = host.routes
        assert [allow.origin for allow in route.allowed or ()] == ["TrafficTarget/shop/t"]


def test_bounded_and_unbounded_policies_add_up() -> None:
    world = opened(reading(shop()), NGINX, matches=READS)
    opened(world, OFFICE, kind="AccessControl", name="office", backends=[backend()])
    found = match(world)
    assert [rule.routes is None for rule in found.sources] == [False, True]
    origins = [route.origin for route in found.hosts[-1].routes]
    assert origins == ["HTTPRouteGroup/shop/reads#get", "AccessControl/shop/office"]


def test_without_its_route_group_a_policy_lets_nobody_in() -> None:
    world = opened(shop(), NGINX, matches=READS)
    (rule,) = match(world).sources
    assert rule.routes == ()
    assert match(world).hosts[-1].routes == ()
    reason = "HTTPRouteGroup reads does not exist in namespace shop"
    assert told(world) == ("RefNotFound", reason)


def test_ports_without_requests_are_not_opened_by_a_bounded_policy() -> None:
    world = opened(reading(shop()), OFFICE, kind="AccessControl", matches=READS)
    assert match(world, "db").sources == ()
    assert len(match(world).sources) == 1
    door = {"name": "db", "port": {"number": 3306, "protocol": "tcp"}}
    world = opened(reading(shop()), OFFICE, kind="AccessControl", matches=READS, backends=[door])
    assert match(world, "db").sources == ()
    word, reason = told(world)
    assert word == "NoEffect"
    assert "port 3306 of shop/db carries no requests that matches could bound (tcp)" in reason


def test_server_names_are_asked_for_in_lower_case() -> None:
    tls = {"skipClientCertValidation": True, "sniHosts": ["Till.example", "*.example", "*.example"]}
    world = opened(shop(), NGINX, backends=[backend(tls=tls)])
    (rule,) = match(world).sources
    assert rule.server_names == ("till.example", "*.example")
    assert told(world) == ("Programmed", "in effect")


def test_the_first_of_two_ingress_backends_is_followed() -> None:
    world = opened(opened(shop(), NGINX, name="b"), OFFICE, name="a")
    assert rules(world) == [(("192.0.2.0/24",), False, False)]
    assert told(world, "b")[0] == "Conflicted"
    assert told(world, "a") == ("Programmed", "in effect")


def test_the_status_says_what_is_missing() -> None:
    assert (
        "Service shop/gone is not in the mesh"
        in told(opened(shop(), NGINX, backends=[backend("gone")]))[1]
    )
    word, reason = told(opened(shop(), NGINX, backends=[backend(number=80)]))
    assert (word, "no target port 80, it has 8080" in reason) == ("NotFound", True)
    gone = {"kind": "Service", "namespace": "edge", "name": "gone"}
    word, reason = told(opened(shop(), gone))
    assert (word, "endpoints not found for service edge/gone" in reason) == ("NoSource", True)


def test_a_new_endpoint_of_an_ingress_reaches_the_proxy_that_it_calls_and_no_other() -> None:
    world = opened(shop(), NGINX)
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    for name in ("till", "db"):
        compiler.compile(f"uid-shop-{name}")
    before = {o["metadata"]["name"]: o for o in world.objects()["EndpointSlice"]}
    world.pod("edge", "nginx-2", labels={"app": "nginx"}, sidecar=False)
    (slice_,) = [o for o in world.objects()["EndpointSlice"] if before[o["metadata"]["name"]] != o]
    pod = world.found["Pod"][-1]
    snapshot = compiler.update(
        [
            Change("Pod", Key("edge", "nginx-2"), pod),
            Change("EndpointSlice", Key("edge", slice_["metadata"]["name"]), slice_),
        ],
        trust_roots=world.roots,
    )
    assert compiler.due == ["uid-shop-till"]
    text = compiler.compile("uid-shop-till")
    assert text is not None
    plain = compile_proxy(world.snapshot(), snapshot.pods[Key("shop", "till")], world.settings)
    assert text.to_json() == plain.to_json()
