"""What status says of each object, in words."""

from world import World, port

from fsm.compile import ObjectStatus, assess, build_snapshot
from fsm.settings import Proxy, Settings

SETTINGS = Settings()
GRANT = ("HTTPRouteGroup", "g", "all")


def shop(**mesh: object) -> World:
    world = World().namespace("shop").mesh(**mesh).group("shop", "g", {"name": "all"})
    for name in ("till", "till-v1", "till-v2"):
        world.workload("shop", name, port(80))
    return world


def status(world: World, kind: str, name: str) -> ObjectStatus:
    (found,) = [s for s in assess(world.snapshot()) if (s.kind, s.name) == (kind, name)]
    return found


def told(world: World, kind: str, name: str) -> tuple[str, str]:
    found = status(world, kind, name)
    return found.current_status, found.reason


def target(world: World, *rules: tuple[str, ...], **more: str) -> World:
    return world.target("t", ("shop", "till"), [("shop", "clerk")], *rules, **more)  # type: ignore[arg-type]


def test_what_is_in_effect_says_so() -> None:
    world = target(shop(), GRANT).split("shop", "s", "till", {"till-v1": 1})
    for kind, name in (
        ("TrafficTarget", "t"),
        ("TrafficSplit", "s"),
        ("HTTPRouteGroup", "g"),
        ("MeshConfig", "fsm-mesh-config"),
    ):
        assert told(world, kind, name) == ("Programmed", "in effect")
        conditions = {c.type: c.status for c in status(world, kind, name).conditions}
        assert conditions == {"Accepted": True, "Programmed": True, "Conflicted": False}


def test_a_target_names_everything_that_is_missing() -> None:
    world = target(
        shop(),
        ("HTTPRouteGroup", "gone", "all"),
        ("HTTPRouteGroup", "g", "all", "nothing"),
        ("HTTPRouteGroup", "g"),
        ("TCPRoute", "r"),
        ("UDPRoute", "u"),
    )
    word, reason = told(world, "TrafficTarget", "t")
    assert word == "RefNotFound"
    assert reason.split("; ") == [
        "HTTPRouteGroup gone does not exist in namespace shop",
        "HTTPRouteGroup g has no match nothing",
        "no match of HTTPRouteGroup g is named, so this rule allows nothing",
        "TCPRoute r does not exist in namespace shop",
        "UDPRoute u does not exist in namespace shop",
    ]


def test_a_target_says_why_it_has_no_effect() -> None:
    world = shop().namespace("attic").group("attic", "g", {"name": "all"})
    target(world, GRANT, namespace="attic")
    assert told(world, "TrafficTarget", "t") == (
        "NoEffect",
        "its namespace is attic, but its destination is in shop",
    )
    world = World().namespace("shop", monitored=False).mesh()
    assert told(target(world, GRANT), "TrafficTarget", "t") == (
        "NoEffect",
        "namespace shop is not monitored by the mesh",
    )


def test_a_target_says_when_nothing_runs_as_its_destination() -> None:
    world = shop().target("t", ("shop", "ghost"), [("shop", "clerk")], GRANT)
    assert told(world, "TrafficTarget", "t") == (
        "NoWorkload",
        "no Pod runs as ServiceAccount shop/ghost",
    )
    world.pod("shop", "ghost")
    assert told(world, "TrafficTarget", "t")[0] == "NoService"


def test_in_permissive_mode_a_target_says_that_nobody_asks_it() -> None:
    world = target(shop(permissive=True), GRANT)
    assert told(world, "TrafficTarget", "t")[0] == "PermissiveMode"


def test_a_split_names_everything_that_is_missing() -> None:
    world = shop().namespace("dark", monitored=False)
    world.service("dark", "lost", port(80))
    world.workload("shop", "wide", port(81, name="a"), port(82, name="b"))
    weights = {"till-v1": 1, "nowhere": 1, "dark/lost": 1, "wide": 1}
    world.split("shop", "s", "till", weights, "gone")
    word, reason = told(world, "TrafficSplit", "s")
    assert word == "RefNotFound"
    assert reason.split("; ") == [
        "the backend Service shop/nowhere does not exist",
        "the backend Service dark/lost is in a namespace that the mesh does not monitor",
        "the backend shop/wide has no port that stands for port 80",
        "HTTPRouteGroup gone does not exist in namespace shop",
    ]
    world.split("shop", "no-apex", "nothing", {"till": 1})
    assert told(world, "TrafficSplit", "no-apex") == (
        "RefNotFound",
        "the apex Service shop/nothing does not exist",
    )


def test_a_split_says_when_a_backend_speaks_another_protocol() -> None:
    world = shop().workload("shop", "raw", port(80, app="tcp"))
    world.split("shop", "s", "till", {"till-v1": 1, "raw": 1})
    assert told(world, "TrafficSplit", "s") == (
        "ProtocolMismatch",
        "port 80 of the backend shop/raw speaks tcp, port 80 of the apex http",
    )


def test_of_two_splits_of_one_apex_the_second_says_which_is_followed() -> None:
    world = shop().split("shop", "b", "till", {"till-v1": 1})
    world.split("shop", "a", "till", {"till-v2": 1})
    assert told(world, "TrafficSplit", "a") == ("Programmed", "in effect")
    assert told(world, "TrafficSplit", "b") == (
        "Conflicted",
        "TrafficSplit a is about Service shop/till too and is followed",
    )


def test_routes_that_nobody_names_say_so() -> None:
    world = shop().tcp_route("shop", "r")
    for kind, name in (("HTTPRouteGroup", "g"), ("TCPRoute", "r")):
        assert told(world, kind, name)[0] == "NotReferenced"


def test_mesh_config_names_stages_that_this_version_does_not_have() -> None:
    chains = {"inbound-http": [{"plugin": "modules/inbound-dance-http", "priority": 120}]}
    word, reason = told(shop(pluginChains=chains), "MeshConfig", "fsm-mesh-config")
    assert word == "Programmed"
    assert "inbound-http: modules/inbound-dance-http.js" in reason


def test_an_invalid_object_lists_every_fault_once() -> None:
    world = shop()
    world.policy("TrafficSplit", "split.smi-spec.io/v1alpha4", "shop", "s", {"weights": 3})
    world.found["TrafficSplit"][0]["metadata"]["generation"] = 9
    snapshot, problems = build_snapshot(world.objects(), SETTINGS)
    (found,) = [s for s in assess(snapshot) if s.kind == "TrafficSplit"]
    assert (found.current_status, found.generation) == ("Invalid", 9)
    assert found.reason.split("; ") == [
        "spec.backends: is required",
        "spec.service: is required",
        "spec.weights: is not a field here (hint: weight?)",
    ]
    assert len(problems) == 3


def test_an_invalid_mesh_config_has_one_status() -> None:
    world = shop()
    world.found["MeshConfig"][0]["spec"]["traffic"]["enableEgress"] = 3
    snapshot, _ = build_snapshot(world.objects(), SETTINGS)
    assert [s.current_status for s in assess(snapshot) if s.kind == "MeshConfig"] == ["Invalid"]


def test_the_same_world_is_told_in_the_same_words() -> None:
    world = target(shop(), ("TCPRoute", "r")).split("shop", "s", "till", {"x": 1})
    assert assess(world.snapshot()) == assess(world.snapshot())


def test_a_udp_route_says_whether_the_mesh_carries_udp() -> None:
    world = shop()
    route = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "UDPRoute",
        "metadata": {"namespace": "shop", "name": "u", "generation": 4},
        "spec": {"matches": {"ports": [53]}},
    }
    world.found["UDPRoute"].append(route)
    assert told(world, "UDPRoute", "u")[0] == "NotReferenced"
    target(world, ("UDPRoute", "u"))
    assert told(world, "UDPRoute", "u")[0] == "NotCarried"
    word, reason = told(world, "TrafficTarget", "t")
    assert word == "RefNotFound"
    assert reason.startswith("UDPRoute u: the sidecars of this mesh do not run as root")
    carries = Settings(proxy=Proxy(carries_udp=True))
    statuses = {s.kind: s.current_status for s in assess(world.snapshot(), carries)}
    assert statuses["UDPRoute"] == statuses["TrafficTarget"] == "Programmed"
