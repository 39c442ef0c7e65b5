"""Which address families a Service is to have: its ``ipFamilies`` and ``ipFamilyPolicy``.

What comes in: the spec of a Service about to be stored, that of before, and the families that this
cluster has. What goes out: the families in order, the first of which can never change, or causes.

    policy            families of a dual-stack cluster        of a cluster with IPv4 only
    SingleStack       the one that is named, else IPv4        IPv4
    PreferDualStack   both, the one that is named first       IPv4
    RequireDualStack  both, the one that is named first       refused

Invariants: the spec says afterwards what is so; who says nothing gets what it had, or one IPv4
address. Not done here: addresses (``addresses``).
Source: https://kubernetes.io/docs/concepts/services-networking/dual-stack/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence, Set

from fsm.standalone.apiserver.errors import Cause
from fsm.standalone.apiserver.store import KubeObject

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_POLICIES = (PREFER, REQUIRE, SINGLE)
_NAMES = ("IPv4", "IPv6")


def settle(spec: KubeObject, before: KubeObject, cluster: Sequence[str]) -> list[Cause]:
    """Set ``ipFamilies`` and ``ipFamilyPolicy`` to what holds.

    Args:
        spec: changed in place.
        before: the spec so far; empty for a new Service.
        cluster: families that the cluster has, the default first.

    Returns:
        What is wrong with what the Service asks for.

    """
    asked = _asked(spec)
    kept = list(before.get("ipFamilies") or [])
    # What a Service has it keeps, also when the box was opened again on a kernel without IPv6.
    if causes := _faults(spec, asked, {*cluster, *kept}):
        return causes
    policy = spec.get("ipFamilyPolicy")
    if kept and asked and asked[0] != kept[0]:
        text = f"Invalid value: {_list(asked)}: primary ipFamily can not be changed"
        return [Cause("spec.ipFamilies[0]", text)]
    if policy is None:
        # Two families that are spelled out can only be meant together.
        policy = REQUIRE if len(asked) == 2 else before.get("ipFamilyPolicy") or SINGLE
    first = next(iter(kept or asked), cluster[0])
    second = [family for family in dict.fromkeys((*cluster, *kept)) if family != first]
    if policy == SINGLE and len(asked) == 2 and before.get("ipFamilyPolicy") in (None, SINGLE):
        text = (
            f'Invalid value: "{SINGLE}": must be "{REQUIRE}" or "{PREFER}" when multiple IP'
            " families are specified"
        )
        return [Cause("spec.ipFamilyPolicy", text)]
    if policy == REQUIRE and not second:
        text = (
            f'Invalid value: "{REQUIRE}": this cluster is not configured for dual-stack services'
            " (see `fsm status` for why there is no IPv6)"
        )
        return [Cause("spec.ipFamilyPolicy", text)]
    spec["ipFamilyPolicy"] = policy
    spec["ipFamilies"] = [first] if policy == SINGLE else [first, *second]
    return []


def family_of(address: str) -> str:
    """Name the family of an address; "" for what is none."""
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def _asked(spec: KubeObject) -> list[str]:
    """Return the families that a spec names, or that the addresses that it asks for are of."""
    named = list(spec.get("ipFamilies") or [])
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    found = [family for address in addresses if (family := family_of(str(address)))]
    return found if len(found) > len(named) else named


def _faults(spec: KubeObject, asked: list[str], cluster: Set[str]) -> list[Cause]:
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _POLICIES:
        known = ", ".join(f'"{name}"' for name in _POLICIES)
        text = f'Unsupported value: "{policy}": supported values: {known}'
        return [Cause("spec.ipFamilyPolicy", text, "FieldValueNotSupported")]
    for index, family in enumerate(asked):
        path = f"spec.ipFamilies[{index}]"
        if family not in _NAMES:
            text = f'Unsupported value: "{family}": supported values: "IPv4", "IPv6"'
            return [Cause(path, text, "FieldValueNotSupported")]
        if family not in cluster:
            text = (
                f'Invalid value: "{family}": not configured on this cluster'
                " (see `fsm status` for why there is no IPv6)"
            )
            return [Cause(path, text)]
    if len(asked) > 2 or len(set(asked)) != len(asked):
        text = f"Invalid value: {_list(asked)}: may only hold one of each family"
        return [Cause("spec.ipFamilies", text)]
    return []


def _list(families: Sequence[str]) -> str:
    return "[" + ",".join(f'"{family}"' for family in families) + "]"
