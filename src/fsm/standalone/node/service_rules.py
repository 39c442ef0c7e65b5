"""From Services and their endpoints to one nftables ruleset: what makes a ClusterIP work.

    prerouting/output ─► services: (address, protocol, port) ─► svc-…: pick one ─► dnat
    what still goes to the Service network after that belongs to nobody ─► refused at once

There is one table per address family. A Service takes part in the families of its ClusterIPs, with
the endpoints of that family; nothing is translated between them.

What comes in: Service and EndpointSlice objects. What goes out: the text for one ``nft -f -``,
which replaces the whole table in one transaction: packets see the old rules or the new ones.

Invariants: pure, and the same input gives the same text; addresses and ports are parsed, so no text
of an object reaches the ruleset as it is; a Pod that reaches itself through its own Service is
seen as the node, since otherwise it would be asked by, and answer to, itself.
Not done here: applying it (``service_proxy``), external addresses.
Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

KubeObject = dict[str, Any]

TABLE = "fsm-services"
#: Packet mark for traffic of a Pod to itself; one bit, as others use the rest.
_HAIRPIN = "0x4000"
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address that answers for a Service port."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service, with everything needed to route to it.

    Attributes:
        name: ``namespace/service:port``, for people who read the ruleset.
        protocol: ``tcp``, ``udp`` or ``sctp``.
        addresses: ClusterIPs, of either family.
        port: on these addresses.
        node_port: on every address of the node that is of their families; 0 means none.
        endpoints: sorted, of both families; a family without any is refused.
        sticky: whether one client is to meet the same endpoint each time.

    """

    name: str
    protocol: str
    addresses: tuple[str, ...]
    port: int
    node_port: int
    endpoints: tuple[Endpoint, ...]
    sticky: bool = False

    def within(self, version: int) -> ServicePort:
        """Return what of it is of one address family."""
        return replace(
            self,
            addresses=tuple(ip for ip in self.addresses if _version(ip) == version),
            endpoints=tuple(e for e in self.endpoints if _version(e.ip) == version),
        )


def service_ports(
    services: Iterable[KubeObject], slices: Iterable[KubeObject]
) -> list[ServicePort]:
    """Join Services and EndpointSlices; sorted by name. Broken entries are left out."""
    by_service: dict[tuple[str, str], list[KubeObject]] = {}
    for piece in slices:
        meta = piece["metadata"]
        owner = (meta.get("labels") or {}).get("kubernetes.io/service-name", "")
        by_service.setdefault((meta.get("namespace", ""), owner), []).append(piece)
    made = []
    for service in services:
        meta, spec = service["metadata"], service.get("spec") or {}
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
            continue
        listed = spec.get("clusterIPs") or [spec["clusterIP"]]
        addresses = tuple(ip for ip in map(_address, listed) if ip)
        owned = by_service.get((meta.get("namespace", ""), meta["name"]), [])
        for port in spec.get("ports") or []:
            protocol = _PROTOCOLS.get(str(port.get("protocol") or "TCP"))
            number = _port(port.get("port"))
            if protocol is None or number is None or not addresses:
                continue
            label = port.get("name") or ""
            made.append(
                ServicePort(
                    name=f"{meta.get('namespace', '')}/{meta['name']}:{label or number}",
                    protocol=protocol,
                    addresses=addresses,
                    port=number,
                    node_port=_port(port.get("nodePort")) or 0,
                    endpoints=_endpoints(owned, label, protocol),
                    sticky=spec.get("sessionAffinity") == "ClientIP",
                )
            )
    return sorted(made, key=lambda entry: entry.name)


@dataclass(frozen=True, slots=True)
class _Family:
    """How nft speaks of an address family."""

    version: int
    word: str
    unreachable: str


_FAMILIES = (
    _Family(4, "ip", "icmp type port-unreachable"),
    _Family(6, "ip6", "icmpv6 type port-unreachable"),
)


def ruleset(ports: list[ServicePort], networks: Sequence[tuple[str, str]]) -> str:
    """Write the ruleset that replaces the whole of the tables.

    Args:
        ports: from ``service_ports``.
        networks: per address family the network of all ClusterIPs, and what a Pod that reaches
            itself through its Service is seen as: the node's address.

    """
    tables = []
    for cidr, node_ip in networks:
        family = next(f for f in _FAMILIES if f.version == _version(node_ip))
        tables.append(
            _table(family, [port.within(family.version) for port in ports], cidr, node_ip)
        )
    return "".join(tables)


def _table(family: _Family, ports: list[ServicePort], cidr: str, node_ip: str) -> str:
    ip = family.word
    clusters: list[str] = []
    nodes: list[str] = []
    chains: list[str] = []
    seen: set[tuple[object, ...]] = set()
    for port in ports:
        if not port.endpoints or not port.addresses:
            continue
        chain = "svc-" + hashlib.sha256(f"{port.name}/{port.protocol}".encode()).hexdigest()[:16]
        fresh = [one for one in port.addresses if (one, port.protocol, port.port) not in seen]
        seen |= {(one, port.protocol, port.port) for one in fresh}
        clusters += [f"{one} . {port.protocol} . {port.port} : goto {chain}" for one in fresh]
        if port.node_port and ("node", port.protocol, port.node_port) not in seen:
            seen.add(("node", port.protocol, port.node_port))
            nodes.append(f"{port.protocol} . {port.node_port} : goto {chain}")
        chains.append(_chain(ip, chain, port))
    refuse = (
        f"    {ip} daddr {cidr} fib daddr type != local meta l4proto tcp"
        " reject with tcp reset\n"
        f"    {ip} daddr {cidr} fib daddr type != local"
        f" reject with {family.unreachable}\n"
    )
    dispatch = _dispatch(f"{ip} daddr . meta l4proto . th dport", clusters)
    dispatch += _dispatch("fib daddr type local meta l4proto . th dport", nodes)
    return (
        # Made if it is not there, so that deleting it cannot fail: all in one transaction.
        f"table {ip} {TABLE} {{}}\n"
        f"delete table {ip} {TABLE}\n"
        f"table {ip} {TABLE} {{\n" + "".join(chains) + "  chain services {\n" + dispatch + "  }\n"
        "  chain prerouting {\n"
        "    type nat hook prerouting priority dstnat; policy accept;\n"
        "    jump services\n"
        "  }\n"
        "  chain output {\n"
        "    type nat hook output priority -100; policy accept;\n"
        "    jump services\n"
        "  }\n"
        "  chain refuse-forwarded {\n"
        "    type filter hook prerouting priority dstnat + 10; policy accept;\n" + refuse + "  }\n"
        "  chain refuse-local {\n"
        "    type filter hook output priority filter; policy accept;\n" + refuse + "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f"    meta mark & {_HAIRPIN} == {_HAIRPIN} snat to {node_ip}\n"
        "  }\n"
        "}\n"
    )


def _chain(ip: str, name: str, port: ServicePort) -> str:
    lines = [f'  chain {name} {{ comment "{_comment(port.name)}"\n']
    targets = []
    for number, endpoint in enumerate(port.endpoints):
        target = f"{name}-{number}"
        targets.append(f"{number} : goto {target}")
        host = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
        lines.insert(
            0,
            f"  chain {target} {{\n"
            f"    {ip} saddr {endpoint.ip} meta mark set meta mark | {_HAIRPIN}\n"
            f"    meta l4proto {port.protocol} dnat to {host}:{endpoint.port}\n"
            "  }\n",
        )
    count = len(targets)
    pick = f"jhash {ip} saddr mod {count}" if port.sticky else f"numgen random mod {count}"
    if count == 1:
        lines.append(f"    goto {name}-0\n  }}\n")
    else:
        lines.append(f"    {pick} vmap {{ {', '.join(targets)} }}\n  }}\n")
    return "".join(lines)


def _dispatch(key: str, entries: list[str]) -> str:
    return f"    {key} vmap {{ {', '.join(entries)} }}\n" if entries else ""


def _endpoints(slices: list[KubeObject], port_name: str, protocol: str) -> tuple[Endpoint, ...]:
    ready: set[Endpoint] = set()
    leaving: set[Endpoint] = set()
    for piece in slices:
        if piece.get("addressType", "IPv4") not in ("IPv4", "IPv6"):
            continue
        numbers = [
            number
            for entry in piece.get("ports") or []
            if (entry.get("name") or "") == port_name
            and _PROTOCOLS.get(str(entry.get("protocol") or "TCP")) == protocol
            and (number := _port(entry.get("port"))) is not None
        ]
        for endpoint in piece.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            found = {
                Endpoint(ip, number)
                for ip in map(_address, endpoint.get("addresses") or [])
                if ip
                for number in numbers
            }
            if conditions.get("ready") is not False:
                ready |= found
            elif conditions.get("serving") and conditions.get("terminating"):
                leaving |= found
    # The last ones to leave still answer, which beats refusing while new ones come up; each family
    # for itself.
    chosen = set(ready)
    for version in (4, 6):
        if not any(_version(one.ip) == version for one in ready):
            chosen |= {one for one in leaving if _version(one.ip) == version}
    return tuple(sorted(chosen))


def _address(text: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError:
        return None


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _port(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 65536 else None


def _comment(text: str) -> str:
    # LIMIT 120 bytes: nftables refuses comments over 127. Quotes would end the string.
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in "-./:"))[:120]
