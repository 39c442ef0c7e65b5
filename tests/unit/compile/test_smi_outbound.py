"""SMI mode, the client's side: it hears of what it may reach, and of nothing else."""

from oracle import Mesh, Request
from world import World, port

from fsm.compile.contract import ProxyConfig
from fsm.model import Key

CLERK = ("shop", "clerk")
ALL = ("HTTPRouteGroup", "g", "all")


def shop(**mesh: object) -> World:
    world = World().namespace("shop").mesh(**mesh).group("shop", "g", {"name": "all"})
    world.pod("shop", "clerk")
    return world


def origins(config: ProxyConfig) -> list[str]:
    return [m.origin for m in config.outbound.matches] if config.outbound else []


def test_only_services_behind_a_target_are_known() -> None:
    world = shop().workload("shop", "till", port(80)).workload("shop", "safe", port(81))
    world.target("t", ("shop", "till"), [CLERK], ALL)
    config = world.compile(*CLERK)
    assert origins(config) == ["Service/shop/till"]
    assert set(config.clusters) == {"shop/till|80"}


def test_endpoints_that_run_as_someone_else_are_left_out() -> None:
    world = shop()
    world.pod("shop", "till-a", account="till", labels={"app": "till"})
    world.pod("shop", "till-b", account="impostor", labels={"app": "till"})
    world.service("shop", "till", port(80))
    world.target("t", ("shop", "till"), [CLERK], ALL)
    (endpoint,) = world.compile(*CLERK).clusters["shop/till|80"].endpoints
    assert endpoint.address == f"{world.ip('shop', 'till-a')}:80"
    assert endpoint.identity == "spiffe://cluster.local/ns/shop/sa/till"


def test_a_service_stays_known_while_none_of_its_pods_is_ready() -> None:
    # Were it forgotten, requests would pass through in plain text rather than fail with 503.
    world = shop().workload("shop", "till", port(80), ready=False)
    world.target("t", ("shop", "till"), [CLERK], ALL)
    assert Mesh(world).name(CLERK, ("shop", "till"), 80, Request("till")) == {"503": 1}


def test_a_target_in_a_foreign_namespace_has_no_effect() -> None:
    world = shop(egress=False).namespace("attic").workload("shop", "till", port(80))
    world.group("attic", "g", {"name": "all"})
    world.target("t", ("shop", "till"), [CLERK], ALL, namespace="attic")
    config = world.compile(*CLERK)
    assert config.outbound is None
    assert world.compile("shop", "till").inbound.matches[0].hosts[0].routes == ()  # type: ignore[union-attr]


def test_a_target_in_an_unmonitored_namespace_has_no_effect() -> None:
    world = shop().namespace("attic", monitored=False).group("attic", "g", {"name": "all"})
    world.workload("attic", "box", port(80))
    world.target("t", ("attic", "box"), [CLERK], ALL)
    assert origins(world.compile(*CLERK)) == []


def test_a_target_for_one_port_leads_to_that_port() -> None:
    world = shop().workload("shop", "till", port(80, name="a"), port(81, 8081, name="b"))
    world.target("t", ("shop", "till"), [CLERK], ALL, number=8081)
    config = world.compile(*CLERK)
    assert [m.port for m in config.outbound.matches] == [81]  # type: ignore[union-attr]


def test_a_tcp_port_is_known_only_with_a_tcp_route() -> None:
    world = shop().workload("shop", "db", port(3306, 13306, app="tcp"))
    world.target("http", ("shop", "db"), [CLERK], ALL)
    assert origins(world.compile(*CLERK)) == []
    world.tcp_route("shop", "r", 13306)
    world.target("tcp", ("shop", "db"), [CLERK], ("TCPRoute", "r"))
    rule = world.compile(*CLERK).outbound.matches[0].tcp  # type: ignore[union-attr]
    assert rule is not None
    assert (rule.origin, rule.allowed) == ("TCPRoute/shop/r", None)
    assert Mesh(world).call(CLERK, world.cluster_ip("shop", "db"), 3306) == {"shop/db": 1}


def test_the_tcp_demo_opens_and_closes_with_the_mode_and_the_policies() -> None:
    def world(*, permissive: bool, policies: bool) -> World:
        found = World().namespace("tcp-demo").namespace("curl").mesh(permissive=permissive)
        found.pod("curl", "curl")
        found.workload("tcp-demo", "tcp-echo", port(9000, app="tcp"))
        if policies:
            found.tcp_route("tcp-demo", "tcp-echo-route", 9000)
            destination = ("tcp-demo", "tcp-echo")
            found.target("t", destination, [("curl", "curl")], ("TCPRoute", "tcp-echo-route"))
        return found

    def call(world: World) -> dict[str, object]:
        return dict(
            Mesh(world).call(("curl", "curl"), world.cluster_ip("tcp-demo", "tcp-echo"), 9000)
        )

    assert call(world(permissive=True, policies=False)) == {"tcp-demo/tcp-echo": 1}
    assert call(world(permissive=False, policies=False)) == {"passthrough": 1}
    assert call(world(permissive=False, policies=True)) == {"tcp-demo/tcp-echo": 1}


def test_what_is_not_reachable_costs_nothing() -> None:
    def work(others: int) -> tuple[bytes, int]:
        world = shop().workload("shop", "till", port(80))
        world.target("t", ("shop", "till"), [CLERK], ALL)
        for index in range(others):
            world.workload("shop", f"other-{index}", port(80))
            world.target(f"o{index}", ("shop", f"other-{index}"), [("shop", "boss")], ALL)
        snapshot = world.snapshot()
        from fsm.compile import compile_proxy

        config = compile_proxy(snapshot, snapshot.pods[Key(*CLERK)], world.settings)
        return config.to_json(), len(snapshot.memo)

    small, large = work(1), work(60)
    assert small == large


def test_a_client_that_may_call_itself_is_told_so() -> None:
    world = shop().workload("shop", "till", port(80))
    world.target("t", ("shop", "till"), [("shop", "till")], ALL)
    assert Mesh(world).name(("shop", "till"), ("shop", "till"), 80, Request("till")) == {
        "shop/till": 1
    }


def test_endpoints_are_left_out_where_the_target_is_for_another_port() -> None:
    world = shop()
    world.pod("shop", "till-a", account="till", labels={"app": "till"})
    world.pod("shop", "till-b", account="till-2", labels={"app": "till"})
    world.service("shop", "till", port(80, name="a"), port(81, name="b"))
    world.target("t", ("shop", "till"), [CLERK], ALL)
    world.target("t2", ("shop", "till-2"), [CLERK], ALL, number=81)
    config = world.compile(*CLERK)
    assert len(config.clusters["shop/till|80"].endpoints) == 1
    assert len(config.clusters["shop/till|81"].endpoints) == 2
