"""Traffic from the application: destinations, names, protocols, addresses of Pods."""

import pytest
from oracle import Mesh, Request
from world import World, port

from fsm.compile.contract import OutboundMatch, ProxyConfig, Unmatched
from fsm.model import Protocol

HERE = ("shop", "clerk")


def open_world(**mesh: object) -> World:
    world = World().namespace("shop").namespace("attic").mesh(permissive=True, **mesh)
    world.pod("shop", "clerk")
    return world


def matches(config: ProxyConfig) -> tuple[OutboundMatch, ...]:
    assert config.outbound is not None
    return config.outbound.matches


def only(config: ProxyConfig, number: int) -> OutboundMatch:
    (match,) = [m for m in matches(config) if m.port == number]
    return match


def test_a_service_is_known_by_its_cluster_address_and_port() -> None:
    world = open_world().workload("shop", "till", port(80, 8080))
    match = only(world.compile(*HERE), 80)
    assert match.destinations == (f"{world.cluster_ip('shop', 'till')}/32",)
    assert match.origin == "Service/shop/till"
    config = world.compile(*HERE)
    (endpoint,) = config.clusters["shop/till|8080"].endpoints
    assert endpoint.address == f"{world.ip('shop', 'till')}:8080"


def test_from_its_own_namespace_a_service_has_a_short_name() -> None:
    world = open_world().workload("shop", "till", port(80)).workload("attic", "box", port(81))
    config = world.compile(*HERE)
    near, far = only(config, 80).hosts[0].names, only(config, 81).hosts[0].names
    assert near == (
        "till",
        "till:80",
        "till.shop",
        "till.shop:80",
        "till.shop.svc",
        "till.shop.svc:80",
        "till.shop.svc.cluster",
        "till.shop.svc.cluster:80",
        "till.shop.svc.cluster.local",
        "till.shop.svc.cluster.local:80",
    )
    assert far[0] == "box.attic"


@pytest.mark.parametrize(
    ("names", "present", "absent"),
    [
        ({"mustWithServicePort": True}, "till.shop:80", "till.shop"),
        ({"mustWithNamespace": False}, "box", "nothing"),
        ({"withTrustDomain": False}, "till.shop.svc", "till.shop.svc.cluster"),
    ],
)
def test_mesh_config_chooses_the_forms_of_names(
    names: dict[str, bool], present: str, absent: str
) -> None:
    world = open_world(traffic={"serviceAccessNames": names})
    world.workload("shop", "till", port(80)).workload("attic", "box", port(81))
    found = {n for m in matches(world.compile(*HERE)) for h in m.hosts for n in h.names}
    assert present in found
    assert absent not in found


@pytest.mark.parametrize(
    ("service_port", "protocol"),
    [
        (port(80), Protocol.HTTP),
        (port(80, name="pipy"), Protocol.HTTP),
        (port(80, name="http"), Protocol.HTTP),
        (port(80, name="grpc-shop"), Protocol.GRPC),
        (port(80, name="tcp-shop"), Protocol.TCP),
        (port(80, name="tcp-server-first-mysql"), Protocol.TCP_SERVER_FIRST),
        (port(80, name="https"), Protocol.TLS),
        (port(80, name="tls-db"), Protocol.TLS),
        (port(80, name="tcpish"), Protocol.HTTP),
        (port(80, app="tcp"), Protocol.TCP),
        (port(80, app="https"), Protocol.TLS),
        (port(80, app="kubernetes.io/wss"), Protocol.TLS),
        (port(80, app="grpc", name="tcp-shop"), Protocol.GRPC),
        (port(80, app="kubernetes.io/h2c"), Protocol.GRPC),
        (port(80, app="mysql"), Protocol.TCP),
    ],
)
def test_the_protocol_is_what_the_port_says(
    service_port: dict[str, object], protocol: Protocol
) -> None:
    world = open_world().workload("shop", "till", service_port)
    match = only(world.compile(*HERE), 80)
    assert match.protocol == protocol
    assert (match.tcp is None) == protocol.is_http
    assert bool(match.hosts) == protocol.is_http


def test_udp_ports_and_external_names_are_not_carried() -> None:
    world = open_world()
    world.service("shop", "dns", {"port": 53, "protocol": "UDP"}, port(54))
    world.service("shop", "udp", {"port": 55, "protocol": "UDP"})
    world.service("shop", "away", port(56))
    world.found["Service"][-1]["spec"]["type"] = "ExternalName"
    assert [m.port for m in matches(world.compile(*HERE))] == [54]


def test_services_outside_the_mesh_and_hidden_ones_are_not_carried() -> None:
    world = open_world().namespace("outside", monitored=False)
    world.workload("outside", "a", port(81)).workload("shop", "b", port(82))
    world.service("shop", "c", port(83), annotations={"flomesh.io/service-exclusion": "true"})
    world.namespace("hall", **{"flomesh.io/service-exclusion-list": "d, e"})
    world.workload("hall", "d", port(84)).workload("hall", "f", port(86))
    assert [m.port for m in matches(world.compile(*HERE))] == [82, 86]


def test_an_ignored_namespace_is_not_monitored() -> None:
    world = open_world().workload("attic", "box", port(81))
    world.found["Namespace"][1]["metadata"]["labels"]["flomesh.io/ignore"] = "true"
    assert matches(world.compile(*HERE)) == ()


def test_the_old_label_monitors_too() -> None:
    world = open_world().workload("old", "box", port(81))
    labels = {"openservicemesh.io/monitored-by": "fsm"}
    world.found["Namespace"].append({"metadata": {"name": "old", "labels": labels}})
    assert [m.port for m in matches(world.compile(*HERE))] == [81]


def test_endpoints_that_are_not_ready_are_left_out_but_the_service_stays() -> None:
    world = open_world().workload("shop", "till", port(80), ready=False)
    config = world.compile(*HERE)
    assert only(config, 80)
    assert config.clusters["shop/till|80"].endpoints == ()


def test_a_pod_without_a_sidecar_is_reached_in_plain_text() -> None:
    world = open_world().workload("shop", "bare", port(80), sidecar=False)
    world.workload("shop", "till", port(81))
    config = world.compile(*HERE)
    assert config.clusters["shop/bare|80"].endpoints[0].identity is None
    assert config.clusters["shop/till|81"].endpoints[0].identity == (
        "spiffe://cluster.local/ns/shop/sa/till"
    )


def test_without_mutual_tls_no_identity_is_expected() -> None:
    world = open_world(sidecar={"sidecarDisabledMTLS": True}).workload("shop", "till", port(81))
    config = world.compile(*HERE)
    assert config.clusters["shop/till|81"].endpoints[0].identity is None


def test_an_endpoint_whose_pod_is_not_known_yet_is_never_reached_in_plain_text() -> None:
    world = open_world().workload("shop", "till", port(80))
    late = [p for p in world.found["Pod"] if p["metadata"]["name"] == "till"]
    slices = world.objects()["EndpointSlice"]
    world.found["EndpointSlice"] = slices
    for pod in late:
        world.found["Pod"].remove(pod)
    assert world.compile(*HERE).clusters["shop/till|80"].endpoints == ()


def test_an_address_that_was_given_to_another_pod_is_left_out() -> None:
    world = open_world().workload("shop", "till", port(80))
    world.found["EndpointSlice"] = world.objects()["EndpointSlice"]
    world.found["Service"][0]["spec"]["selector"] = {"app": "nobody"}
    world.found["Pod"][1]["status"]["podIP"] = "10.244.9.9"
    assert world.compile(*HERE).clusters["shop/till|80"].endpoints == ()


def test_an_address_without_a_pod_is_reached_in_plain_text() -> None:
    world = open_world()
    world.service("shop", "old-till", port(80), selector={})
    world.found["EndpointSlice"].append(
        {
            "metadata": {
                "namespace": "shop",
                "name": "old-till",
                "labels": {"kubernetes.io/service-name": "old-till"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080}],
            "endpoints": [{"addresses": ["192.0.2.7", "127.0.0.1", "169.254.1.1"]}],
        }
    )
    (endpoint,) = world.compile(*HERE).clusters["shop/old-till|80"].endpoints
    assert (endpoint.address, endpoint.identity) == ("192.0.2.7:8080", None)


def test_a_named_target_port_may_differ_between_pods() -> None:
    world = open_world()
    for name, number in (("till-a", 8080), ("till-b", 7070)):
        ports = [{"name": "web", "containerPort": number}]
        world.pod("shop", name, labels={"app": "till"}, ports=ports)
    world.service("shop", "till", port(80, "web"))
    cluster = world.compile(*HERE).clusters["shop/till|7070"]
    assert sorted(e.address.rpartition(":")[2] for e in cluster.endpoints) == ["7070", "8080"]


def test_ipv6_addresses_are_written_with_brackets() -> None:
    world = open_world(mode="mixed").workload("shop", "till", port(80))
    world.found["Pod"][1]["status"]["podIP"] = "FD00::0:7"
    world.found["Service"][0]["spec"].update(
        clusterIP="fd00::1", clusterIPs=["fd00::1", "10.96.0.9"]
    )
    config = world.compile(*HERE)
    assert config.clusters["shop/till|80"].endpoints[0].address == "[fd00::7]:80"
    by_service, by_pod = matches(config)
    assert {by_service.destinations, by_pod.destinations} == {
        ("fd00::1/128", "10.96.0.9/32"),
        ("fd00::7/128",),
    }
    assert {"[fd00::7]", "[fd00::7]:80"} <= set(by_pod.hosts[0].names) | set(
        by_service.hosts[0].names
    )


def test_a_pod_with_two_addresses_has_an_endpoint_for_each_family() -> None:
    world = open_world().workload("shop", "till", port(80))
    pod = world.found["Pod"][1]
    v4 = pod["status"]["podIP"]
    pod["status"]["podIPs"] = [{"ip": v4}, {"ip": "fd00::7"}]
    (second,) = world.objects()["EndpointSlice"]
    second["metadata"]["name"] = "till-v6"
    second["addressType"] = "IPv6"
    second["endpoints"][0]["addresses"] = ["fd00::7"]
    world.found["EndpointSlice"] = [second]
    addresses = [world.found["Service"][0]["spec"]["clusterIP"], "fd96::1"]
    world.found["Service"][0]["spec"]["clusterIPs"] = addresses
    # The proxy takes those of the family that its client dialled, and the others when they fail.
    config = world.compile(*HERE)
    assert [e.address for e in config.clusters["shop/till|80"].endpoints] == [
        f"{v4}:80",
        "[fd00::7]:80",
    ]
    assert only(config, 80).destinations == (f"{addresses[0]}/32", "fd96::1/128")


@pytest.mark.parametrize(("egress", "word"), [(True, "passthrough"), (False, "closed")])
def test_what_no_match_names_follows_egress(egress: bool, word: str) -> None:
    world = open_world(egress=egress).workload("shop", "till", port(80))
    config = world.compile(*HERE)
    assert config.outbound is not None
    assert config.outbound.unmatched == (Unmatched.PASSTHROUGH if egress else Unmatched.REFUSE)
    assert Mesh(world).call(HERE, "192.0.2.1", 443) == {word: 1}


def test_with_nothing_to_reach_and_no_egress_the_listener_is_closed() -> None:
    assert open_world(egress=False).compile(*HERE).outbound is None


def headless_world(mode: str = "domain", *ports: dict[str, object]) -> World:
    world = open_world(mode=mode)
    for name in ("db-0", "db-1"):
        world.pod("shop", name, account="db", labels={"app": "db"}, hostname=name)
    world.service("shop", "db", *(ports or (port(80, 8080),)), headless=True)
    return world


def test_a_headless_service_is_known_by_the_addresses_of_its_pods_on_both_ports() -> None:
    world = headless_world()
    found = {(m.destinations, m.port) for m in matches(world.compile(*HERE))}
    assert found == {
        ((f"{world.ip('shop', name)}/32",), number)
        for name in ("db-0", "db-1")
        for number in (80, 8080)
    }


def test_the_name_of_a_headless_service_means_all_its_pods() -> None:
    mesh = Mesh(headless_world())
    ip = mesh.world.ip("shop", "db-0")
    shares = mesh.call(HERE, ip, 80, Request("db.shop"))
    assert set(shares) == {"shop/db-0", "shop/db-1"}


@pytest.mark.parametrize("host", ["db-1.db", "db-1.db.shop", "db-1.db.shop.svc.cluster.local:80"])
def test_the_name_of_one_pod_means_that_pod(host: str) -> None:
    mesh = Mesh(headless_world())
    ip = mesh.world.ip("shop", "db-1")
    assert mesh.call(HERE, ip, 80, Request(host)) == {"shop/db-1": 1}


def test_whoever_dials_a_pod_over_tcp_gets_that_pod() -> None:
    mesh = Mesh(headless_world("domain", port(3306, app="tcp")))
    for name in ("db-0", "db-1"):
        assert mesh.call(HERE, mesh.world.ip("shop", name), 3306) == {f"shop/{name}": 1}


@pytest.mark.parametrize("mode", ["ip", "mixed"])
def test_pods_are_reached_by_address_where_mesh_config_says_so(mode: str) -> None:
    world = open_world(mode=mode)
    for name in ("till-a", "till-b"):
        world.pod("shop", name, labels={"app": "till"})
    world.service("shop", "till", port(80, 8080))
    mesh = Mesh(world)
    ip = world.ip("shop", "till-b")
    assert mesh.call(HERE, ip, 8080, Request(f"{ip}:8080")) == {"shop/till-b": 1}
    assert mesh.call(HERE, ip, 8080, Request(ip)) == {"shop/till-b": 1}
    cluster_ip = world.cluster_ip("shop", "till")
    assert set(mesh.call(HERE, cluster_ip, 80, Request(f"{cluster_ip}:80"))) == {
        "shop/till-a",
        "shop/till-b",
    }


def test_by_name_only_addresses_of_pods_are_not_known() -> None:
    world = open_world(mode="domain").workload("shop", "till", port(80))
    ip = world.ip("shop", "till")
    assert Mesh(world).call(HERE, ip, 80, Request(ip)) == {"passthrough": 1}


def test_by_address_only_names_are_not_known() -> None:
    world = open_world(mode="ip").workload("shop", "till", port(80))
    assert Mesh(world).name(HERE, ("shop", "till"), 80, Request("till")) == {"403": 1}


def test_a_split_holds_also_for_those_who_dial_pods_of_the_apex() -> None:
    world = open_world(mode="mixed")
    world.workload("shop", "till-v1", port(80), labels={"t": "1"})
    world.workload("shop", "till-v2", port(80), labels={"t": "1"})
    world.service("shop", "till", port(80), selector={"t": "1"})
    world.split("shop", "s", "till", {"till-v1": 0, "till-v2": 1})
    ip = world.ip("shop", "till-v1")
    assert Mesh(world).call(HERE, ip, 80, Request(ip)) == {"shop/till-v2": 1}


def test_a_stated_protocol_is_believed_before_a_silent_one() -> None:
    world = open_world(mode="mixed")
    world.pod("shop", "db")
    world.service("shop", "a-db", port(3306), selector={"app": "db"})
    world.service("shop", "db", port(3306, app="tcp"))
    ip = world.ip("shop", "db")
    by_pod = [m for m in matches(world.compile(*HERE)) if m.destinations == (f"{ip}/32",)]
    assert [m.protocol for m in by_pod] == [Protocol.TCP]


def test_replicas_share_what_they_may_reach() -> None:
    world = open_world().workload("shop", "till", port(80))
    world.pod("shop", "clerk-2", account="clerk")
    snapshot = world.snapshot()
    from fsm.compile.outbound import outbound_half

    first, second = (
        outbound_half(snapshot, snapshot.pods[("shop", name)].service_account, world.settings)  # type: ignore[index]
        for name in ("clerk", "clerk-2")
    )
    assert first is second


def test_an_endpoint_without_a_reference_is_known_by_its_address() -> None:
    world = open_world().workload("shop", "till", port(80))
    (found,) = world.objects()["EndpointSlice"]
    del found["endpoints"][0]["targetRef"]
    world.found["EndpointSlice"] = [found]
    world.found["Service"][0]["spec"]["selector"] = {}
    (endpoint,) = world.compile(*HERE).clusters["shop/till|80"].endpoints
    assert endpoint.identity == "spiffe://cluster.local/ns/shop/sa/till"


def test_a_pod_of_the_hosts_network_has_no_sidecar_whatever_its_labels_say() -> None:
    world = open_world().workload("shop", "till", port(80))
    world.found["Pod"][1]["spec"]["hostNetwork"] = True
    (endpoint,) = world.compile(*HERE).clusters["shop/till|80"].endpoints
    assert endpoint.identity is None
