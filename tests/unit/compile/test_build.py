"""From objects to a snapshot: what is broken is told and disturbs nobody."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, bookstore, port

from fsm.compile import SnapshotBuilder, build_snapshot
from fsm.model import Key, ServiceAccount
from fsm.settings import Settings

SETTINGS = Settings()


def broken(kind: str, namespace: str = "bookstore", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"namespace": namespace, "name": "broken"}, **fields}


@pytest.mark.parametrize(
    ("kind", "fields", "path", "message"),
    [
        ("Pod", {"status": {"podIP": "not-an-ip"}}, "status.podIP", "is not an IP address"),
        ("Pod", {"spec": {"containers": {}}}, "spec.containers", "expected a list, got an object"),
        ("Pod", {"spec": {"hostNetwork": "no"}}, "spec.hostNetwork", "expected true or false"),
        ("Service", {"spec": {"ports": [{}]}}, "spec.ports[0].port", "is missing"),
        ("Service", {"spec": {"ports": [{"port": 0}]}}, "spec.ports[0].port", "from 1 to 65535"),
        ("Service", {"spec": {"selector": {"a": 1}}}, "spec.selector[a]", "expected text"),
        ("EndpointSlice", {"endpoints": [3]}, "endpoints[0]", "expected an object"),
        ("Namespace", {"spec": {}, "metadata": {"name": 3}}, "metadata.name", "expected text"),
        ("TrafficTarget", {"spec": {}}, "spec.destination", "is required"),
        ("TrafficSplit", {"spec": {"service": 3}}, "spec.backends", "is required"),
        ("HTTPRouteGroup", {"spec": {"matches": []}}, "spec.matches", "is empty"),
        ("TCPRoute", {"spec": {"matches": {"ports": [0]}}}, "spec.matches.ports[0]", "range"),
    ],
)
def test_a_broken_object_is_told_and_the_others_are_there(
    kind: str, fields: dict[str, Any], path: str, message: str
) -> None:
    objects = bookstore().objects()
    whole, problems = build_snapshot(objects, SETTINGS)
    assert problems == []
    objects = {**objects, kind: [broken(kind, **fields), *objects.get(kind, [])]}
    snapshot, problems = build_snapshot(objects, SETTINGS)
    assert problems[0].kind == kind
    assert (problems[0].path, message in problems[0].message) == (path, True), problems
    assert snapshot.pods == whole.pods
    assert snapshot.endpoints == whole.endpoints
    assert snapshot.problems == tuple(problems)
    assert kind in str(problems[0])


@settings(max_examples=100)
@given(
    st.sampled_from(["Pod", "Service", "EndpointSlice", "Namespace"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "metadata",
                        "spec",
                        "status",
                        "ports",
                        "port",
                        "name",
                        "addresses",
                        "endpoints",
                        "conditions",
                        "podIP",
                        "podIPs",
                        "ip",
                        "labels",
                        "targetRef",
                        "clusterIPs",
                        "ownerReferences",
                        "containers",
                        "targetPort",
                        "selector",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ),
)
def test_no_json_stops_the_others(kind: str, value: Any) -> None:
    obj = value if isinstance(value, dict) else {"spec": value}
    obj = {"metadata": {"name": "x", "namespace": "bookstore"}, **obj}
    objects = bookstore().objects()
    whole, _ = build_snapshot(objects, SETTINGS)
    snapshot, _ = build_snapshot({**objects, kind: [obj, *objects.get(kind, [])]}, SETTINGS)
    assert set(whole.pods) <= set(snapshot.pods)


def test_kinds_that_are_not_ours_are_not_looked_at() -> None:
    snapshot, problems = build_snapshot({"Gateway": [{"kind": 3}]}, SETTINGS)
    assert (problems, snapshot.pods) == ([], {})


def test_an_object_of_the_same_version_is_not_parsed_again() -> None:
    builder = SnapshotBuilder(SETTINGS)
    objects = bookstore().objects()
    for pod in objects["Pod"]:
        pod["metadata"]["resourceVersion"] = "1"
    first, _ = builder.build(objects)
    for pod in objects["Pod"]:
        pod["spec"]["serviceAccountName"] = "other"
    objects["Pod"][0]["metadata"]["resourceVersion"] = "2"
    second, _ = builder.build(objects)
    same = [first.pods[key] is second.pods[key] for key in first.pods]
    assert sorted(same) == [False, True, True, True, True]


def test_a_namesake_in_another_server_is_parsed_again() -> None:
    builder = SnapshotBuilder(SETTINGS)
    objects = bookstore().objects()
    key = Key("bookbuyer", "bookbuyer")
    pod = objects["Pod"][0]
    pod["metadata"]["resourceVersion"] = "1"
    builder.build(objects)
    pod["metadata"]["uid"] = "another"
    pod["spec"]["serviceAccountName"] = "other"
    snapshot, _ = builder.build(objects)
    assert snapshot.pods[key].service_account == ServiceAccount("bookbuyer", "other")


def test_problems_stay_while_the_object_stays() -> None:
    builder = SnapshotBuilder(SETTINGS)
    bad = broken("TrafficTarget", spec={})
    bad["metadata"].update(resourceVersion="7", generation=4)
    for _ in range(2):
        _, problems = builder.build({"TrafficTarget": [bad]})
        assert {p.generation for p in problems} == {4}
    assert builder.build({})[1] == []


def test_without_mesh_config_access_is_by_policy() -> None:
    world = bookstore()
    del world.found["MeshConfig"]
    snapshot, _ = build_snapshot(world.objects(), SETTINGS)
    assert not snapshot.mesh.traffic.permissive
    assert snapshot.mesh.key == Key("fsm-system", "fsm-mesh-config")


def test_a_mesh_config_of_another_name_is_not_followed() -> None:
    world = bookstore().mesh(permissive=True)
    world.found["MeshConfig"][0]["metadata"]["name"] = "other"
    snapshot, _ = build_snapshot(world.objects(), SETTINGS)
    assert not snapshot.mesh.traffic.permissive


def test_a_broken_mesh_config_leaves_the_last_good_one_in_force() -> None:
    builder = SnapshotBuilder(SETTINGS)
    world = bookstore().mesh(permissive=True)
    assert builder.build(world.objects())[0].mesh.traffic.permissive
    world.found["MeshConfig"][0]["spec"]["traffic"]["enableEgress"] = "yes"
    snapshot, problems = builder.build(world.objects())
    assert snapshot.mesh.traffic.permissive
    assert [p.path for p in problems] == ["spec.traffic.enableEgress"]
    world.found["MeshConfig"].clear()
    assert not builder.build(world.objects())[0].mesh.traffic.permissive


@pytest.mark.parametrize(
    ("pod", "namespace", "level"),
    [
        ({}, {}, "denied"),
        ({}, {"flomesh.io/access-log": "all"}, "all"),
        ({"flomesh.io/access-log": "off"}, {"flomesh.io/access-log": "all"}, "off"),
        ({"flomesh.io/access-log": "loud"}, {"flomesh.io/access-log": "all"}, "all"),
    ],
)
def test_the_access_log_follows_pod_then_namespace_then_settings(
    pod: dict[str, str], namespace: dict[str, str], level: str
) -> None:
    from fsm.compile import compile_proxy

    world = World().namespace("shop", **namespace).mesh()
    world.pod("shop", "till", annotations=pod)
    snapshot, problems = build_snapshot(world.objects(), SETTINGS)
    config = compile_proxy(snapshot, snapshot.pods[Key("shop", "till")], SETTINGS)
    assert config.telemetry.access_log == level
    assert [p.name for p in problems] == (["till"] if "loud" in pod.values() else [])


def test_workload_chains_and_timeouts_are_filled() -> None:
    chains = {
        "inbound-http": [
            {"plugin": "modules/inbound-http-default", "priority": 100},
            {"plugin": "modules/inbound-http-routing", "priority": 170},
            {"plugin": "plugins/mine", "priority": 165},
            {"plugin": "modules/inbound-dance-http", "priority": 120},
            {"plugin": "modules/inbound-logging-http", "priority": 140, "disable": True},
        ]
    }
    world = World().namespace("shop").plugin("mine")
    world.mesh(
        pluginChains=chains,
        sidecar={"sidecarTimeout": 60},
        featureFlags={"enablePluginPolicy": True},
    )
    world.pod("shop", "till", labels={"pod-template-hash": "abc"})
    world.found["Pod"][0]["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "till-abc", "controller": True}
    ]
    config = world.compile("shop", "till")
    assert (config.workload.kind, config.workload.name) == ("Deployment", "till")
    assert (config.workload.pod, config.workload.service_account) == ("till", "till")
    assert config.chains.inbound_http == (
        "modules/inbound-http-routing.js",
        "plugins/mine.js",
        "modules/inbound-http-default.js",
    )
    assert config.chains.outbound_tcp[0] == "modules/outbound-tcp-routing.js"
    assert config.timeouts.idle_ms == 60_000
    assert config.trust.roots == ("ROOT",)


def test_a_pod_that_has_ended_gives_its_address_away() -> None:
    world = World().namespace("shop").mesh(permissive=True)
    world.pod("shop", "old", labels={"app": "till"})
    world.pod("shop", "new", labels={"app": "till"})
    world.service("shop", "till", port(80))
    world.found["Pod"][0]["status"]["phase"] = "Succeeded"
    world.found["Pod"][1]["status"]["podIP"] = world.ip("shop", "old")
    snapshot = world.snapshot()
    assert snapshot.pods_by_ip[world.ip("shop", "new")].name == "new"
    (endpoint,) = snapshot.endpoints[Key("shop", "till")]
    assert endpoint.pod is not None
    assert endpoint.pod.name == "new"
