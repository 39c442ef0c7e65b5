"""IngressBackend and AccessControl: who outside of the mesh is let in on a port, and how.

In: the snapshot, a Service and a port of its Pods. Out: ``Admission``, one per policy. Invariants:

- Nothing without the feature flag of the kind. A policy that is bounded to routes lets nobody in
  where there are none: on ports that carry no requests, or while its HTTPRouteGroups do not exist.
- Datagrams prove nothing and are no requests: they are let in by address alone.
- Members of the mesh are no clients outside of it: their addresses are left out of a Service's.
- Of several IngressBackends of one port the first by name is followed; AccessControls add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fsm.model.access import AccessBackend, ExternalAccess
from fsm.model.names import Key
from fsm.model.policy import RouteShape
from fsm.model.service import Service
from fsm.model.snapshot import Snapshot
from fsm.policies.base import Judgement
from fsm.policies.http_route_group.compile import shapes
from fsm.policies.udp_route.compile import NOT_CARRIED
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
    server_names: tuple[str, ...] = ()
    """With TLS: names of which the client must ask for one; empty: any, or none."""
    routes: tuple[RouteShape, ...] | None = None
    """Which requests; None: all."""


def admissions(
    snapshot: Snapshot, service: Key, port: int, *, udp: bool = False
) -> tuple[Admission, ...]:
    """Return who is let in, in the order in which a client's address is looked for.

    Args:
        snapshot: the world.
        service: the Service.
        port: the port of its Pods.
        udp: whether it is the one for datagrams.

    """

    def find(snapshot: Snapshot) -> tuple[Admission, ...]:
        found = []
        for policy in _in_namespace(snapshot, service.namespace):
            backend = _backend(policy, service, port, udp=udp)
            if backend is None or _rival(snapshot, policy, service, port) is not None:
                continue
            if udp and (backend.tls or policy.matches):
                continue
            if networks := _networks(snapshot, policy, backend):
                proven = backend.tls and backend.certificate
                found.append(
                    Admission(
                        origin=policy.origin,
                        networks=networks,
                        tls=backend.tls,
                        certificate=backend.certificate,
                        principals=policy.principals if proven else (),
                        server_names=backend.server_names,
                        routes=_routes(snapshot, policy),
                    )
                )
        # Whoever is named by an address is meant before everyone with a certificate.
        return tuple(sorted(found, key=lambda admission: admission.networks == ANYWHERE))

    return snapshot.once(("admissions", service, port, udp), find)


def _routes(snapshot: Snapshot, policy: ExternalAccess) -> tuple[RouteShape, ...] | None:
    if not policy.matches:
        return None
    found: dict[RouteShape, None] = {}
    for name in policy.matches:
        group = snapshot.route_groups.get(Key(policy.namespace, name))
        if group is not None:
            found.update(dict.fromkeys(shapes(group)))
    return tuple(found)


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
    return None


def _backend(
    policy: ExternalAccess, service: Key, port: int, *, udp: bool = False
) -> AccessBackend | None:
    if policy.key.namespace != service.namespace:
        return None
    if not policy.backends:
        return AccessBackend(service, port, udp=udp)
    place = service, port, udp
    return next((b for b in policy.backends if (b.service, b.port, b.udp) == place), None)


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
    missing = [
        f"HTTPRouteGroup {name} does not exist in namespace {policy.namespace}"
        for name in policy.matches
        if Key(policy.namespace, name) not in snapshot.route_groups
    ]
    if missing:
        return Judgement("RefNotFound", tuple(missing))
    closed = [text for backend in policy.backends for text in _closed(snapshot, policy, backend)]
    carried = settings.proxy.carries_udp
    if any(backend.udp for backend in policy.backends) and not carried:
        closed.append(NOT_CARRIED)
    if closed and len(closed) >= len(policy.backends):
        return Judgement("NoEffect", tuple(closed))
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
    told = [*empty, *closed]
    if closed and not empty:
        told.insert(0, "in effect")
    return Judgement("NoSource" if empty else "", tuple(told), rivals[0] if rivals else "")


def _closed(snapshot: Snapshot, policy: ExternalAccess, backend: AccessBackend) -> Iterator[str]:
    """Yield why a port stays closed although the policy names it."""
    service = snapshot.service_in_mesh(backend.service)
    if service is None or not policy.matches or backend.udp:
        return
    spoken = {
        port.mesh_protocol
        for port in service.ports
        if backend.port in _numbers(snapshot, service, port.key, port.target_port or port.port)
    }
    if spoken and not any(protocol.is_http for protocol in spoken):
        yield (
            f"port {backend.port} of {service.key} carries no requests that matches could bound"
            f" ({', '.join(sorted(spoken))}), so that nobody is let in there"
        )


def _numbers(snapshot: Snapshot, service: Service, key: str, target: int | str) -> set[int]:
    """Return the ports of Pods that a port of a Service leads to."""
    if isinstance(target, int):
        return {target}
    endpoints = snapshot.endpoints.get(service.key, ())
    return {endpoint.ports[key] for endpoint in endpoints if key in endpoint.ports}


def _absent(snapshot: Snapshot, backend: AccessBackend) -> Iterator[str]:
    service = snapshot.service_in_mesh(backend.service)
    if service is None:
        yield f"Service {backend.service} is not in the mesh"
        return
    transport = service.udp_ports if backend.udp else service.ports
    ports = {p.target_port or p.port for p in transport if isinstance(p.target_port, int)}
    for endpoint in snapshot.endpoints.get(service.key, ()):
        listed = endpoint.ports.items()
        ports |= {number for key, number in listed if key.endswith("/udp") is backend.udp}
    if backend.port not in ports and (ports or backend.udp):
        known = f"it has {', '.join(map(str, sorted(ports)))}" if ports else "it has none"
        udp = " for UDP" if backend.udp else ""
        yield f"Service {service.key} has no target port {backend.port}{udp}, {known}"
