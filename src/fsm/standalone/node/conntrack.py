"""Has the kernel forget where datagrams of a Service went, when nobody is there any more.

What comes in: the endpoints of all Services' UDP ports as they are now. What goes out: entries of
connection tracking are deleted that lead from a Service to something else.

Why: the rules of a Service choose an endpoint for the first packet of a flow, and tracking keeps
that choice for the later ones. A client that goes on sending from one port keeps its flow alive and
would, for UDP, which knows no end, send to a Pod that is gone for ever.
Invariants: entries of TCP, and of UDP that no Service led, stay; after a deletion the next datagram
chooses anew. Not done here: the rules (``service_rules``).
Source: https://kubernetes.io/docs/reference/networking/virtual-ips/, nf_conntrack_netlink.h
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fsm.standalone.node.service_rules import Endpoint


@dataclass(frozen=True, slots=True)
class Flow:
    """One UDP flow as it is tracked.

    Attributes:
        to: address that the client sends to.
        by: who answers.

    """

    to: str
    by: Endpoint


class _Message(Protocol):
    """One entry, as the kernel tells it."""

    def get_attr(self, name: str) -> Any: ...


class _Tracking(Protocol):
    """The part of pyroute2's socket, which has no types, that is used here."""

    def dump(self) -> Iterable[_Message]: ...


def stale(flow: Flow, networks: Sequence[str], nodes: Sequence[str], now: set[Endpoint]) -> bool:
    """Tell whether a flow leads from a Service to what is none of its endpoints. Pure.

    Args:
        flow: as tracked.
        networks: of ClusterIPs.
        nodes: addresses of the node, for node ports.
        now: the endpoints of all UDP ports.

    """
    if flow.by.ip == flow.to or flow.by in now:
        return False
    if flow.to in nodes:
        return True
    address = ipaddress.ip_address(flow.to)
    return any(address in ipaddress.ip_network(network) for network in networks)


def forget(networks: Sequence[str], nodes: Sequence[str], now: Iterable[Endpoint]) -> int:
    """Delete the flows that are stale; returns how many. Blocks: call it in a thread.

    Raises:
        OSError: this kernel does not tell what it tracks.

    """
    known = set(now)
    versions = {ipaddress.ip_network(network).version for network in networks}
    return sum(_forget(version, networks, nodes, known) for version in sorted(versions))


def _forget(version: int, networks: Sequence[str], nodes: Sequence[str], now: set[Endpoint]) -> int:
    # Imported by those who need it: few boxes have Services of UDP.
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    count = 0
    try:
        with NFCTSocket(socket.AF_INET if version == 4 else socket.AF_INET6) as tracking:
            for flow, original in list(_flows(tracking, version)):
                if stale(flow, networks, nodes, now):
                    # It may have ended by itself meanwhile.
                    with contextlib.suppress(NetlinkError):
                        tracking.entry("del", tuple_orig=original)
                        count += 1
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from error
    return count


def _flows(tracking: _Tracking, version: int) -> Iterator[tuple[Flow, object]]:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

    family = socket.AF_INET if version == 4 else socket.AF_INET6
    for message in tracking.dump():
        pair = [message.get_attr(name) for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")]
        if None in pair:
            continue
        original, reply = (NFCTAttrTuple.from_netlink(family, one) for one in pair)
        if original.proto == socket.IPPROTO_UDP:
            yield Flow(original.daddr, Endpoint(reply.saddr, reply.sport)), original
