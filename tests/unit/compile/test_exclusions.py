"""What passes a sidecar by: lists of MeshConfig and of annotations, before and after injection."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from world import World, port

from fsm.compile import assess, build_snapshot, compile_proxy
from fsm.compile.contract import Mtls, ProxyConfig
from fsm.model import Key
from fsm.model.exclusions import Exclusions, Injected, note, read_note
from fsm.policies.mesh_config.effects import counted_at_injection

NOTE = "flomesh.io/injected-with"


def shop(traffic: dict[str, Any] | None = None, **annotations: str) -> World:
    world = World().namespace("shop").mesh(egress=False, traffic=traffic or {})
    world.pod(
        "shop",
        "web",
        labels={"app": "web"},
        annotations={f"flomesh.io/{k.replace('_', '-')}": v for k, v in annotations.items()},
    )
    world.service("shop", "web", port(80, 8080))
    return world


def compiled(world: World) -> ProxyConfig:
    return world.compile("shop", "web")


def mesh_status(world: World) -> tuple[bool, str]:
    snapshot, _ = build_snapshot(world.objects(), world.settings)
    (status,) = [s for s in assess(snapshot, world.settings) if s.kind == "MeshConfig"]
    (found,) = [c for c in status.conditions if c.type == "Programmed"]
    return found.status, found.message


def test_nothing_is_excluded_by_default() -> None:
    config = compiled(shop())
    assert config.exclusions.ports == config.exclusions.destinations == ()
    assert config.outbound is None


def test_what_mesh_config_excludes_is_carried_past_by_a_pod_that_runs_already() -> None:
    config = compiled(
        shop(
            {
                "outboundIPRangeExclusionList": ["192.0.2.7/32", "10.1.2.3/8"],
                "outboundIPRangeInclusionList": ["10.0.0.0/8"],
                "outboundPortExclusionList": [5432, 25],
            }
        )
    )
    assert config.exclusions.ports == (25, 5432)
    assert config.exclusions.destinations == ("10.0.0.0/8", "192.0.2.7/32")
    assert config.exclusions.all_but == ("10.0.0.0/8",)


def test_annotations_of_the_pod_add_to_it_and_may_change_while_it_runs() -> None:
    config = compiled(
        shop(
            {"outboundPortExclusionList": [25]},
            outbound_port_exclusion_list="5432, 6379",
            outbound_ip_range_exclusion_list="192.0.2.7",
        )
    )
    assert config.exclusions.ports == (25, 5432, 6379)
    assert config.exclusions.destinations == ("192.0.2.7/32",)


def test_what_the_pods_own_rules_let_pass_is_not_said_again() -> None:
    world = shop({"outboundPortExclusionList": [25, 5432]})
    snapshot, _ = build_snapshot(world.objects(), world.settings)
    made_with = note(Exclusions(outbound_ports=(25,)), counted_at_injection(snapshot.mesh))
    world.found["Pod"][0]["metadata"]["annotations"] = {NOTE: made_with}
    assert compiled(world).exclusions.ports == (5432,)
    assert mesh_status(world) == (True, "in effect")


def test_an_excluded_inbound_port_is_open_to_anyone_in_plain_text() -> None:
    inbound = compiled(shop(inbound_port_exclusion_list="8080,9090")).inbound
    assert inbound is not None
    assert [(m.port, m.protocol, m.mtls) for m in inbound.matches] == [
        (8080, "tcp", Mtls.DISABLED),
        (9090, "tcp", Mtls.DISABLED),
    ]
    assert all(match.tcp and match.tcp.allowed is None for match in inbound.matches)


def test_what_is_taken_off_a_list_is_told_with_the_pods_that_cannot_know() -> None:
    world = shop()
    snapshot, _ = build_snapshot(world.objects(), world.settings)
    made_with = note(
        Exclusions(outbound_ranges=("192.0.2.7/32",), outbound_included=("10.0.0.0/8",)),
        counted_at_injection(snapshot.mesh),
    )
    world.found["Pod"][0]["metadata"]["annotations"] = {NOTE: made_with}
    programmed, message = mesh_status(world)
    assert programmed
    for field in ("outboundIPRangeExclusionList", "outboundIPRangeInclusionList"):
        assert (
            f"1 Pods were made with another traffic.{field} and keep it until they are made"
            " again: shop/web"
        ) in message


def test_a_field_that_counts_at_injection_is_told_when_it_changes() -> None:
    world = shop()
    snapshot, _ = build_snapshot(world.objects(), world.settings)
    made_with = note(Exclusions(), counted_at_injection(snapshot.mesh))
    for number in range(7):
        world.pod("shop", f"w{number}", annotations={NOTE: made_with})
    world.found["MeshConfig"][0]["spec"]["sidecar"] = {"sidecarImage": "mine:1"}
    message = mesh_status(world)[1]
    assert "7 Pods were made with another sidecar.sidecarImage" in message
    assert "shop/w0, shop/w1, shop/w2, shop/w3, shop/w4 and 2 more" in message


def test_fields_that_nothing_acts_on_are_told_with_the_reason() -> None:
    world = shop()
    world.found["MeshConfig"][0]["spec"] |= {
        "sidecar": {"cipherSuites": ["AES"], "compressConfig": True},
        "ingress": {"enabled": False},
        "egressGateway": {"enabled": True},
    }
    message = mesh_status(world)[1]
    assert "not heeded: sidecar.cipherSuites (" in message
    assert "egressGateway (" in message
    assert "compressConfig" not in message, "it asks for nothing"
    assert "ingress (" not in message.replace("egress", ""), "it is switched off"


def test_annotations_that_cannot_be_read_are_reported_and_the_rest_is_heeded() -> None:
    world = shop(outbound_port_exclusion_list="25,x,70000", outbound_ip_range_exclusion_list="a/b")
    snapshot, problems = build_snapshot(world.objects(), world.settings)
    assert [p.path for p in problems] == [
        "metadata.annotations[flomesh.io/outbound-ip-range-exclusion-list]",
        "metadata.annotations[flomesh.io/outbound-port-exclusion-list]",
        "metadata.annotations[flomesh.io/outbound-port-exclusion-list]",
    ]
    pod = snapshot.pods[Key("shop", "web")]
    assert compile_proxy(snapshot, pod, world.settings).exclusions.ports == (25,)


def test_the_note_reads_back_as_it_was_written() -> None:
    exclusions = Exclusions((1, 2), (3,), ("10.0.0.0/8",), ("::/0",), ("eth1",))
    read = read_note(note(exclusions, {"a": 1}))
    assert read.exclusions == exclusions
    assert set(read.mesh) == {"a"}


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_whatever_the_note_says_it_can_be_read(text: str) -> None:
    assert isinstance(read_note(text), Injected)


@given(
    st.dictionaries(
        st.sampled_from(["exclusions", "mesh", "x"]),
        st.dictionaries(
            st.sampled_from(["outbound_ports", "interfaces", "y"]),
            st.lists(st.integers() | st.text()) | st.none() | st.text(),
        )
        | st.lists(st.integers()),
    )
)
def test_a_note_of_another_shape_excludes_nothing_wrong(found: dict[str, Any]) -> None:
    read = read_note(json.dumps(found))
    assert all(isinstance(port, int) for port in read.exclusions.outbound_ports)
    assert all(isinstance(name, str) for name in read.exclusions.interfaces)
