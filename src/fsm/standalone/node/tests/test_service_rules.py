"""Services and endpoints to nftables: what is joined, and that the kernel takes it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm.standalone.node.service_rules import Endpoint, ServicePort, ruleset, service_ports


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.20", "ports": ports, **spec},
    }


def piece(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080}],
        **fields,
    }


def endpoint(ip: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions}


NETWORKS = (("10.96.0.0/16", "10.244.0.1"), ("fd00:10:96::/112", "fd00:10:244::1"))
READY6 = endpoint("fd00:10:244::5", ready=True)
READY = endpoint("10.244.0.5", ready=True)


def endpoints_of(*slices: dict[str, Any], **spec: Any) -> tuple[Endpoint, ...]:
    (port,) = service_ports([service(**spec)], slices)
    return port.endpoints


def test_service_port_joins_addresses_and_ready_endpoints() -> None:
    unready = endpoint("10.244.0.6", ready=False)
    (port,) = service_ports([service()], [piece(READY, unready)])
    assert port == ServicePort(
        "shop/web:http", "tcp", ("10.96.0.20",), 80, 30080, (Endpoint("10.244.0.5", 8080),)
    )


def test_leaving_endpoints_serve_only_when_no_other_does() -> None:
    leaving = endpoint("10.244.0.6", ready=False, serving=True, terminating=True)
    assert endpoints_of(piece(READY, leaving)) == (Endpoint("10.244.0.5", 8080),)
    assert endpoints_of(piece(leaving)) == (Endpoint("10.244.0.6", 8080),)


@pytest.mark.parametrize(
    "foreign",
    [
        piece(READY, ports=[{"name": "other", "port": 8080}]),
        piece(READY, ports=[{"name": "http", "port": 8080, "protocol": "UDP"}]),
        piece(READY, ports=[{"name": "http", "port": 0}]),
        piece(READY, addressType="FQDN"),
        piece(endpoint("not-an-address", ready=True)),
        piece(endpoint("10.0.0.1 accept", ready=True)),
        piece(READY) | {"metadata": {"name": "x", "namespace": "shop"}},
    ],
)
def test_endpoint_that_does_not_fit_is_left_out(foreign: dict[str, Any]) -> None:
    assert endpoints_of(foreign) == ()


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName"}])
def test_service_without_cluster_ip_needs_no_rules(spec: dict[str, Any]) -> None:
    assert service_ports([service(**spec)], [piece(READY)]) == []


def test_same_input_in_any_order_gives_the_same_text() -> None:
    services = [service("web"), service("other", clusterIP="10.96.0.21")]
    slices = [piece(READY, endpoint("10.244.0.9", ready=True)), piece(READY)]
    first = ruleset(service_ports(services, slices), NETWORKS)
    again = service_ports(reversed(services), reversed(slices))
    assert ruleset(again, NETWORKS) == first


BOTH: dict[str, Any] = {"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::20"]}
DUAL = [piece(READY), piece(READY6, addressType="IPv6")]


def test_each_family_leads_to_its_own_endpoints_alone() -> None:
    text = ruleset(service_ports([service(**BOTH)], DUAL), NETWORKS)
    v4, v6 = text.split("table ip6 fsm-services {}")
    assert "10.96.0.20 . tcp . 80" in v4
    assert "dnat to 10.244.0.5:8080" in v4
    assert "fd00:" not in v4
    assert "fd00:10:96::20 . tcp . 80" in v6
    assert "dnat to [fd00:10:244::5]:8080" in v6
    assert "10." not in v6


def test_service_of_one_family_has_no_node_port_in_the_other() -> None:
    only: dict[str, Any] = {"clusterIP": "fd00:10:96::20", "clusterIPs": ["fd00:10:96::20"]}
    v4, v6 = ruleset(service_ports([service(**only)], DUAL), NETWORKS).split(
        "table ip6 fsm-services {}"
    )
    assert "30080" not in v4
    assert "tcp . 30080" in v6


def test_without_ipv6_there_is_one_table() -> None:
    assert "ip6" not in ruleset(service_ports([service(**BOTH)], DUAL), NETWORKS[:1])


@functools.cache
def _netns_nft() -> list[str] | None:
    """How to run nft in a network namespace of its own, if this machine lets us."""
    for words in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        command = [*words, "nft", "-f", "-"]
        if shutil.which("nft") is None:
            return None
        tried = subprocess.run(
            command, input="table ip t {}\n", capture_output=True, text=True, check=False
        )
        if tried.returncode == 0:
            return command
    return None


_NAMES = st.text(max_size=200)
_PORTS = st.builds(
    ServicePort,
    name=_NAMES,
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    addresses=st.lists(
        st.sampled_from(["10.96.0.20", "10.96.0.21", "fd00:10:96::20"]), min_size=1
    ).map(tuple),
    port=st.integers(1, 65535),
    node_port=st.sampled_from([0, 30000, 30001]),
    endpoints=st.lists(
        st.builds(
            Endpoint,
            st.sampled_from(["10.244.0.5", "10.244.0.6", "fd00:10:244::5"]),
            st.integers(1, 65535),
        ),
        max_size=4,
    ).map(tuple),
    sticky=st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(_PORTS, max_size=6, unique_by=lambda port: (port.name, port.protocol)))
def test_kernel_takes_whatever_the_objects_hold(ports: list[ServicePort]) -> None:
    command = _netns_nft()
    if command is None:
        pytest.skip("nft cannot be run in a network namespace here")
    text = ruleset(ports, NETWORKS)
    # Twice: the second time it replaces what the first one made.
    done = subprocess.run(command, input=text + text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + text
