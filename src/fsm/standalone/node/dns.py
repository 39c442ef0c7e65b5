"""The cluster's DNS, as a pure function from names to records.

What comes in: Service, EndpointSlice and Pod objects, and a question. What goes out: an ``Answer``.

    SERVICE.NS.svc.DOMAIN              ClusterIPs; headless: the address of each ready endpoint
    HOST.SERVICE.NS.svc.DOMAIN         the endpoint with that hostname
    _PORT._PROTO.SERVICE.NS.svc.DOMAIN SRV
    A-B-C-D.NS.pod.DOMAIN              A.B.C.D; for IPv6 each colon is a dash
    D.C.B.A.in-addr.arpa, ….ip6.arpa   PTR of ClusterIPs and endpoints of headless Services

Invariants: a name that exists but has no record of the asked type answers "no data", not "no such
name": resolvers ask for AAAA and A together and give up on the latter.
Not done here: sockets and forwarding (``dns_server``).
Source: https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

KubeObject = dict[str, Any]
Verdict = Literal["found", "no-name", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Srv:
    """The data of an SRV record (RFC 2782)."""

    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a name.

    Attributes:
        verdict: ``found`` (maybe with no record of the asked type), ``no-name``, or ``elsewhere``:
            the name is not in the cluster's domain.
        addresses: A and AAAA records.
        cname: an alias instead of records.
        srv: SRV records.
        ptr: PTR records.

    """

    verdict: Verdict
    addresses: tuple[str, ...] = ()
    cname: str = ""
    srv: tuple[Srv, ...] = ()
    ptr: tuple[str, ...] = ()


@dataclass(slots=True)
class _Entry:
    addresses: set[str] = field(default_factory=set)
    srv: set[Srv] = field(default_factory=set)
    cname: str = ""


class Zone:
    """All names of the cluster at one moment."""

    def __init__(
        self, domain: str, services: Iterable[KubeObject], slices: Iterable[KubeObject]
    ) -> None:
        self._domain = domain.strip(".").lower()
        self._entries: dict[str, _Entry] = {}
        self._parents: set[str] = {self._domain, f"svc.{self._domain}", f"pod.{self._domain}"}
        self._reverse: dict[str, set[str]] = {}
        by_service: dict[tuple[str, str], list[KubeObject]] = {}
        for piece in slices:
            labels = piece["metadata"].get("labels") or {}
            key = (piece["metadata"].get("namespace", ""), labels.get(_SERVICE_LABEL, ""))
            by_service.setdefault(key, []).append(piece)
        for service in services:
            meta = service["metadata"]
            owned = by_service.get((meta.get("namespace", ""), meta["name"]), [])
            self._add_service(service, owned)

    def answer(self, name: str) -> Answer:
        """Look a name up; case and a final dot do not matter."""
        name = name.strip(".").lower()
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            found = self._reverse.get(name)
            return Answer("found", ptr=tuple(sorted(found))) if found else Answer("elsewhere")
        if name != self._domain and not name.endswith("." + self._domain):
            return Answer("elsewhere")
        entry = self._entries.get(name)
        if entry is not None:
            addresses = tuple(sorted(entry.addresses))
            ports = tuple(sorted(entry.srv, key=lambda srv: (srv.target, srv.port)))
            return Answer("found", addresses, entry.cname, ports)
        if name in self._parents:
            return Answer("found")
        if (ip := self._pod_address(name)) is not None:
            return Answer("found", (ip,))
        return Answer("no-name")

    def _add_service(self, service: KubeObject, slices: list[KubeObject]) -> None:
        meta, spec = service["metadata"], service.get("spec") or {}
        namespace = str(meta.get("namespace", "")).lower()
        base = f"{meta['name']}.{namespace}.svc.{self._domain}".lower()
        self._parents.add(f"{namespace}.svc.{self._domain}")
        if spec.get("type") == "ExternalName":
            self._entry(base).cname = str(spec.get("externalName", "")).strip(".")
            return
        entry = self._entry(base)
        if spec.get("clusterIP") in (None, "", "None"):
            self._add_headless(base, entry, slices, bool(spec.get("publishNotReadyAddresses")))
            return
        for ip in filter(_is_address, spec.get("clusterIPs") or [spec["clusterIP"]]):
            entry.addresses.add(ip)
            self._add_reverse(ip, base)
        for port in spec.get("ports") or []:
            if port.get("name"):
                protocol = str(port.get("protocol") or "TCP")
                self._add_srv(base, port["name"], protocol, Srv(int(port["port"]), base))

    def _add_headless(
        self, base: str, entry: _Entry, slices: list[KubeObject], unready_too: bool
    ) -> None:
        for piece in slices:
            for endpoint in piece.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready") is False and not unready_too:
                    continue
                for ip in filter(_is_address, endpoint.get("addresses") or []):
                    dashed = ip.replace(".", "-").replace(":", "-")
                    host = str(endpoint.get("hostname") or dashed)
                    name = f"{host}.{base}".lower()
                    entry.addresses.add(ip)
                    self._entry(name).addresses.add(ip)
                    self._add_reverse(ip, name)
                    for port in piece.get("ports") or []:
                        if port.get("name") and port.get("port"):
                            protocol = str(port.get("protocol") or "TCP")
                            self._add_srv(
                                base, port["name"], protocol, Srv(int(port["port"]), name)
                            )

    def _add_srv(self, base: str, port_name: str, protocol: str, srv: Srv) -> None:
        parent = f"_{protocol}.{base}".lower()
        self._parents.add(parent)
        self._entry(f"_{port_name}.{parent}".lower()).srv.add(srv)

    def _add_reverse(self, ip: str, name: str) -> None:
        pointer = ipaddress.ip_address(ip).reverse_pointer
        self._reverse.setdefault(pointer, set()).add(name)

    def _entry(self, name: str) -> _Entry:
        return self._entries.setdefault(name, _Entry())

    def _pod_address(self, name: str) -> str | None:
        suffix = f".pod.{self._domain}"
        if not name.endswith(suffix):
            return None
        labels = name.removesuffix(suffix).split(".")
        if len(labels) != 2:
            return None
        forms = (labels[0].replace("-", "."), labels[0].replace("-", ":"))
        return next(filter(_is_address, forms), None)


_SERVICE_LABEL = "kubernetes.io/service-name"


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True
