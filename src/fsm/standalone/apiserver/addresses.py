"""Cluster IPs and node ports: which are taken, which is next.

What comes in: a Service about to be stored, and the Services that exist. What goes out: the same
Service with addresses, or causes of refusal.

Invariants: the store is the only truth (nothing is remembered beside it), so an address is free
again the moment its Service is gone; the first addresses of the range are given by name only
(``10.96.0.1`` is the API, ``10.96.0.10`` is DNS).
Source: https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence

from fsm.standalone.apiserver.errors import Cause, StatusError
from fsm.standalone.apiserver.families import family_of, settle
from fsm.standalone.apiserver.store import KubeObject

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NODE_PORTS = range(30000, 32768)
# Addresses that only a Service which asks for them by value gets: room for well-known ones.
RESERVED_FIRST = 256


def assign(
    service: KubeObject,
    old: KubeObject | None,
    others: Iterable[KubeObject],
    networks: Sequence[Network],
) -> list[Cause]:
    """Give a Service its cluster IPs and node ports.

    Args:
        service: the Service, changed in place.
        old: its state before, when this is an update.
        others: the other Services.
        networks: the ranges of cluster IPs, one per address family, the default first.

    Returns:
        What is wrong with the addresses that it asks for.
    """
    spec = service["spec"]
    before = (old or {}).get("spec") or {}
    taken = [other["spec"] for other in others if other is not old]
    causes: list[Cause] = []
    if spec["type"] == "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(key, None)
    else:
        if before.get("type") == "ExternalName":
            before = {}
        causes += settle(spec, before, [f"IPv{network.version}" for network in networks])
        causes = causes or _cluster_ips(spec, before, taken, networks)
    causes += _node_ports(spec, before, taken)
    return causes


def _cluster_ips(
    spec: KubeObject,
    before: KubeObject,
    taken: list[KubeObject],
    networks: Sequence[Network],
) -> list[Cause]:
    kept = _listed(before)
    asked = _listed(spec) or kept
    if kept and asked[0] != kept[0]:
        return [Cause("spec.clusterIP", f'Invalid value: "{asked[0]}": field is immutable')]
    if "None" in asked:
        spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
        return []
    used = {address for other in taken for address in _listed(other)}
    by_family = {f"IPv{network.version}": network for network in networks}
    given: list[str] = []
    for family in spec["ipFamilies"]:
        wanted = next((ip for ip in asked if family_of(ip) == family), "")
        network = by_family.get(family)
        if network is None:
            # The cluster had this family when the Service was made.
            given += [wanted] if wanted else []
            continue
        fault = _fault(wanted, network, used) if wanted and wanted not in kept else ""
        if fault:
            return [Cause("spec.clusterIPs", f'Invalid value: ["{wanted}"]: {fault}')]
        given.append(wanted or _free_address(network, used))
    if odd := [ip for ip in asked if not family_of(ip)]:
        return [
            Cause("spec.clusterIPs", f'Invalid value: ["{odd[0]}"]: must be a valid IP address')
        ]
    spec["clusterIP"], spec["clusterIPs"] = given[0], given
    return []


def _listed(spec: KubeObject) -> list[str]:
    """Return the addresses of a spec; ``clusterIP`` is the first where both are given."""
    first = str(spec.get("clusterIP") or "")
    listed = [str(ip) for ip in spec.get("clusterIPs") or []]
    return [first, *listed[1:]] if first else listed


def _fault(asked: str, network: Network, used: set[str]) -> str:
    if ipaddress.ip_address(asked) not in network:
        return f"the provided IP is not in the valid range {network}"
    return "provided IP is already allocated" if asked in used else ""


def _free_address(network: Network, used: set[str]) -> str:
    # INVARIANT: never the network or broadcast address. Random start, so that an address just
    # freed is seldom handed to another Service while proxies still remember the old one.
    first = RESERVED_FIRST if network.num_addresses > 2 * RESERVED_FIRST else 2
    # LIMIT: of a larger network only so many are used; none of them is ever all taken.
    count = min(network.num_addresses, 1 << 20) - first - 1
    start = random.randrange(max(count, 1))
    for step in range(count):
        address = str(network[first + (start + step) % count])
        if address not in used:
            return address
    raise StatusError(500, "InternalError", f"no cluster IP is free in {network}")


def _node_ports(spec: KubeObject, before: KubeObject, taken: list[KubeObject]) -> list[Cause]:
    wanted = spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    )
    ports = spec.get("ports") or []
    if not wanted:
        if spec["type"] != "LoadBalancer":
            for port in ports:
                port.pop("nodePort", None)
        return []
    used = {
        (port.get("nodePort"), port.get("protocol"))
        for other in taken
        for port in other.get("ports") or []
    }
    kept = {
        (port.get("port"), port.get("protocol")): port.get("nodePort")
        for port in before.get("ports") or []
    }
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        protocol, path = port["protocol"], f"spec.ports[{index}].nodePort"
        asked = port.get("nodePort") or kept.get((port.get("port"), protocol))
        if asked:
            if asked not in NODE_PORTS:
                causes.append(
                    Cause(
                        path,
                        f"Invalid value: {asked}: provided port is not in the valid range"
                        f" {NODE_PORTS.start}-{NODE_PORTS.stop - 1}",
                    )
                )
            elif (asked, protocol) in used:
                causes.append(
                    Cause(path, f"Invalid value: {asked}: provided port is already allocated")
                )
        else:
            free = [number for number in NODE_PORTS if (number, protocol) not in used]
            if not free:
                raise StatusError(500, "InternalError", "no node port is free")
            asked = random.choice(free)
        port["nodePort"] = asked
        used.add((asked, protocol))
    return causes
