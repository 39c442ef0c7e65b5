"""Egress: which connections out of the mesh a workload may make.

In: the snapshot and a ServiceAccount. Out: ``Opening``s: a port of a network, and the policies that
say what may be spoken there. Invariants:

- Nothing without ``featureFlags.enableEgressPolicy``. A source that shall show a certificate is let
  out with it and never without: ports of which the sidecar sees no requests that it could encrypt
  are not opened, and while there is no certificate (``lacks``) no request fits.
- Policies add up. A network is opened by every policy that names it or one around it, so that a
  narrow policy never closes what a wide one opens.
- What is spoken on a port of a network is one thing: of policies that say different things the one
  with the narrowest network is followed, then the first by name. ``https`` and ``tcp`` agree: what
  has a server name that is named is ``https``, the rest ``tcp``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fsm.model.credentials import KIND as CREDENTIALS
from fsm.model.egress import Egress, EgressProtocol, EgressTls
from fsm.model.names import Key, ServiceAccount
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.settings import Settings

KIND = "Egress"
FLAG = "enableEgressPolicy"
ANYWHERE = ""
_ENCRYPTED = (EgressProtocol.HTTP, EgressProtocol.GRPC)
_FAMILIES = (
    {EgressProtocol.HTTP},
    {EgressProtocol.GRPC},
    {EgressProtocol.HTTPS, EgressProtocol.TCP},
    {EgressProtocol.TCP_SERVER_FIRST},
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one policy says about a port of a network."""

    policy: Egress
    protocol: EgressProtocol
    width: int
    """Bits of the network's addresses that the policy leaves open; the narrowest is the least."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A port of a network that may be reached."""

    port: int
    network: str
    """``ANYWHERE``: every address that no other opening of the port names."""
    parts: tuple[Part, ...]
    """Those that are followed; all of one family of protocols."""
    outdone: tuple[Part, ...] = ()
    """Those that say something else."""


def egress_of(snapshot: Snapshot, account: ServiceAccount) -> tuple[Egress, ...]:
    """Return the policies that let an identity out, in order of name."""

    def find(snapshot: Snapshot) -> tuple[Egress, ...]:
        if not snapshot.mesh.feature_flags.get(FLAG, False):
            return ()
        found = (policy for (kind, _), policy in snapshot.policies.items() if kind == KIND)
        return tuple(
            policy
            for policy in found
            if account in policy.sources
            and policy.namespace in (*snapshot.monitored, snapshot.mesh.namespace)
        )

    return snapshot.once(("egress", account), find)


def lacks(snapshot: Snapshot, policy: Egress, account: ServiceAccount) -> str:
    """Say why a source cannot show what it shall show; empty: it can, or need not."""
    tls = policy.tls_of(account)
    if tls is None or tls.secret is None:
        return ""
    held = snapshot.policies.get((CREDENTIALS, tls.secret))
    if held is None:
        return f"Secret {tls.secret} does not exist, or could not be read so far"
    return f"Secret {tls.secret}: {held.fault}" if held.fault else ""


def openings(snapshot: Snapshot, account: ServiceAccount) -> tuple[Opening, ...]:
    """Return what an identity may reach, in order of port, the narrowest networks first."""

    def find(snapshot: Snapshot) -> tuple[Opening, ...]:
        by_port: dict[int, list[tuple[Egress, EgressProtocol]]] = {}
        for policy in egress_of(snapshot, account):
            for port in policy.ports:
                if policy.tls_of(account) and port.protocol not in _ENCRYPTED:
                    continue
                by_port.setdefault(port.number, []).append((policy, port.protocol))
        return tuple(
            _opening(number, network, by_port[number])
            for number in sorted(by_port)
            for network in _networks(policy for policy, _ in by_port[number])
        )

    return snapshot.once(("egress-openings", account), find)


def _networks(policies: Iterator[Egress]) -> list[str]:
    found = {network for policy in policies for network in policy.networks or (ANYWHERE,)}
    return sorted(found, key=lambda network: (_width(network), network))


def _opening(port: int, network: str, said: Sequence[tuple[Egress, EgressProtocol]]) -> Opening:
    parts = [
        Part(policy, protocol, width)
        for policy, protocol in said
        if (width := _covers(policy, network)) is not None
    ]
    parts.sort(key=lambda part: (part.width, part.policy.key))
    family = next(family for family in _FAMILIES if parts[0].protocol in family)
    return Opening(
        port,
        network,
        tuple(part for part in parts if part.protocol in family),
        tuple(part for part in parts if part.protocol not in family),
    )


def _covers(policy: Egress, network: str) -> int | None:
    """Return the width of the narrowest network of a policy that has all of another."""
    around = [own for own in policy.networks or (ANYWHERE,) if _within(network, own)]
    return min(map(_width, around), default=None)


# Openings of one mesh are compared over and over; parsing an address takes microseconds.
@lru_cache(maxsize=4096)
def _parsed(network: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(network)


def _width(network: str) -> int:
    if network == ANYWHERE:
        return 129
    parsed = _parsed(network)
    return parsed.max_prefixlen - parsed.prefixlen


def _within(inner: str, outer: str) -> bool:
    if outer == ANYWHERE or inner == outer:
        return True
    if inner == ANYWHERE:
        return False
    one, other = _parsed(inner), _parsed(outer)
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.subnet_of(other)
    if isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return one.subnet_of(other)
    return False


def judge(snapshot: Snapshot, policy: Egress, settings: Settings) -> Judgement:
    """Say whether the policy has an effect."""
    if not snapshot.mesh.feature_flags.get(FLAG, False):
        return Judgement("NotEnabled", (f"MeshConfig has not switched featureFlags.{FLAG} on",))
    encrypted = [
        f"source {account} is not let out: {lack}"
        for account in policy.sources
        if (lack := lacks(snapshot, policy, account))
    ]
    if len(encrypted) == len(policy.sources):
        return Judgement("NoCertificate", tuple(encrypted))
    encrypted += [text for account, tls in policy.tls for text in _shown(snapshot, account, tls)]
    missing = [
        f"HTTPRouteGroup {name} does not exist in namespace {policy.namespace}"
        for name in policy.groups
        if Key(policy.namespace, name) not in snapshot.route_groups
    ]
    if missing:
        return Judgement("RefNotFound", (*missing, *encrypted))
    strangers = [
        f"source {account}: namespace {account.namespace} is not monitored by the mesh"
        for account in policy.sources
        if account.namespace not in snapshot.monitored
    ]
    if len(strangers) == len(policy.sources):
        return Judgement("NoSource", (*strangers, *encrypted))
    told = [*strangers, *encrypted]
    if policy.settings:
        told.append(f"not heeded: UpstreamTrafficSetting {', '.join(policy.settings)}")
    return Judgement(
        messages=("in effect", *told) if told else (), conflict=_rival(snapshot, policy)
    )


def _shown(snapshot: Snapshot, account: ServiceAccount, tls: EgressTls) -> Iterator[str]:
    """Yield what is to be known of the certificate that a source shows."""
    held = snapshot.policies.get((CREDENTIALS, tls.secret)) if tls.secret else None
    if held is None or held.fault:
        return
    yield f"source {account} shows the certificate of Secret {tls.secret}, until {held.ends}"
    missing = [name for name in tls.names if name not in held.names]
    if missing:
        yield f"which does not carry {', '.join(missing)}"


def _rival(snapshot: Snapshot, policy: Egress) -> str:
    for account in policy.sources:
        for opening in openings(snapshot, account):
            own = opening.network in (policy.networks or (ANYWHERE,))
            if own and any(part.policy.key == policy.key for part in opening.outdone):
                other = opening.parts[0]
                return (
                    f"Egress {other.policy.key} says that port {opening.port} speaks"
                    f" {other.protocol} and is followed"
                )
    return ""
