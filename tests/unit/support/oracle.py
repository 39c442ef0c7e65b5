"""What a mesh would do with a request, told from the configurations alone.

A second, slow and simple reading of the contract: ``decide_outbound`` and ``decide_inbound``
answer for one proxy, ``Mesh.call`` follows a request from a client through both proxies and adds
up the shares. It knows nothing of Kubernetes kinds, so what it finds is what the compiled
configurations say.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from world import World

from fsm.compile.contract import HostRule, OutboundMatch, ProxyConfig, Route, TcpRule
from fsm.model import Key


@dataclass(frozen=True)
class Request:
    host: str
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """``word`` is go, passthrough, closed, 403 or reset."""

    word: str
    shares: Mapping[str, Fraction] = field(default_factory=dict)
    origins: tuple[str, ...] = ()


def decide_outbound(config: ProxyConfig, ip: str, port: int, request: Request | None) -> Verdict:
    if config.outbound is None:
        return Verdict("closed")
    match = _outbound_match(config, ip, port)
    if match is None:
        return Verdict("passthrough" if config.outbound.unmatched == "passthrough" else "closed")
    if match.tcp is not None:
        return Verdict("go", _shares(match.tcp), (match.tcp.origin,))
    assert request is not None, "HTTP is spoken there"
    return _decide_request(match.hosts, request, None)


def decide_inbound(
    config: ProxyConfig, port: int, peer: str | None, request: Request | None
) -> Verdict:
    matches = [m for m in (config.inbound.matches if config.inbound else ()) if m.port == port]
    if not matches:
        return Verdict("reset")
    match = matches[0]
    if match.mtls == "strict" and peer is None:
        return Verdict("reset")
    if match.tcp is not None:
        if match.tcp.allowed is not None and peer not in [a.identity for a in match.tcp.allowed]:
            return Verdict("reset", origins=(match.tcp.origin,))
        return Verdict("go", _shares(match.tcp), (match.tcp.origin,))
    assert request is not None, "HTTP is spoken there"
    return _decide_request(match.hosts, request, peer)


def _outbound_match(config: ProxyConfig, ip: str, port: int) -> OutboundMatch | None:
    assert config.outbound is not None
    address = ipaddress.ip_address(ip)
    fitting = [
        match
        for match in config.outbound.matches
        if match.port == port
        and (
            not match.destinations
            or any(address in ipaddress.ip_network(net) for net in match.destinations)
        )
    ]
    fitting.sort(key=lambda match: not match.destinations)
    return fitting[0] if fitting else None


def _decide_request(hosts: tuple[HostRule, ...], request: Request, peer: str | None) -> Verdict:
    for host in hosts:
        if request.host.lower() in host.names or "*" in host.names:
            for route in host.routes:
                allowed = route.allowed is None or peer in [a.identity for a in route.allowed]
                if allowed and fits(route, request):
                    return Verdict("go", _shares(route), (route.origin,))
            return Verdict("403", origins=(host.origin,))
    return Verdict("403")


def fits(route: Route, request: Request) -> bool:
    if route.methods and request.method not in route.methods:
        return False
    kind, value = route.path.kind, route.path.value
    path = request.path.split("?")[0]
    if kind == "regex" and not _search(value, request.path):
        return False
    if kind == "exact" and path != value:
        return False
    if kind == "prefix" and not (path + "/").startswith(value.rstrip("/") + "/"):
        return False
    headers = {"host": request.host, **request.headers}
    return all(_search(h.regex, headers.get(h.name, "")) for h in route.headers)


def _search(pattern: str, text: str) -> bool:
    return re.search(pattern.replace("(?<", "(?P<").replace(r"\z", r"\Z"), text) is not None


def _shares(rule: Route | TcpRule) -> dict[str, Fraction]:
    total = sum(target.weight for target in rule.clusters)
    shares: dict[str, Fraction] = defaultdict(Fraction)
    for target in rule.clusters:
        equal = Fraction(1, len(rule.clusters))
        shares[target.cluster] += Fraction(target.weight, total) if total else equal
    return {cluster: share for cluster, share in shares.items() if share}


class Mesh:
    """All proxies of a world, and what happens between them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.configs = world.compile_all()
        self.pods = {
            str(pod["status"]["podIP"]): Key(pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in world.found["Pod"]
        }

    def call(
        self, client: tuple[str, str], ip: str, port: int, request: Request | None = None
    ) -> dict[str, Fraction]:
        """Return the share of each outcome: ``namespace/pod`` that served, or a word of failure."""
        config = self.configs[Key(*client)]
        verdict = decide_outbound(config, ip, port, request)
        if verdict.word != "go":
            return {verdict.word: Fraction(1)}
        outcomes: dict[str, Fraction] = defaultdict(Fraction)
        for name, share in verdict.shares.items():
            endpoints = config.clusters[name].endpoints
            if not endpoints:
                outcomes["503"] += share
            for endpoint in endpoints:
                outcome = self._arrive(config, endpoint.address, endpoint.identity, request)
                outcomes[outcome] += share / len(endpoints)
        return dict(outcomes)

    def name(
        self, client: tuple[str, str], service: tuple[str, str], port: int, request: Request
    ) -> dict[str, Fraction]:
        """Call a Service at its cluster address."""
        return self.call(client, self.world.cluster_ip(*service), port, request)

    def _arrive(
        self, client: ProxyConfig, address: str, identity: str | None, request: Request | None
    ) -> str:
        host, _, port = address.rpartition(":")
        pod = self.pods[host.strip("[]")]
        server = self.configs.get(pod)
        if server is None:
            assert identity is None, "nobody is there to prove an identity"
            return f"{pod}"
        if identity is not None and identity != server.identity:
            return "wrong identity"
        peer = client.identity if identity is not None else None
        verdict = decide_inbound(server, int(port), peer, request)
        if verdict.word != "go":
            return verdict.word
        (local,) = verdict.shares
        assert server.clusters[local].endpoints[0].address == f"127.0.0.1:{port}"
        return f"{pod}"
