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
from collections.abc import Iterable

from fsm.standalone.apiserver.errors import Cause, StatusError
from fsm.standalone.apiserver.store import KubeObject

NODE_PORTS = range(30000, 32768)
# Addresses that only a Service which asks for them by value gets: room for well-known ones.
RESERVED_FIRST = 256


def assign(
    service: KubeObject,
    old: KubeObject | None,
    others: Iterable[KubeObject],
    network: ipaddress.IPv4Network,
) -> list[Cause]:
    """Give a Service its cluster IP and node ports.

    Args:
        service: the Service, changed in place.
        old: its state before, when this is an update.
        others: the other Services.
        network: the range of cluster IPs.

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
        causes += _cluster_ip(spec, before, taken, network)
    causes += _node_ports(spec, before, taken)
    return causes


def _cluster_ip(
    spec: KubeObject,
    before: KubeObject,
    taken: list[KubeObject],
    network: ipaddress.IPv4Network,
) -> list[Cause]:
    kept = before.get("clusterIP") or ""
    asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "") or kept
    if kept and asked != kept:
        return [Cause("spec.clusterIP", f'Invalid value: "{asked}": field is immutable')]
    used = {other.get("clusterIP") for other in taken}
    if not asked:
        asked = _free_address(network, used)
    elif asked != "None" and not kept:
        try:
            inside = ipaddress.IPv4Address(asked) in network
        except ValueError:
            inside = False
        if not inside:
            return [
                Cause(
                    "spec.clusterIPs",
                    f'Invalid value: ["{asked}"]: the provided IP is not in the valid range'
                    f" {network}",
                )
            ]
        if asked in used:
            return [
                Cause(
                    "spec.clusterIPs",
                    f'Invalid value: ["{asked}"]: provided IP is already allocated',
                )
            ]
    spec["clusterIP"], spec["clusterIPs"] = asked, [asked]
    return []


def _free_address(network: ipaddress.IPv4Network, used: set[str | None]) -> str:
    # INVARIANT: never the network or broadcast address. Random start, so that an address just
    # freed is seldom handed to another Service while proxies still remember the old one.
    first = RESERVED_FIRST if network.num_addresses > 2 * RESERVED_FIRST else 2
    count = network.num_addresses - first - 1
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
