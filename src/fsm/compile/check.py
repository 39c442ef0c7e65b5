"""Whether a configuration makes sense: the questions that its shape does not answer.

In: a ``ProxyConfig``. Out: every fault, as ``path: message``. The proxy asks the same questions
when a configuration arrives (``proxy/pipy-config/src/parse.rs``); asking them here tells a fault
of the compiler before a proxy refuses. Regular expressions are held to the stricter rules of the
policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fsm.compile.check_upstream import Fault, breaker_faults, limit_faults, retry_faults
from fsm.compile.contract import (
    RENAMED,
    Allow,
    HostRule,
    InboundMatch,
    OutboundMatch,
    Probe,
    ProbeKind,
    ProxyConfig,
    RateLimit,
    Route,
    TlsRule,
    WeightedCluster,
)
from fsm.compile.telemetry import telemetry_faults
from fsm.model.service import Protocol
from fsm.policies.regexes import regex_fault

# A DNS name in lower case, or "*." before one.
_SERVER_NAME = re.compile(r"(?=.{1,255}\Z)(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\Z")

_PLUGIN_NAME = re.compile(r"[a-z0-9.-]+\Z")


def check(config: ProxyConfig) -> list[str]:
    """Return every fault of a configuration; empty when a proxy can carry it out."""
    found = _Checker(config)
    if not config.version:
        found.fault("version", "is empty")
    ports: set[tuple[int, bool]] = set()
    for index, inbound in enumerate(config.inbound.matches if config.inbound else ()):
        path = f"inbound.matches[{index}]"
        place = (inbound.port, inbound.protocol is Protocol.UDP)
        if place in ports:
            found.fault(path, f"port {inbound.port} has a match already")
        ports.add(place)
        found.match(path, inbound)
        found.datagrams(config, path, inbound)
        found.sources(path, inbound)
        found.limit(path, inbound.rate_limit)
    for index, outbound in enumerate(config.outbound.matches if config.outbound else ()):
        found.match(f"outbound.matches[{index}]", outbound)
        found.datagrams(config, f"outbound.matches[{index}]", outbound)
    probes: set[tuple[object, ...]] = set()
    for index, probe in enumerate(config.probes):
        key = (probe.listener, probe.kind, probe.port, probe.path, probe.host)
        if key in probes:
            found.fault(f"probes[{index}]", "is there already")
        probes.add(key)
        found.probe(f"probes[{index}]", probe)
    found.plugins(config)
    if config.timeouts.detect_ms == 0:
        found.fault("timeouts.detect_ms", "is 0, servers that speak first would never be reached")
    found.below("telemetry", telemetry_faults(config.telemetry))
    for name, cluster in config.clusters.items():
        if cluster.retry is not None:
            found.below(f"clusters.{name}.retry", retry_faults(cluster.retry))
        if cluster.circuit_breaker is not None:
            faults = breaker_faults(cluster.circuit_breaker)
            found.below(f"clusters.{name}.circuit_breaker", faults)
        if cluster.proxy_protocol and any(endpoint.identity for endpoint in cluster.endpoints):
            found.fault(
                f"clusters.{name}.proxy_protocol",
                "is set, but endpoints are reached over mutual TLS",
            )
    found.originates(config)
    return found.faults


class _Checker:
    def __init__(self, config: ProxyConfig) -> None:
        self.clusters = frozenset(config.clusters)
        self.faults: list[str] = []

    def fault(self, path: str, message: str) -> None:
        self.faults.append(f"{path}: {message}")

    def below(self, path: str, faults: Iterable[Fault]) -> None:
        for place, message in faults:
            self.fault(f"{path}.{place}", message)

    def limit(self, path: str, limit: RateLimit | None) -> None:
        if limit is not None:
            self.below(f"{path}.rate_limit", limit_faults(limit))

    def plugins(self, config: ProxyConfig) -> None:
        stages: set[str] = set()
        for index, plugin in enumerate(config.plugins):
            path = f"plugins[{index}]"
            if not _PLUGIN_NAME.match(plugin.name):
                self.fault(f"{path}.name", f'"{plugin.name}" is no name of a plugin')
            if not plugin.script.strip():
                self.fault(f"{path}.script", "is empty")
            if plugin.stage in stages:
                self.fault(path, "is there already")
            stages.add(plugin.stage)
        for field, name in RENAMED.items():
            for stage in getattr(config.chains, field):
                if stage.startswith("plugins/") and stage not in stages:
                    self.fault(f"chains.{name}", f"{stage} is none of the plugins")

    def originates(self, config: ProxyConfig) -> None:
        for name, tls in config.originates.items():
            path = f"originates.{name}"
            cluster = config.clusters.get(name)
            if cluster is None:
                self.fault(path, "is no cluster of this configuration")
            elif any(endpoint.identity for endpoint in cluster.endpoints):
                text = "is a cluster of members, who are spoken to in mutual TLS already"
                self.fault(path, text)
            server = tls.server_name
            if server is not None and ("*" in server or not _SERVER_NAME.match(server)):
                self.fault(f"{path}.server_name", f'"{server}" is no lower-case server name')
            if tls.certificate is not None and not tls.roots:
                text = "is empty: nobody would be believed to be the server"
                self.fault(f"{path}.roots", text)

    def sources(self, path: str, match: InboundMatch) -> None:
        for index, source in enumerate(match.sources):
            where = f"{path}.sources[{index}]"
            if source.routes is not None and not match.protocol.is_http:
                self.fault(f"{where}.routes", "is set, but what is spoken are no requests")
            if source.server_names and not source.mtls and not source.tls:
                self.fault(f"{where}.server_names", "is set, but no TLS is asked for")
            for place, name in enumerate(source.server_names):
                if not _SERVER_NAME.match(name):
                    text = f'"{name}" is no lower-case server name'
                    self.fault(f"{where}.server_names[{place}]", text)

    def match(self, path: str, match: InboundMatch | OutboundMatch) -> None:
        if match.protocol.is_http and match.tcp is not None:
            self.fault(f"{path}.tcp", "is set, but the protocol is not tcp")
        named = (Protocol.AUTO, Protocol.TLS, Protocol.UDP)
        word = match.protocol if match.protocol in named else "tcp"
        if not match.protocol.has_hosts and match.hosts:
            self.fault(f"{path}.hosts", f"is set, but the protocol is {word}")
        rules = match.tls if isinstance(match, OutboundMatch) else ()
        if rules and match.protocol is not Protocol.TLS:
            self.fault(f"{path}.tls", "is set, but the protocol is not tls")
        if match.protocol is Protocol.TLS:
            if match.tcp is None and not rules:
                self.fault(path, "has neither tls nor tcp, but the protocol is tls")
        elif not match.protocol.is_http and match.tcp is None:
            self.fault(f"{path}.tcp", f"is missing, but the protocol is {word}")
        self.server_names(f"{path}.tls", rules)
        for index, host in enumerate(match.hosts):
            self.host(f"{path}.hosts[{index}]", host)
        if match.tcp is not None:
            self.allowed(f"{path}.tcp", match.tcp.allowed)
            self.targets(f"{path}.tcp", match.tcp.clusters)

    def datagrams(
        self, config: ProxyConfig, path: str, match: InboundMatch | OutboundMatch
    ) -> None:
        if match.protocol is not Protocol.UDP:
            return
        for target in match.tcp.clusters if match.tcp else ():
            cluster = config.clusters.get(target.cluster)
            if cluster and any(endpoint.identity for endpoint in cluster.endpoints):
                what = f"{target.cluster} is reached over mutual TLS, which udp has not"
                self.fault(f"{path}.tcp.clusters", what)
        if isinstance(match, InboundMatch) and any(s.mtls or s.tls for s in match.sources):
            self.fault(f"{path}.sources", "ask for TLS, but the protocol is udp")

    def server_names(self, path: str, rules: Sequence[TlsRule]) -> None:
        taken: set[str] = set()
        for index, rule in enumerate(rules):
            where = f"{path}[{index}]"
            if not rule.names:
                self.fault(f"{where}.names", "is empty, the rule can never be met")
            for number, name in enumerate(rule.names):
                if not _SERVER_NAME.match(name):
                    self.fault(f"{where}.names[{number}]", f'"{name}" is no lower-case server name')
                elif name in taken:
                    self.fault(f"{where}.names[{number}]", f'"{name}" has a rule already')
                taken.add(name)
            self.allowed(f"{where}.tcp", rule.tcp.allowed)
            self.targets(f"{where}.tcp", rule.tcp.clusters)

    def probe(self, path: str, probe: Probe) -> None:
        if probe.port == 0:
            self.fault(f"{path}.port", "0 is no port")
        if probe.timeout_ms == 0:
            self.fault(f"{path}.timeout_ms", "is 0, no answer could be in time")
        if probe.kind is ProbeKind.TCP:
            for name in ("path", "host", "headers"):
                if getattr(probe, name) not in (None, ()):
                    self.fault(f"{path}.{name}", "is set, but the kind is tcp")
        elif probe.path is None:
            self.fault(f"{path}.path", "is missing, but the kind is http")
        elif not probe.path.startswith("/") or not _visible(probe.path) or "#" in probe.path:
            self.fault(f"{path}.path", f'"{probe.path}" is no request target')
        if probe.host is not None and not _visible(probe.host):
            self.fault(f"{path}.host", f'"{probe.host}" is no Host header')
        for index, name in enumerate(probe.headers):
            if not _visible(name) or name != name.lower():
                self.fault(f"{path}.headers[{index}]", f'"{name}" is no lower-case name')

    def host(self, path: str, host: HostRule) -> None:
        if not host.names:
            self.fault(f"{path}.names", "is empty, the host can never be met")
        for index, name in enumerate(host.names):
            if not name or name != name.lower() or any(c <= " " for c in name):
                self.fault(f"{path}.names[{index}]", f'"{name}" is not a lower-case host')
        self.limit(path, host.rate_limit)
        for index, route in enumerate(host.routes):
            self.route(f"{path}.routes[{index}]", route)

    def route(self, path: str, route: Route) -> None:
        self.limit(path, route.rate_limit)
        if route.path.kind == "regex":
            self.regex(f"{path}.path.regex", route.path.value)
        elif not route.path.value.startswith("/"):
            self.fault(f"{path}.path", f'"{route.path.value}" does not start with a slash')
        for index, header in enumerate(route.headers):
            where = f"{path}.headers[{index}]"
            if not header.name or header.name != header.name.lower():
                self.fault(f"{where}.name", f'"{header.name}" is not lower case')
            self.regex(f"{where}.regex", header.regex)
        self.allowed(path, route.allowed)
        self.targets(path, route.clusters)

    def regex(self, path: str, pattern: str) -> None:
        if found := regex_fault(pattern):
            self.fault(path, f'"{pattern}" is no regular expression: {found.message}')

    def allowed(self, path: str, allowed: Sequence[Allow] | None) -> None:
        for index, allow in enumerate(allowed or ()):
            if not allow.identity.startswith("spiffe://"):
                self.fault(
                    f"{path}.allowed[{index}].identity",
                    f'"{allow.identity}" is not a spiffe:// identity',
                )

    def targets(self, path: str, clusters: Sequence[WeightedCluster]) -> None:
        if not clusters:
            self.fault(f"{path}.clusters", "is empty")
        for index, target in enumerate(clusters):
            if target.cluster not in self.clusters:
                self.fault(
                    f"{path}.clusters[{index}].cluster",
                    f'"{target.cluster}" is not a cluster of this configuration',
                )


def _visible(text: str) -> bool:
    return bool(text) and all("!" <= character <= "~" for character in text)
