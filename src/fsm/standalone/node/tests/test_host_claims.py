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
    assert sorted(made.claims) == [("TCP", 80), ("TCP", 30080)]
    assert {claim.port for claim in made.claims.values()} == {80}
    assert not made.refusals


def test_the_older_service_keeps_the_port_in_whatever_order_they_come() -> None:
    old, new = service("old", 1, port(80)), service("new", 2, port(80), port(81))
    for order in ([old, new], [new, old]):
        made = plan(order)
        assert made.claims["TCP", 80].service == ("shop", "old")
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


def test_one_number_may_be_had_once_per_protocol() -> None:
    both = service("dns", 1, port(53, protocol="UDP"), port(53, name="tcp"))
    late = service("late", 2, port(53, protocol="UDP"))
    made = plan([both, late])
    assert {key: claim.service[1] for key, claim in made.claims.items()} == {
        ("UDP", 53): "dns",
        ("TCP", 53): "dns",
    }
    (refusal,) = made.refusals
    assert (refusal.service[1], refusal.protocol, refusal.reason) == ("late", "UDP", PORT_TAKEN)
    (ingress,) = status_of(both, made, [], "127.0.0.1") or []
    assert all("error" not in entry for entry in ingress["ports"])


def test_other_protocols_are_told_as_unsupported() -> None:
    made = plan([service("sctp", 1, port(53, protocol="SCTP"), port(53))])
    assert list(made.claims) == [("TCP", 53)]
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
