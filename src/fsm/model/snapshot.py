"""The world at one moment, indexed for the questions that compiling asks.

In: parsed objects. Out: ``Snapshot``: immutable, every lookup a dictionary access. Invariants:

- Whatever order the objects came in: the plain maps and every value of an index are in the order
  of names. The indexes themselves are for look-up; their order says nothing.
- Only what counts is in an index: TrafficTargets where they may have an effect, Services of
  monitored namespaces, Pods that still have their address. Everything is in the plain maps.
- An endpoint whose Pod is named but not known (events of different kinds race) is left out: its
  identity is unknown, and guessing "none" would mean plain text.

``snapshot_of`` makes one from nothing and is the definition of every index; ``fsm.model.index``
makes one from the last by what changed, and must come to the same.

Not here: parsing, what a policy means, who is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from fsm.model.mesh_config import MeshConfig
from fsm.model.names import Key, ServiceAccount
from fsm.model.policy import HTTPRouteGroup, TCPRoute, TrafficSplit, TrafficTarget
from fsm.model.service import Endpoint, EndpointSlice, Service, SliceEndpoint
from fsm.model.workload import Namespace, Pod
from fsm.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """An object that was left out of the snapshot, or a part of one that was, and why."""

    kind: str
    namespace: str
    name: str
    path: str
    message: str
    hint: str = ""
    generation: int = 0

    def __str__(self) -> str:
        text = f"{self.kind} {self.namespace}/{self.name}: {self.path}: {self.message}"
        return f"{text} (hint: {self.hint})" if self.hint else text


@dataclass(frozen=True, slots=True)
class Parsed:
    """The objects that a snapshot is made of."""

    mesh: MeshConfig = field(default_factory=MeshConfig)
    namespaces: Iterable[Namespace] = ()
    pods: Iterable[Pod] = ()
    services: Iterable[Service] = ()
    slices: Iterable[EndpointSlice] = ()
    targets: Iterable[TrafficTarget] = ()
    route_groups: Iterable[HTTPRouteGroup] = ()
    tcp_routes: Iterable[TCPRoute] = ()
    splits: Iterable[TrafficSplit] = ()
    policies: Mapping[str, Iterable[Any]] = field(default_factory=dict)
    """Those of the other kinds, by kind; each has a ``key`` and a ``generation``."""


class Memo:
    """Results of pure functions of one snapshot, kept for the next caller."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, snapshot: Snapshot, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """Return what ``make`` returns for this snapshot; see ``Snapshot.once``."""
        if key not in self._known:
            self._known[key] = make(snapshot)
        return cast(T, self._known[key])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at one moment. Build it with ``snapshot_of``."""

    mesh: MeshConfig
    trust_roots: tuple[str, ...]
    """Root certificates, PEM."""
    namespaces: Mapping[str, Namespace]
    monitored: AbstractSet[str]
    pods: Mapping[Key, Pod]
    pods_by_uid: Mapping[str, Pod]
    pods_by_ip: Mapping[str, Pod]
    pods_by_account: Mapping[ServiceAccount, tuple[Pod, ...]]
    services: Mapping[Key, Service]
    mesh_services: Sequence[Key]
    """Services that the mesh carries, in order of name."""
    endpoints: Mapping[Key, tuple[Endpoint, ...]]
    """Ready endpoints of each mesh Service, in order of address."""
    addresses: Mapping[Key, tuple[str, ...]]
    """Ready addresses that slices list, of Services inside and outside of the mesh."""
    services_by_pod: Mapping[Key, tuple[Key, ...]]
    """Mesh Services that select the Pod, ready or not, or list its address."""
    services_by_account: Mapping[ServiceAccount, tuple[Key, ...]]
    accounts_by_service: Mapping[Key, frozenset[ServiceAccount]]
    targets: Mapping[Key, TrafficTarget]
    targets_by_destination: Mapping[ServiceAccount, tuple[TrafficTarget, ...]]
    targets_by_source: Mapping[ServiceAccount, tuple[TrafficTarget, ...]]
    route_groups: Mapping[Key, HTTPRouteGroup]
    tcp_routes: Mapping[Key, TCPRoute]
    splits: Mapping[Key, TrafficSplit]
    splits_by_apex: Mapping[Key, tuple[TrafficSplit, ...]]
    splits_by_backend: Mapping[Key, tuple[TrafficSplit, ...]]
    policies: Mapping[tuple[str, Key], Any] = field(default_factory=dict)
    """Policies of the kinds that have no map of their own, by kind and name."""
    problems: tuple[ObjectProblem, ...] = ()
    """Objects that are not here because they could not be read."""
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)
    """See ``once``. It never changes an answer."""

    def once(self, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """Return the result of a pure function of the snapshot, worked out at most once.

        Args:
            key: names the function and its arguments; one key, one function.
            make: the function. It must take all it knows of the world from the snapshot that it is
                given, which may be a later one than this: it must not close over parsed objects.

        """
        return self.memo.recall(self, key, make)

    def service_in_mesh(self, key: Key) -> Service | None:
        """Return the Service if the mesh carries it."""
        return self.services[key] if key in self.endpoints else None

    def pod_in_mesh(self, pod: Pod) -> bool:
        """Tell whether the Pod has a sidecar of this mesh."""
        return pod.has_sidecar and pod.namespace in self.monitored


def snapshot_of(
    parsed: Parsed,
    settings: Settings,
    *,
    trust_roots: tuple[str, ...] = (),
    problems: tuple[ObjectProblem, ...] = (),
) -> Snapshot:
    """Index parsed objects."""
    namespaces = {n.name: n for n in sorted(parsed.namespaces, key=lambda n: n.name)}
    monitored = frozenset(
        name for name, n in namespaces.items() if n.monitored_by(settings.mesh_name)
    )
    pods = _by_key(parsed.pods)
    alive = [pod for pod in pods.values() if not pod.terminal]
    by_ip = {ip: pod for pod in alive if not pod.host_network for ip in pod.ips}
    services = _by_key(parsed.services)
    mesh_services = tuple(
        key for key, service in services.items() if carried(service, namespaces, monitored)
    )
    endpoints = _endpoints(mesh_services, parsed.slices, pods, by_ip)
    services_by_pod = _services_by_pod(alive, services, mesh_services, endpoints)
    accounts: dict[Key, set[ServiceAccount]] = defaultdict(set)
    by_account: dict[ServiceAccount, set[Key]] = defaultdict(set)
    for pod_key, service_keys in services_by_pod.items():
        for key in service_keys:
            accounts[key].add(pods[pod_key].service_account)
            by_account[pods[pod_key].service_account].add(key)
    targets = _by_key(parsed.targets)
    effective = [t for t in targets.values() if target_counts(t, monitored, settings) is None]
    splits = _by_key(parsed.splits)
    counted = [split for split in splits.values() if split.namespace in monitored]
    return Snapshot(
        mesh=parsed.mesh,
        trust_roots=trust_roots,
        namespaces=namespaces,
        monitored=monitored,
        pods=pods,
        pods_by_uid={pod.uid: pod for pod in pods.values() if pod.uid},
        pods_by_ip=by_ip,
        pods_by_account=_grouped((pod.service_account, pod) for pod in alive),
        services=services,
        mesh_services=mesh_services,
        endpoints=endpoints,
        addresses=_addresses(parsed.slices),
        services_by_pod=services_by_pod,
        services_by_account={a: tuple(sorted(keys)) for a, keys in by_account.items()},
        accounts_by_service={key: frozenset(found) for key, found in accounts.items()},
        targets=targets,
        targets_by_destination=_grouped((t.destination, t) for t in effective),
        targets_by_source=_grouped(
            (source, t) for t in effective for source in dict.fromkeys(t.sources)
        ),
        route_groups=_by_key(parsed.route_groups),
        tcp_routes=_by_key(parsed.tcp_routes),
        splits=splits,
        splits_by_apex=_grouped((split.apex, split) for split in counted),
        splits_by_backend=_grouped(
            (service, split)
            for split in counted
            for service in dict.fromkeys(b.service for b in split.backends)
        ),
        policies={
            (kind, obj.key): obj
            for kind in sorted(parsed.policies)
            for obj in sorted(parsed.policies[kind], key=lambda obj: obj.key)
        },
        problems=problems,
    )


def target_counts(
    target: TrafficTarget, monitored: AbstractSet[str], settings: Settings
) -> str | None:
    """Return why a TrafficTarget has no effect, or None when it has one.

    Whoever may write in one namespace must not open the workloads of another.
    """
    if target.namespace not in monitored:
        return f"namespace {target.namespace} is not monitored by the mesh"
    if settings.require_target_namespace and target.namespace != target.destination.namespace:
        return (
            f"its namespace is {target.namespace}, but its destination is in"
            f" {target.destination.namespace}"
        )
    return None


def _by_key(objects: Iterable[Any]) -> dict[Key, Any]:
    return {obj.key: obj for obj in sorted(objects, key=lambda obj: obj.key)}


def _grouped(pairs: Iterable[tuple[Any, T]]) -> dict[Any, tuple[T, ...]]:
    groups: dict[Any, list[T]] = defaultdict(list)
    for group, member in pairs:
        groups[group].append(member)
    return {group: tuple(members) for group, members in groups.items()}


def carried(
    service: Service, namespaces: Mapping[str, Namespace], monitored: AbstractSet[str]
) -> bool:
    """Tell whether the mesh carries a Service."""
    return (
        service.namespace in monitored
        and service.type != "ExternalName"
        and bool(service.ports or service.udp_ports)
        and not service.hidden
        and service.name not in namespaces[service.namespace].excluded_services()
    )


def _endpoints(
    mesh_services: Iterable[Key],
    slices: Iterable[EndpointSlice],
    pods: Mapping[Key, Pod],
    by_ip: Mapping[str, Pod],
) -> dict[Key, tuple[Endpoint, ...]]:
    parts: dict[Key, list[EndpointSlice]] = defaultdict(list)
    for part in slices:
        parts[Key(part.namespace, part.service)].append(part)
    return {key: endpoints_of(parts.get(key, ()), pods, by_ip) for key in mesh_services}


def endpoints_of(
    slices: Iterable[EndpointSlice], pods: Mapping[Key, Pod], by_ip: Mapping[str, Pod]
) -> tuple[Endpoint, ...]:
    """Return the ready endpoints that the slices of one Service list, in order of address.

    A Service has several slices: by address family, by size, and one for each resolution of a named
    target port. Controllers may list an address twice while they move it.
    """
    addresses: dict[str, Endpoint] = {}
    for part in sorted(slices, key=lambda part: part.name):
        for entry in part.endpoints:
            if not entry.ready:
                continue
            for address in entry.addresses:
                known, pod = _pod_behind(entry, address, pods, by_ip)
                if not known:
                    continue
                before = addresses.get(address)
                ports = {**dict(part.ports), **(before.ports if before else {})}
                addresses[address] = Endpoint(address, ports, entry.hostname, pod)
    return tuple(addresses[address] for address in sorted(addresses, key=address_order))


def _addresses(slices: Iterable[EndpointSlice]) -> dict[Key, tuple[str, ...]]:
    parts: dict[Key, list[EndpointSlice]] = defaultdict(list)
    for part in slices:
        parts[Key(part.namespace, part.service)].append(part)
    listed = {key: addresses_of(found) for key, found in parts.items()}
    return {key: addresses for key, addresses in listed.items() if addresses}


def addresses_of(slices: Iterable[EndpointSlice]) -> tuple[str, ...]:
    """Return the ready addresses that the slices of one Service list, in order, each once."""
    found = {
        address
        for part in slices
        for entry in part.endpoints
        if entry.ready
        for address in entry.addresses
    }
    return tuple(sorted(found, key=address_order))


def address_order(address: str) -> tuple[bool, int, str]:
    """Sort key of canonical addresses: IPv4 before IPv6, short before long.

    WHY: any fixed order will do; this one needs no parsing, which shows with many thousands.
    """
    return (":" in address, len(address), address)


def _pod_behind(
    entry: SliceEndpoint, address: str, pods: Mapping[Key, Pod], by_ip: Mapping[str, Pod]
) -> tuple[bool, Pod | None]:
    if entry.pod is None:
        return True, by_ip.get(address)
    pod = pods.get(entry.pod)
    # The address must still be that Pod's; one that has not reported its address yet is given
    # the benefit of the doubt, because the slice says that it has this one.
    if pod is None or pod.terminal or (pod.ips and address not in pod.ips):
        return False, None
    return True, pod


def _services_by_pod(
    pods: Iterable[Pod],
    services: Mapping[Key, Service],
    mesh_services: Iterable[Key],
    endpoints: Mapping[Key, tuple[Endpoint, ...]],
) -> dict[Key, tuple[Key, ...]]:
    filed: dict[tuple[str, str, str], list[Service]] = defaultdict(list)
    for key in mesh_services:
        service = services[key]
        if service.selector:
            filed[filed_under(service)].append(service)
    found: dict[Key, set[Key]] = defaultdict(set)
    for pod in pods:
        for label, value in pod.labels.items():
            for service in filed.get((pod.namespace, label, value), ()):
                if service.selects(pod):
                    found[pod.key].add(service.key)
    for key, listed in endpoints.items():
        for endpoint in listed:
            if endpoint.pod is not None:
                found[endpoint.pod.key].add(key)
    return {pod_key: tuple(sorted(keys)) for pod_key, keys in sorted(found.items())}


def filed_under(service: Service) -> tuple[str, str, str]:
    """Return one label of the selector, with its value and the namespace.

    WHY: a Pod then looks only at Services that share a label with it, not at every Service of its
    namespace. The longest value is likely to be the rarest.
    """
    label, value = max(service.selector.items(), key=lambda item: (len(item[1]), item))
    return service.namespace, label, value
