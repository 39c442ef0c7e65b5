"""Which Service gets which port of the host, and what the others are told."""

from __future__ import annotations

from typing import Any

from fsm.standalone.node.host_claims import PORT_TAKEN, UNSUPPORTED, plan
from fsm.standalone.node.host_ports import status_of


def service(name: str, age: int, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": f"2025-01-01T00:00:{age:02}Z",
        },
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.1.1", "ports": list(ports)} | spec,
    }


def port(number: int, **more: Any) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"} | more


def test_a_load_balancer_has_its_own_ports_and_its_node_ports() -> None:
    made = plan([service("web", 1, port(80, nodePort=30080))])
    assert sorted(made.claims) == [80, 30080]
    assert {claim.port for claim in made.claims.values()} == {80}
    assert not made.refusals


def test_the_older_service_keeps_the_port_in_whatever_order_they_come() -> None:
    old, new = service("old", 1, port(80)), service("new", 2, port(80), port(81))
    for order in ([old, new], [new, old]):
        made = plan(order)
        assert made.claims[80].service == ("shop", "old")
        (refusal,) = made.refusals
        assert (refusal.service, refusal.reason) == (("shop", "new"), PORT_TAKEN)
        assert "shop/old" in refusal.message
        (ingress,) = status_of(new, made, made.refusals, "127.0.0.1") or []
        assert ingress["ports"] == [
            {"port": 80, "protocol": "TCP", "error": PORT_TAKEN},
            {"port": 81, "protocol": "TCP"},
        ]


def test_who_gets_no_port_at_all_stays_pending() -> None:
    old, new = service("old", 1, port(80)), service("new", 2, port(80))
    made = plan([old, new])
    assert status_of(new, made, made.refusals, "127.0.0.1") is None
    assert status_of(old, made, [], "127.0.0.1") is not None


def test_udp_is_told_as_unsupported_and_keeps_no_tcp_port_away() -> None:
    both = service("dns", 1, port(53, protocol="UDP"), port(53, name="tcp"))
    made = plan([both])
    assert made.claims[53].service == ("shop", "dns")
    assert [refusal.reason for refusal in made.refusals] == [UNSUPPORTED]


def test_others_claim_nothing() -> None:
    plain = service("plain", 1, port(80), type="ClusterIP")
    headless = service("headless", 1, port(80), clusterIP="None")
    classed = service("classed", 1, port(80), loadBalancerClass="example.com/lb")
    going = service("going", 1, port(80))
    going["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z"
    made = plan([plain, headless, classed, going])
    assert not made.claims
    assert all(status_of(s, made, [], "127.0.0.1") is None for s in (plain, classed, going))
