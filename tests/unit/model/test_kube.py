"""Kubernetes' own kinds, leniently: what is absent is empty, what is wrong is named."""

import pytest

from fsm.model import (
    Key,
    Malformed,
    ServiceAccount,
    endpoint_slice_from,
    key_of,
    namespace_from,
    pod_from,
    service_from,
)

META = {"name": "x", "namespace": "shop"}


def test_a_pod_needs_no_more_than_a_name() -> None:
    pod = pod_from({"metadata": META})
    assert pod.key == Key("shop", "x")
    assert pod.service_account == ServiceAccount("shop", "default")
    assert (pod.ips, pod.ready, pod.terminal, pod.has_sidecar) == ((), False, False, False)
    assert (pod.owner_kind, pod.owner_name) == ("Pod", "x")


def test_the_addresses_of_a_pod_are_each_there_once_in_one_spelling() -> None:
    status = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00:0::1"}]}
    assert pod_from({"metadata": META, "status": status}).ips == ("10.0.0.1", "fd00::1")


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "shop-5d9f"), {"pod-template-hash": "5d9f"}, ("Deployment", "shop")),
        (("ReplicaSet", "shop-5d9f"), {}, ("ReplicaSet", "shop-5d9f")),
        (("ReplicaSet", "shop-aaaa"), {"pod-template-hash": "5d9f"}, ("ReplicaSet", "shop-aaaa")),
        (("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        (("Job", "once"), {}, ("Job", "once")),
    ],
)
def test_the_owner_is_the_one_that_users_know(
    owner: tuple[str, str], labels: dict[str, str], expected: tuple[str, str]
) -> None:
    references = [
        {"kind": "Node", "name": "n"},
        {"kind": owner[0], "name": owner[1], "controller": True},
    ]
    pod = pod_from({"metadata": {**META, "labels": labels, "ownerReferences": references}})
    assert (pod.owner_kind, pod.owner_name) == expected


def test_named_ports_are_found_in_init_containers_too() -> None:
    spec = {
        "initContainers": [{"ports": [{"name": "side", "containerPort": 1}]}],
        "containers": [
            {"ports": [{"name": "dns", "containerPort": 2, "protocol": "UDP"}]},
            {"ports": [{"name": "web", "containerPort": 3}, {"containerPort": 4}]},
        ],
    }
    pod = pod_from({"metadata": META, "spec": spec})
    assert [pod.port_number(name) for name in ("side", "web", "dns", "none")] == [1, 3, None, None]


@pytest.mark.parametrize(
    ("target", "expected"),
    [(None, 0), (0, 0), (8080, 8080), ("8080", 8080), ("web", "web"), ("", 0)],
)
def test_target_ports_are_numbers_or_names(target: object, expected: object) -> None:
    spec = {"ports": [{"port": 80, "targetPort": target}]}
    assert service_from({"metadata": META, "spec": spec}).ports[0].target_port == expected


@pytest.mark.parametrize("target", [70000, -1, True, 1.5, [], "99999"])
def test_a_target_port_that_is_none_is_named(target: object) -> None:
    spec = {"ports": [{"port": 80, "targetPort": target}]}
    with pytest.raises(Malformed, match=r"spec\.ports\[0\]\.targetPort"):
        service_from({"metadata": META, "spec": spec})


def test_a_headless_service_has_no_address() -> None:
    for spec in ({"clusterIP": "None"}, {"clusterIP": "None", "clusterIPs": ["None"]}):
        service = service_from({"metadata": META, "spec": spec})
        assert (service.headless, service.cluster_ips) == (True, ())
    service = service_from({"metadata": META, "spec": {"clusterIP": ""}})
    assert (service.headless, service.cluster_ips) == (False, ())


def test_a_slice_leaves_out_what_cannot_be_dialled() -> None:
    found = endpoint_slice_from(
        {
            "metadata": {**META, "labels": {"kubernetes.io/service-name": "till"}},
            "ports": [{"name": "a", "port": 1}, {"name": "b"}, {"port": 2, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": False}},
                {"addresses": ["127.0.0.1", "::1", "169.254.0.1", "224.0.0.1", "0.0.0.0"]},
                {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "n"}},
            ],
        }
    )
    assert (found.service, found.ports) == ("till", (("a", 1), ("/udp", 2)))
    assert [(e.addresses, e.ready, e.pod) for e in found.endpoints] == [
        (("10.0.0.1",), False, None),
        ((), True, None),
        (("10.0.0.2",), True, None),
    ]
    names = {"addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]}
    assert endpoint_slice_from({"metadata": META, **names}).endpoints == ()


def test_an_address_with_a_zone_is_refused() -> None:
    with pytest.raises(Malformed, match="has a zone"):
        pod_from({"metadata": META, "status": {"podIP": "fe80::1%eth0"}})


def test_an_object_without_a_name_is_refused() -> None:
    for obj in ({}, {"metadata": None}, {"metadata": {}}, {"metadata": {"name": ""}}):
        with pytest.raises(Malformed, match=r"metadata\.name: is missing"):
            key_of(obj)


def test_a_namespace_is_monitored_by_its_mesh_alone() -> None:
    labels = {"flomesh.io/monitored-by": "blue"}
    namespace = namespace_from({"metadata": {"name": "shop", "labels": labels}})
    assert namespace.monitored_by("blue")
    assert not namespace.monitored_by("fsm")
