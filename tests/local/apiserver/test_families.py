"""Address families of Services: what is asked for, what is given, and what may change."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from fsm.standalone.apiserver.addresses import Network, assign

V4 = ipaddress.IPv4Network("10.96.0.0/16")
V6 = ipaddress.IPv6Network("fd00:10:96::/112")
BOTH: tuple[Network, ...] = (V4, V6)


def given(
    spec: dict[str, Any],
    old: dict[str, Any] | None = None,
    networks: tuple[Network, ...] = BOTH,
    others: tuple[dict[str, Any], ...] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Store a Service with a spec; returns the spec as stored and the faults."""
    service = {"spec": {"type": "ClusterIP", **spec}}
    before = {"spec": old} if old else None
    causes = assign(service, before, [{"spec": other} for other in others], networks)
    return service["spec"], [f"{cause.field}: {cause.message}" for cause in causes]


def families(spec: dict[str, Any]) -> list[str]:
    found = [f"IPv{ipaddress.ip_address(ip).version}" for ip in spec["clusterIPs"]]
    assert found == spec["ipFamilies"]
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    return found


@pytest.mark.parametrize(
    ("asked", "expected", "policy"),
    [
        ({}, ["IPv4"], "SingleStack"),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
        ({"clusterIP": "fd00:10:96::7"}, ["IPv6"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack"),
        ({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], "RequireDualStack"),
        (
            {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            "PreferDualStack",
        ),
        ({"ipFamilies": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"], "RequireDualStack"),
        ({"clusterIPs": ["10.96.0.9", "fd00:10:96::9"]}, ["IPv4", "IPv6"], "RequireDualStack"),
    ],
)
def test_new_service_gets_the_families_of_its_policy(
    asked: dict[str, Any], expected: list[str], policy: str
) -> None:
    spec, faults = given(asked)
    assert faults == []
    assert families(spec) == expected
    assert spec["ipFamilyPolicy"] == policy
    assert set(asked.get("clusterIPs") or []) <= set(spec["clusterIPs"])


def test_headless_service_has_families_and_no_addresses() -> None:
    spec, faults = given({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"})
    assert faults == []
    assert spec["clusterIPs"] == ["None"]
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"ipFamilyPolicy": "Both"}, "spec.ipFamilyPolicy: Unsupported value"),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]: Unsupported value"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies: Invalid value"),
        (
            {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]},
            'must be "RequireDualStack" or "PreferDualStack"',
        ),
        ({"clusterIP": "fd00::1"}, "not in the valid range fd00:10:96::/112"),
        ({"clusterIP": "10.96.0.5"}, "already allocated"),
        ({"clusterIP": "nonsense"}, "must be a valid IP address"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], fault: str) -> None:
    _, faults = given(asked, others=({"clusterIP": "10.96.0.5"},))
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "asked", [{"ipFamilies": ["IPv6"]}, {"ipFamilyPolicy": "RequireDualStack"}]
)
def test_box_without_ipv6_refuses_what_needs_it_and_says_why(asked: dict[str, Any]) -> None:
    _, faults = given(asked, networks=(V4,))
    assert len(faults) == 1
    assert "fsm status" in faults[0]


def test_box_without_ipv6_gives_one_address_to_who_prefers_two() -> None:
    spec, faults = given({"ipFamilyPolicy": "PreferDualStack"}, networks=(V4,))
    assert faults == []
    assert families(spec) == ["IPv4"]


def test_service_takes_on_a_second_family_and_gives_it_back() -> None:
    old, _ = given({})
    dual, faults = given({**old, "ipFamilyPolicy": "PreferDualStack"}, old)
    assert faults == []
    assert families(dual) == ["IPv4", "IPv6"]
    assert dual["clusterIP"] == old["clusterIP"]
    again, faults = given(dict(dual), dual)
    assert (again, faults) == (dual, [])
    single, faults = given({**dual, "ipFamilyPolicy": "SingleStack"}, dual)
    assert faults == []
    assert single["clusterIPs"] == [old["clusterIP"]]


def test_first_family_never_changes() -> None:
    old, _ = given({})
    _, faults = given({**old, "ipFamilies": ["IPv6"]}, old)
    assert "primary ipFamily can not be changed" in faults[0]


def test_service_of_two_families_can_be_changed_where_ipv6_is_gone() -> None:
    old, _ = given({"ipFamilyPolicy": "RequireDualStack"})
    kept, faults = given({**old, "sessionAffinity": "ClientIP"}, old, (V4,))
    assert faults == []
    assert kept["clusterIPs"] == old["clusterIPs"]
