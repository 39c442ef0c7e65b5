"""A network namespace, an address and a routed link for each Pod.

    box                                      Pod
    route POD_IP dev fsmXXXXXXXXXX ────veth──── eth0  POD_IP/32, POD_IP6/128
    (MAC ee:ee:ee:ee:ee:ee, no address)         default via 169.254.1.1, fe80::1

What comes in: Pod uid and name. What goes out: ``PodNetwork`` (namespace path, address, link).

Invariants: the link is routed, not bridged, so that every packet between Pods passes the box's
routing and with it connection tracking, which undoes the rewriting of ClusterIPs on the way back;
neighbours are static, so no ARP is ever sent and no neighbour solicited; an address is given to one
Pod at a time, and the one just freed is used last. Each Pod's IPv6 address goes with its IPv4
address (``settings``). Not done here: bandwidth limits.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from fsm.standalone.node import commands, netns

_HOST_MAC = "ee:ee:ee:ee:ee:ee"
_GATEWAY = "169.254.1.1"
#: Nobody has these addresses: the static neighbours alone make them lead to the box.
_GATEWAY6 = "fe80::1"
_NETNS_DIR = Path("/run/netns")
_LINK_PREFIX = "fsm"
#: Kernel settings of every Pod's namespace, below /proc/sys/net.
_SYSCTLS = {
    "ipv4/ip_unprivileged_port_start": "0",
    # Redirected connections arrive for addresses in 127/8 (the sidecar's own traffic).
    "ipv4/conf/all/route_localnet": "1",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/all/accept_ra": "0",
}


class NetworkError(Exception):
    """A Pod's network cannot be made; the text says which step and why."""


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """Where a Pod's processes meet the network.

    Attributes:
        ip: address of the Pod.
        netns: path of its namespace; ``None`` for a Pod with ``hostNetwork``.
        link: name of the box's end of its veth; "" with ``hostNetwork``.
        ip6: its IPv6 address; "" where it has none.

    """

    ip: str
    netns: str | None
    link: str
    ip6: str = ""

    @property
    def ips(self) -> tuple[str, ...]:
        """All addresses, IPv4 first."""
        return (self.ip, self.ip6) if self.ip6 else (self.ip,)


class Addresses:
    """Gives out addresses of the Pod network, in order, going round."""

    def __init__(self, cidr: str) -> None:
        self._net = ipaddress.IPv4Network(cidr)
        # The first host address is the node, the last one is the broadcast address.
        self._first, self._last = 2, self._net.num_addresses - 2
        self._next = self._first
        self._used: set[str] = set()

    def take(self) -> str:
        """Return an address that no Pod has.

        Raises:
            NetworkError: all are in use.

        """
        for _ in range(self._last - self._first + 1):
            ip = str(self._net[self._next])
            self._next = self._first if self._next >= self._last else self._next + 1
            if ip not in self._used:
                self._used.add(ip)
                return ip
        raise NetworkError(f"no address is free in {self._net}: {len(self._used)} Pods have one")

    def claim(self, ip: str) -> None:
        """Note that a Pod has this address already (it was running before the agent started)."""
        self._used.add(ip)
        with contextlib.suppress(ValueError):
            offset = int(ipaddress.IPv4Address(ip)) - int(self._net.network_address)
            if self._next <= offset <= self._last:
                self._next = self._first if offset == self._last else offset + 1

    def give_back(self, ip: str) -> None:
        """Note that the address is free."""
        self._used.discard(ip)


def names(uid: str, namespace: str, pod: str) -> tuple[str, str]:
    """Name the namespace (for people, `ip netns`) and the link (15 bytes at most) of a Pod."""
    # The uid keeps apart two Pods that had the same name, one after the other.
    space = f"{namespace}_{pod}"[:200] + f"_{uid[:8]}"
    return space, _LINK_PREFIX + hashlib.sha256(uid.encode()).hexdigest()[:10]


def expected(uid: str, namespace: str, pod: str) -> PodNetwork:
    """Say what the network of a Pod would be called, to remove it whether or not it exists."""
    space, link = names(uid, namespace, pod)
    return PodNetwork("", str(_NETNS_DIR / space), link)


async def create(
    uid: str, namespace: str, pod: str, ips: tuple[str, ...], node_ips: tuple[str, ...]
) -> PodNetwork:
    """Make namespace, link and routes; leftovers of an interrupted attempt are replaced.

    Args:
        uid: of the Pod.
        namespace: of the Pod.
        pod: its name.
        ips: its IPv4 address and, if it is to have one, its IPv6 address.
        node_ips: those of the node.

    Raises:
        NetworkError: a step failed; nothing is left of the others.

    """
    space, link = names(uid, namespace, pod)
    ip, ip6 = ips[0], ips[1] if len(ips) > 1 else ""
    mac = "0a:58:" + ":".join(f"{int(part):02x}" for part in ip.split("."))
    network = PodNetwork(ip, str(_NETNS_DIR / space), link, ip6)
    await remove(network)
    box = [
        f"netns add {space}",
        f"link add {link} address {_HOST_MAC} type veth peer name eth0 address {mac} netns {space}",
        f"link set {link} up",
        f"neigh add {ip} lladdr {mac} dev {link} nud permanent",
        f"route add {ip}/32 dev {link} src {node_ips[0]}",
    ]
    inner = [
        "link set lo up",
        f"addr add {ip}/32 dev eth0",
        "link set eth0 up",
        f"neigh add {_GATEWAY} lladdr {_HOST_MAC} dev eth0 nud permanent",
        f"route add {_GATEWAY}/32 dev eth0 scope link",
        f"route add default via {_GATEWAY} dev eth0",
    ]
    if ip6:
        box += [
            f"neigh add {ip6} lladdr {mac} dev {link} nud permanent",
            f"route add {ip6}/128 dev {link} src {node_ips[1]}",
        ]
        inner += [
            f"addr add {ip6}/128 dev eth0 nodad",
            f"neigh add {_GATEWAY6} lladdr {_HOST_MAC} dev eth0 nud permanent",
            f"route add default via {_GATEWAY6} dev eth0",
        ]
    try:
        await commands.run("ip", "-batch", "-", feed="\n".join(box) + "\n")
        await netns.inside(str(_NETNS_DIR / space), _apply_sysctls)
        await commands.run("ip", "-n", space, "-batch", "-", feed="\n".join(inner) + "\n")
    except (commands.CommandError, OSError, TimeoutError) as error:
        await remove(network)
        raise NetworkError(f"cannot make the network of Pod {namespace}/{pod}: {error}") from error
    return network


async def remove(network: PodNetwork) -> None:
    """Remove namespace and link (and so routes and neighbours); missing ones are no error."""
    if network.netns is None:
        return
    if network.link in _links():
        with contextlib.suppress(commands.CommandError):
            await commands.run("ip", "link", "del", network.link)
    if _exists(network.netns):
        with contextlib.suppress(commands.CommandError):
            await commands.run("ip", "netns", "del", Path(network.netns).name)


async def remove_leftovers(kept: set[str]) -> list[str]:
    """Remove every Pod namespace and link whose link name is not in ``kept``; returns those."""
    gone = []
    for link in _links():
        if link.startswith(_LINK_PREFIX) and len(link) == 13 and link not in kept:
            with contextlib.suppress(commands.CommandError):
                await commands.run("ip", "link", "del", link)
            gone.append(link)
    return gone


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _apply_sysctls() -> None:
    for name, value in _SYSCTLS.items():
        # A kernel without IPv6 has no such file; the others always exist.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net", name).write_text(value)
    groups = Path("/proc/sys/net/ipv4/ping_group_range")
    try:
        groups.write_text("0 2147483647")
    except OSError:
        # A user namespace with one group knows no others.
        groups.write_text("0 0")


def _links() -> list[str]:
    # /proc shows the reader's own namespace; /sys shows that of whoever mounted it: the host.
    lines = Path("/proc/self/net/dev").read_text().splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]
