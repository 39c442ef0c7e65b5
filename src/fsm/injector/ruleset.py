"""The nftables rules that send a Pod's traffic through its sidecar.

What comes in: ports, exclusions, and how to tell the sidecar's own traffic. What goes out: the text
of one ruleset for ``nft``, which replaces its table in one transaction, so it may run again.

    from outside ──prerouting──► exempt port? as it is : :15003 (inbound listener)
    from a process in the Pod ──output──►
        the sidecar's own:  to this Pod's own address? like from outside : as it is
        the application's:  stays in the Pod, or excluded? as it is : :15001 (outbound listener)

UDP is captured and not rewritten (TPROXY), since it is then known where it was going. What comes in
is handed to a socket of the sidecar; what goes out gets a packet mark, by which ``capture_routes``
leads it back in. Answers pass: a flow belongs to whoever began it. DNS questions pass too, so that
names can be asked for before there is a sidecar, and without.

Invariants: the text depends on nothing but the arguments; every value that enters it has been
parsed, so that no annotation can write rules; what the sidecar does not listen for (IPv6, if it
listens on IPv4 only) is refused, never let past.
Source: nft(8), "NAT statements"; fsm-interfaces section 4.5 for the order of the decisions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fsm.model.probes import LISTENER_PORTS
from fsm.settings import Ports

TABLE = "fsm"
# An interface name as Linux accepts it (IFNAMSIZ, 15 characters), less what nft would interpret.
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\Z")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Redirection:
    """What is redirected in one Pod.

    Attributes:
        ports: of the sidecar.
        mark: packet mark of the sidecar's own connections; used where user ids cannot tell them
            apart (one uid is mapped in an ordinary user's namespace).
        uid: user id of the sidecar's process; used when ``mark`` is ``None``.
        outbound_ports_excluded: connections of the application to these ports pass it by.
        inbound_ports_excluded: connections to the application on these ports pass it by.
        outbound_ranges_excluded: connections to these networks pass it by.
        outbound_ranges_included: if not empty, only connections to these networks do not.
        interfaces_excluded: connections through these interfaces pass it by, both ways.
        udp: whether UDP is captured; it needs ``mark``. Exclusions hold for it as for TCP.
    """

    ports: Ports
    mark: int | None = None
    uid: int = 1500
    outbound_ports_excluded: tuple[int, ...] = ()
    inbound_ports_excluded: tuple[int, ...] = ()
    outbound_ranges_excluded: tuple[str, ...] = ()
    outbound_ranges_included: tuple[str, ...] = ()
    interfaces_excluded: tuple[str, ...] = ()
    udp: bool = False

    @property
    def capture_mark(self) -> int:
        """Packet mark of what is led back in; distinct from the sidecar's own."""
        assert self.mark is not None, "UDP is captured by mark"
        return self.mark ^ 0x100


CAPTURE_TABLE = 15001
"""Number of the routing table that leads captured UDP back in; any that is free will do."""


def capture_routes(wish: Redirection) -> str:
    """Write the shell commands that lead marked packets back into the Pod. They may run again."""
    rule = f"fwmark {wish.capture_mark:#x} lookup {CAPTURE_TABLE}"
    return (
        "for family in -4 -6; do\n"
        # A kernel without IPv6 has no packets of it either.
        '  [ "$family" = -4 ] || [ -e /proc/net/if_inet6 ] || continue\n'
        f"  ip $family rule del {rule} 2>/dev/null\n"
        f"  ip $family rule add {rule} &&\n"
        f"  ip $family route replace local default dev lo table {CAPTURE_TABLE} || exit 1\n"
        "done"
    )


def redirect_ruleset(wish: Redirection) -> str:
    """Build the ruleset.

    Raises:
        ValueError: a network, port or interface name is malformed; names it.
    """
    ports = wish.ports
    own = f"meta mark {wish.mark:#x}" if wish.mark is not None else f"meta skuid {wish.uid}"
    exempt = {ports.admin, ports.metrics, *LISTENER_PORTS.values(), *wish.inbound_ports_excluded}
    interfaces = _interfaces(wish.interfaces_excluded)
    inbound = [
        f"tcp dport {_ports(exempt)} return",
        f"meta l4proto tcp redirect to :{ports.inbound}",
    ]
    prerouting = [
        "type nat hook prerouting priority -100; policy accept;",
        *([f"iifname {interfaces} return"] if interfaces else []),
        "goto inbound",
    ]
    output = [
        "type nat hook output priority -100; policy accept;",
        # A Pod that calls itself through its Service: the sidecar speaks TLS to what looks like
        # any other endpoint, so its inbound side must answer, and not the application.
        f'{own} oifname "lo" ip daddr != 127.0.0.0/8 goto inbound',
        f'{own} oifname "lo" ip6 daddr != ::1 goto inbound',
        f"{own} return",
        'oifname "lo" return',
        *([f"oifname {interfaces} return"] if interfaces else []),
        *_matches("return", wish.outbound_ranges_excluded),
    ]
    if wish.outbound_ports_excluded:
        output.append(f"tcp dport {_ports(wish.outbound_ports_excluded)} return")
    redirect = f"meta l4proto tcp redirect to :{ports.outbound}"
    if wish.outbound_ranges_included:
        output += _matches(redirect, wish.outbound_ranges_included)
    else:
        output.append(redirect)
    chains = [("inbound", inbound), ("prerouting", prerouting), ("output", output)]
    if wish.udp:
        chains += _capture(wish, own, interfaces)
    # Declaring the table first makes the deletion succeed also where there was none.
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for name, rules in chains:
        lines += [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]
    return "\n".join([*lines, "}", ""])


def _capture(wish: Redirection, own: str, interfaces: str) -> list[tuple[str, list[str]]]:
    ports, mark = wish.ports, f"{wish.capture_mark:#x}"
    prerouting = [
        # After connection tracking, which knows what is an answer.
        "type filter hook prerouting priority mangle; policy accept;",
        "meta l4proto != udp return",
        "ct direction reply return",
        *_taken_by(f"meta mark {mark}", ports.outbound),
        'iifname "lo" return',
        *([f"iifname {interfaces} return"] if interfaces else []),
        # To everyone on the link, and to nobody here.
        "fib daddr type != local return",
    ]
    if wish.inbound_ports_excluded:
        prerouting.append(f"udp dport {_ports(wish.inbound_ports_excluded)} return")
    prerouting += _taken_by("", ports.inbound)
    output = [
        # A chain of this type has packets routed again whose mark it changed.
        "type route hook output priority mangle; policy accept;",
        "meta l4proto != udp return",
        f"{own} return",
        "ct direction reply return",
        'oifname "lo" return',
        *([f"oifname {interfaces} return"] if interfaces else []),
        "fib daddr type { broadcast, multicast } return",
        "ip6 daddr fe80::/10 return",
        *_matches("return", wish.outbound_ranges_excluded),
        f"udp dport {_ports((_DNS_PORT, *wish.outbound_ports_excluded))} return",
    ]
    if wish.outbound_ranges_included:
        output += _matches(f"meta mark set {mark}", wish.outbound_ranges_included)
    else:
        output.append(f"meta mark set {mark}")
    return [("udp-prerouting", prerouting), ("udp-output", output)]


def _taken_by(which: str, port: int) -> list[str]:
    which = f"{which} " if which else ""
    return [
        f"{which}meta nfproto ipv4 meta l4proto udp tproxy ip to :{port} accept",
        f"{which}meta nfproto ipv6 meta l4proto udp tproxy ip6 to :{port} accept",
    ]


_DNS_PORT = 53


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """Parse addresses and networks; host bits may be set, as people write them.

    Raises:
        ValueError: one is neither; names it.
    """
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError as error:
            raise ValueError(f"{text.strip()!r} is no IP address or CIDR range") from error
    return found


def _matches(verdict: str, texts: Iterable[str]) -> list[str]:
    """One rule per address family, with overlaps merged: nft refuses overlapping intervals."""
    networks = parse_networks(texts)
    v4 = [found for found in networks if isinstance(found, ipaddress.IPv4Network)]
    v6 = [found for found in networks if isinstance(found, ipaddress.IPv6Network)]
    rules = []
    if v4:
        merged = ", ".join(map(str, ipaddress.collapse_addresses(v4)))
        rules.append(f"ip daddr {{ {merged} }} {verdict}")
    if v6:
        merged = ", ".join(map(str, ipaddress.collapse_addresses(v6)))
        rules.append(f"ip6 daddr {{ {merged} }} {verdict}")
    return rules


def _ports(ports: Iterable[int]) -> str:
    found = sorted(set(ports))
    for port in found:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"{port!r} is no TCP port")
    return "{ " + ", ".join(map(str, found)) + " }"


def _interfaces(names: Iterable[str]) -> str:
    found = sorted(set(names))
    for name in found:
        if not _INTERFACE.match(name):
            raise ValueError(f"{name!r} is no name of a network interface")
    return "{ " + ", ".join(f'"{name}"' for name in found) + " }" if found else ""
