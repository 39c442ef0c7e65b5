"""From one snapshot to the next, by what changed.

In: parsed objects that came, went or differ. Out: the next ``Snapshot`` and the cells in which it
differs from the last. Invariants: it equals what ``snapshot_of`` makes of the same objects (a test
holds both against each other, change by change); a snapshot that was given out never changes; the
work is in proportion to what changed and to what depends on it directly.

What follows from what, in the order in which it is worked out:

    Namespace ──► monitored ──► carried Services, TrafficTargets and TrafficSplits that count
    Pod ──► addresses, accounts ─┐
    EndpointSlice ─► addresses ──┴► endpoints ─┐
    Service ──► carried, selectors ────────────┴► Services by Pod ──► Services and accounts

LIMIT: copying a map costs 10 ns per entry, also where one entry changed; with 10,000 Pods that is
a tenth of a millisecond per map, and not worth a persistent tree.

Not here: parsing, what the indexes mean (``snapshot``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fsm.model.drafts import EVERY, Cell, Draft, Groups, Links, differing
from fsm.model.mesh_config import MeshConfig
from fsm.model.names import Key, ServiceAccount
from fsm.model.policy import HTTPRouteGroup, TCPRoute, TrafficSplit, TrafficTarget
from fsm.model.service import Endpoint, EndpointSlice, Service
from fsm.model.snapshot import (
    ObjectProblem,
    Snapshot,
    addresses_of,
    carried,
    endpoints_of,
    filed_under,
    target_counts,
)
from fsm.model.workload import Namespace, Pod
from fsm.settings import Settings

_OF_THEIR_OWN = frozenset(
    {
        "EndpointSlice",
        "HTTPRouteGroup",
        "MeshConfig",
        "Namespace",
        "Pod",
        "Service",
        "TCPRoute",
        "TrafficSplit",
        "TrafficTarget",
    }
)
"""Kinds that have maps of their own; all others are in ``policies``."""


@dataclass(frozen=True, slots=True)
class Parsing:
    """An object as it was parsed before and as it is parsed now; None: it is not there."""

    kind: str
    key: Key
    old: Any
    new: Any


class Index:
    """Makes snapshots, each from the one before; at first of an empty world."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mesh: MeshConfig | None = None
        self._roots: tuple[str, ...] = ()
        self._namespaces = Draft[str, Namespace]("namespaces")
        self._monitored = Draft[str, bool]("monitored")
        self._pods = Draft[Key, Pod]("pods")
        self._by_uid = Draft[str, Pod]("pods_by_uid")
        self._by_ip = Draft[str, Pod]("pods_by_ip")
        self._by_account = Groups[ServiceAccount, Pod]("pods_by_account", lambda pod: pod.key)
        self._services = Draft[Key, Service]("services")
        self._endpoints = Draft[Key, tuple[Endpoint, ...]]("endpoints")
        self._addresses = Draft[Key, tuple[str, ...]]("addresses")
        self._services_by_pod = Draft[Key, tuple[Key, ...]]("services_by_pod")
        self._services_by_account = Draft[ServiceAccount, tuple[Key, ...]]("services_by_account")
        self._accounts_by_service = Draft[Key, frozenset[ServiceAccount]]("accounts_by_service")
        self._targets = Draft[Key, TrafficTarget]("targets")
        self._by_destination = _targets_by("targets_by_destination")
        self._by_source = _targets_by("targets_by_source")
        self._route_groups = Draft[Key, HTTPRouteGroup]("route_groups")
        self._tcp_routes = Draft[Key, TCPRoute]("tcp_routes")
        self._policies = Draft[tuple[str, Key], Any]("policies")
        self._splits = Draft[Key, TrafficSplit]("splits")
        self._by_apex = _splits_by("splits_by_apex")
        self._by_backend = _splits_by("splits_by_backend")
        self._mesh_services: tuple[Key, ...] = ()
        # Helpers, each the way back of something above.
        self._pods_with_ip = Links[str, Key]()
        self._pods_labelled = Links[tuple[str, str, str], Key]()
        self._pods_of_service = Links[Key, Key]()
        self._services_filed = Links[tuple[str, str, str], Key]()
        self._services_ending_at = Links[Key, Key]()
        self._services_naming = Links[Key | str, Key]()
        self._filed: dict[Key, tuple[str, str, str]] = {}
        self._slices: dict[Key, dict[Key, EndpointSlice]] = {}

    def advance(
        self,
        changes: Iterable[Parsing],
        *,
        mesh: MeshConfig,
        trust_roots: tuple[str, ...],
        problems: tuple[ObjectProblem, ...],
    ) -> tuple[Snapshot, set[Cell]]:
        """Return the snapshot after some changes, and the cells that are different in it."""
        by_kind: dict[str, dict[Key, Parsing]] = {}
        for change in changes:
            by_kind.setdefault(change.kind, {})[change.key] = change
        step = _Step()
        self._change_namespaces(by_kind.get("Namespace", {}), step)
        for change in by_kind.get("Pod", {}).values():
            self._change_pod(change.old, change.new, step)
        for change in by_kind.get("EndpointSlice", {}).values():
            self._change_slice(change.old, change.new, step)
        for change in by_kind.get("Service", {}).values():
            self._change_service(change.old, change.new, step)
        for change in by_kind.get("TrafficTarget", {}).values():
            self._change_target(change.old, change.new, step)
        for change in by_kind.get("TrafficSplit", {}).values():
            self._change_split(change.old, change.new, step)
        for change in by_kind.get("HTTPRouteGroup", {}).values():
            self._route_groups.put(change.key, change.new)
        for change in by_kind.get("TCPRoute", {}).values():
            self._tcp_routes.put(change.key, change.new)
        for kind in by_kind.keys() - _OF_THEIR_OWN:
            for change in by_kind[kind].values():
                self._policies.put((kind, change.key), change.new)
        self._follow(step)
        return self._close(mesh, trust_roots, problems, step.cells), step.cells

    def _change_namespaces(self, changes: dict[Key, Parsing], step: _Step) -> None:
        for change in changes.values():
            old, new = change.old, change.new
            name = (old or new).name
            self._namespaces.put(name, new)
            now = new is not None and new.monitored_by(self._settings.mesh_name)
            hidden = [n.excluded_services() if n else frozenset() for n in (old, new)]
            if not self._monitored.put(name, now or None) and hidden[0] == hidden[1]:
                continue
            # Which objects of this namespace count may have changed.
            step.services.update(key for key in self._services.map if key.namespace == name)
            step.targets.update(key for key in self._targets.map if key.namespace == name)
            step.splits.update(key for key in self._splits.map if key.namespace == name)
        for key in step.targets:
            target = self._targets.map[key]
            self._file_target(target, target)
        for key in step.splits:
            split = self._splits.map[key]
            self._file_split(split, split)

    def _change_pod(self, old: Pod | None, new: Pod | None, step: _Step) -> None:
        key = (old or new).key  # type: ignore[union-attr]
        if not self._pods.put(key, new):
            return
        if old is not None and old.uid and (new is None or new.uid != old.uid):
            self._by_uid.put(old.uid, None)
        if new is not None and new.uid:
            self._by_uid.put(new.uid, new)
        before, after = _alive(old), _alive(new)
        self._by_account.move(
            old,
            new if after else None,
            [old.service_account] if old else (),
            [after.service_account] if after else (),
        )
        step.accounts.update(pod.service_account for pod in (before, after) if pod)
        ips = (_ips(before), _ips(after))
        self._pods_with_ip.move(key, *ips)
        for ip in {*ips[0], *ips[1]}:
            # Of Pods that claim the same address the last by name has it.
            owner = max(self._pods_with_ip.of(ip), default=None)
            if self._by_ip.put(ip, self._pods.map[owner] if owner else None):
                step.endpoints |= self._services_naming.of(ip)
        self._pods_labelled.move(key, _labels(before), _labels(after))
        step.endpoints |= self._services_naming.of(key)
        step.pods.add(key)

    def _change_slice(
        self, old: EndpointSlice | None, new: EndpointSlice | None, step: _Step
    ) -> None:
        for part, present in ((old, False), (new, True)):
            if part is None:
                continue
            service = Key(part.namespace, part.service)
            parts = self._slices.setdefault(service, {})
            before = {name for each in parts.values() for name in _named(each)}
            parts.pop(Key(part.namespace, part.name), None)
            if present:
                parts[Key(part.namespace, part.name)] = part
            after = {name for each in parts.values() for name in _named(each)}
            self._services_naming.move(service, before, after)
            if not parts:
                del self._slices[service]
            self._addresses.put(service, addresses_of(parts.values()) or None)
            step.endpoints.add(service)

    def _change_service(self, old: Service | None, new: Service | None, step: _Step) -> None:
        key = (old or new).key  # type: ignore[union-attr]
        if self._services.put(key, new):
            step.services.add(key)

    def _change_target(
        self, old: TrafficTarget | None, new: TrafficTarget | None, step: _Step
    ) -> None:
        self._targets.put((old or new).key, new)  # type: ignore[union-attr]
        self._file_target(old, new)

    def _file_target(self, old: TrafficTarget | None, new: TrafficTarget | None) -> None:
        counts = (
            new is not None
            and target_counts(new, self._monitored.map.keys(), self._settings) is None
        )
        for groups, names in (
            (self._by_destination, lambda target: [target.destination]),
            (self._by_source, lambda target: target.sources),
        ):
            groups.move(old, new, names(old) if old else (), names(new) if new and counts else ())

    def _change_split(
        self, old: TrafficSplit | None, new: TrafficSplit | None, step: _Step
    ) -> None:
        self._splits.put((old or new).key, new)  # type: ignore[union-attr]
        self._file_split(old, new)

    def _file_split(self, old: TrafficSplit | None, new: TrafficSplit | None) -> None:
        counts = new is not None and new.namespace in self._monitored.map
        self._by_apex.move(
            old, new, [old.apex] if old else (), [new.apex] if new and counts else ()
        )
        self._by_backend.move(
            old,
            new,
            [backend.service for backend in old.backends] if old else (),
            [backend.service for backend in new.backends] if new and counts else (),
        )

    def _follow(self, step: _Step) -> None:
        """Work out what follows from several kinds at once."""
        members = False
        for key in step.services:
            service = self._services.get(key)
            kept = service is not None and carried(
                service, self._namespaces.map, self._monitored.map.keys()
            )
            members = members or kept != (key in self._endpoints.map)
            step.endpoints.add(key)
            self._file_selector(key, service if kept else None, step)
            if not kept:
                self._set_endpoints(key, None, step)
            elif key not in self._endpoints.map:
                self._set_endpoints(key, (), step)
        for key in step.endpoints:
            if key in self._endpoints.map:
                parts = self._slices.get(key, {}).values()
                found = endpoints_of(parts, self._pods.map, self._by_ip.map)
                self._set_endpoints(key, found, step)
        if members:
            self._mesh_services = tuple(sorted(self._endpoints.map))
            step.cells.add(Cell("mesh_services", EVERY))
        for key in step.pods:
            self._link_pod(key, step)
        for account in step.accounts:
            services = {
                service
                for pod in self._by_account.map.get(account, ())
                for service in self._services_by_pod.map.get(pod.key, ())
            }
            self._services_by_account.put(account, tuple(sorted(services)) or None)
        for key in step.linked:
            accounts = (
                self._pods.map[pod].service_account for pod in self._pods_of_service.of(key)
            )
            self._accounts_by_service.put(key, frozenset(accounts) or None)

    def _file_selector(self, key: Key, service: Service | None, step: _Step) -> None:
        step.pods |= self._pods_of_service.of(key)
        before = self._filed.pop(key, None)
        after = filed_under(service) if service is not None and service.selector else None
        if after is not None:
            self._filed[key] = after
            step.pods |= self._pods_labelled.of(after)
        self._services_filed.move(key, [before] if before else (), [after] if after else ())

    def _set_endpoints(self, key: Key, found: tuple[Endpoint, ...] | None, step: _Step) -> None:
        before = _behind(self._endpoints.get(key) or ())
        if not self._endpoints.put(key, found):
            return
        after = _behind(found or ())
        self._services_ending_at.move(key, before, after)
        step.pods |= before ^ after

    def _link_pod(self, key: Key, step: _Step) -> None:
        pod = _alive(self._pods.get(key))
        before = self._services_by_pod.get(key) or ()
        after = {
            service
            for filed in _labels(pod)
            for service in self._services_filed.of(filed)
            if pod is not None and self._services.map[service].selects(pod)
        }
        after |= self._services_ending_at.of(key)
        self._pods_of_service.move(key, before, after)
        # Also where its Services are the same the account behind them may be another.
        step.linked |= {*before, *after}
        self._services_by_pod.put(key, tuple(sorted(after)) or None)
        if pod is not None:
            step.accounts.add(pod.service_account)

    def _close(
        self,
        mesh: MeshConfig,
        roots: tuple[str, ...],
        problems: tuple[ObjectProblem, ...],
        cells: set[Cell],
    ) -> Snapshot:
        if self._mesh is None:
            cells.add(Cell("mesh", EVERY))
        elif mesh is not self._mesh:
            cells.update(differing("mesh", self._mesh, mesh))
        if roots != self._roots:
            cells.add(Cell("trust_roots", EVERY))
        self._mesh, self._roots = mesh, roots
        plain = (
            self._namespaces,
            self._pods,
            self._services,
            self._targets,
            self._route_groups,
            self._tcp_routes,
            self._splits,
            self._policies,
        )
        looked_up = (
            self._monitored,
            self._by_uid,
            self._by_ip,
            self._by_account,
            self._endpoints,
            self._addresses,
            self._services_by_pod,
            self._services_by_account,
            self._accounts_by_service,
            self._by_destination,
            self._by_source,
            self._by_apex,
            self._by_backend,
        )
        drafts: list[Draft[Any, Any]] = [*plain, *looked_up]
        for draft in drafts:
            cells.update(draft.close(in_order=draft in plain))
        maps: dict[str, Any] = {draft.name: draft.map for draft in drafts}
        maps["monitored"] = frozenset(maps["monitored"])
        return Snapshot(
            mesh=mesh,
            trust_roots=roots,
            problems=problems,
            mesh_services=self._mesh_services,
            **maps,
        )


class _Step:
    """What has to be looked at again, in one step from snapshot to snapshot."""

    def __init__(self) -> None:
        self.services: set[Key] = set()
        self.targets: set[Key] = set()
        self.splits: set[Key] = set()
        self.endpoints: set[Key] = set()
        self.pods: set[Key] = set()
        self.accounts: set[ServiceAccount] = set()
        self.linked: set[Key] = set()
        """Services whose Pods, or whose Pods' accounts, are different."""
        self.cells: set[Cell] = set()


def _targets_by(name: str) -> Groups[ServiceAccount, TrafficTarget]:
    return Groups(name, lambda target: target.key)


def _splits_by(name: str) -> Groups[Key, TrafficSplit]:
    return Groups(name, lambda split: split.key)


def _alive(pod: Pod | None) -> Pod | None:
    return None if pod is None or pod.terminal else pod


def _ips(pod: Pod | None) -> tuple[str, ...]:
    return () if pod is None or pod.host_network else pod.ips


def _labels(pod: Pod | None) -> list[tuple[str, str, str]]:
    if pod is None:
        return []
    return [(pod.namespace, label, value) for label, value in pod.labels.items()]


def _named(part: EndpointSlice) -> Iterable[Key | str]:
    """Return the Pods that a slice names, and its addresses where it names none."""
    for entry in part.endpoints:
        if entry.pod is not None:
            yield entry.pod
        else:
            yield from entry.addresses


def _behind(endpoints: Iterable[Endpoint]) -> set[Key]:
    return {endpoint.pod.key for endpoint in endpoints if endpoint.pod is not None}
