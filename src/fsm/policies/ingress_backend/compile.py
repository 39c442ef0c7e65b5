"""IngressBackend and AccessControl: who outside of the mesh is let in on a port, and how.

In: the snapshot, a Service and a port of its Pods. Out: ``Admission``, one per policy. Invariants:

- Nothing without the feature flag of the kind; a policy with a part that is not carried out lets
  nobody in, because without that part it would let in more than it says.
- Members of the mesh are no clients outside of it: their addresses are left out of a Service's.
- Of several IngressBackends of one port the first by name is followed; AccessControls add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fsm.model.access import AccessBackend, ExternalAccess
from fsm.model.names import Key
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.settings import Settings

FLAGS = {
    "IngressBackend": "enableIngressBackendPolicy",
    "AccessControl": "enableAccessControlPolicy",
}
ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Admission:
    """Clients that one policy lets in on one port."""

    origin: str
    networks: tuple[str, ...]
    tls: bool
    certificate: bool
    """With TLS: one of the mesh's authority is asked for."""
    principals: tuple[str, ...]


def admissions(snapshot: Snapshot, service: Key, port: int) -> tuple[Admission, ...]:
    """Return who is let in, in the order in which a client's address is looked for."""

    def find(snapshot: Snapshot) -> tuple[Admission, ...]:
        found = []
        for policy in _in_namespace(snapshot, service.namespace):
            backend = _backend(policy, service, port)
            if backend is None or _rival(snapshot, policy, service, port) is not None:
                continue
            if networks := _networks(snapshot, policy, backend):
                proven = backend.tls and backend.certificate
                principals = policy.principals if proven else ()
                found.append(
                    Admission(policy.origin, networks, backend.tls, backend.certificate, principals)
                )
        # Whoever is named by an address is meant before everyone with a certificate.
        return tuple(sorted(found, key=lambda admission: admission.networks == ANYWHERE))

    return snapshot.once(("admissions", service, port), find)


def _in_namespace(snapshot: Snapshot, namespace: str) -> tuple[ExternalAccess, ...]:
    """Return the policies that count in a namespace: IngressBackends first, in order of name."""

    def find(snapshot: Snapshot) -> tuple[ExternalAccess, ...]:
        found = [
            policy
            for (kind, key), policy in snapshot.policies.items()
            if kind in FLAGS and key.namespace == namespace and not _why_not(snapshot, policy)
        ]
        return tuple(sorted(found, key=lambda p: (p.kind != "IngressBackend", p.key)))

    return snapshot.once(("external-access", namespace), find)


def _why_not(snapshot: Snapshot, policy: ExternalAccess) -> Judgement | None:
    if not snapshot.mesh.feature_flags.get(FLAGS[policy.kind], False):
        text = f"MeshConfig has not switched featureFlags.{FLAGS[policy.kind]} on"
        return Judgement("NotEnabled", (text,))
    unknown = []
    if policy.matches:
        unknown.append("matches are not carried out yet")
    if any(backend.server_names for backend in policy.backends):
        unknown.append("tls.sniHosts are not carried out yet")
    if unknown:
        return Judgement("NotSupported", (*unknown, "so that it lets nobody in"))
    return None


def _backend(policy: ExternalAccess, service: Key, port: int) -> AccessBackend | None:
    if policy.key.namespace != service.namespace:
        return None
    if not policy.backends:
        return AccessBackend(service, port)
    return next((b for b in policy.backends if (b.service, b.port) == (service, port)), None)


def _rival(
    snapshot: Snapshot, policy: ExternalAccess, service: Key, port: int
) -> ExternalAccess | None:
    """Return the policy that is followed instead."""
    if policy.kind != "IngressBackend":
        return None
    for other in _in_namespace(snapshot, service.namespace):
        if other.kind == policy.kind and _backend(other, service, port) is not None:
            return None if other.key == policy.key else other
    return None


def _networks(
    snapshot: Snapshot, policy: ExternalAccess, backend: AccessBackend
) -> tuple[str, ...]:
    if not policy.services and not policy.networks:
        return ANYWHERE if backend.tls and backend.certificate else ()
    found = [*policy.networks]
    for service in policy.services:
        found += [_alone(address) for address in _outside(snapshot, service)]
    return tuple(dict.fromkeys(found))


def _outside(snapshot: Snapshot, service: Key) -> Iterator[str]:
    for address in snapshot.addresses.get(service, ()):
        pod = snapshot.pods_by_ip.get(address)
        if pod is None or not snapshot.pod_in_mesh(pod):
            yield address


def _alone(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"


def judge(snapshot: Snapshot, policy: ExternalAccess, settings: Settings) -> Judgement:
    """Say whether the policy has an effect."""
    if (why_not := _why_not(snapshot, policy)) is not None:
        return why_not
    missing = [text for backend in policy.backends for text in _absent(snapshot, backend)]
    if missing:
        return Judgement("NotFound", tuple(missing))
    rivals = [
        f"{rival.kind} {rival.name} is about port {backend.port} of {backend.service} too and"
        " is followed"
        for backend in policy.backends
        if (rival := _rival(snapshot, policy, backend.service, backend.port)) is not None
    ]
    empty = [
        f"endpoints not found for service {service}: it does not exist, has none that is ready, or"
        " they are members of the mesh, who need no such policy"
        for service in policy.services
        if not any(_outside(snapshot, service))
    ]
    return Judgement("NoSource" if empty else "", tuple(empty), rivals[0] if rivals else "")


def _absent(snapshot: Snapshot, backend: AccessBackend) -> Iterator[str]:
    service = snapshot.service_in_mesh(backend.service)
    if service is None:
        yield f"Service {backend.service} is not in the mesh"
        return
    ports = {p.target_port or p.port for p in service.ports if isinstance(p.target_port, int)}
    for endpoint in snapshot.endpoints.get(service.key, ()):
        ports |= {number for key, number in endpoint.ports.items() if not key.endswith("/udp")}
    if ports and backend.port not in ports:
        known = ", ".join(map(str, sorted(ports)))
        yield f"Service {service.key} has no target port {backend.port}, it has {known}"
