"""How each policy object is doing, in words: what goes into its status.

In: the snapshot. Out: one ``ObjectStatus`` for each object of ours, with three conditions:

- ``Accepted``: it could be read; if not, every fault is listed.
- ``Programmed``: it has the effect that it describes; if not, what is missing.
- ``Conflicted``: another object says something else about the same thing, and that one is followed.

Invariants: pure; the text depends on the snapshot alone, in a fixed order, so a status is written
only when something changed. Not here: time stamps, writing, doing it again after a change at the
cost of what changed (``assessing``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsm.compile.clusters import backend_port
from fsm.compile.contract import BUILT_IN_CHAINS
from fsm.model.exclusions import read_note, wanted
from fsm.model.names import INJECTED_WITH_ANNOTATION, Key
from fsm.model.policy import HTTPRouteGroup, RuleRef, TCPRoute, TrafficSplit, TrafficTarget
from fsm.model.snapshot import ObjectProblem, Snapshot, target_counts
from fsm.model.workload import Pod
from fsm.policies import BY_KIND
from fsm.policies.base import Judgement
from fsm.policies.egress.compile import KIND as EGRESS
from fsm.policies.ingress_backend.compile import FLAGS as EXTERNAL_ACCESS
from fsm.policies.mesh_config.compile import left_out
from fsm.policies.mesh_config.effects import not_heeded, outdated
from fsm.policies.plugin_chain.compile import stage_of
from fsm.policies.udp_route.compile import NOT_CARRIED
from fsm.settings import Settings

ConditionType = Literal["Accepted", "Programmed", "Conflicted"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, as the Kubernetes API writes them, without its time."""

    type: ConditionType
    status: bool
    reason: str
    """One word in camel case, for programs."""
    message: str
    """For people."""


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """How one object is doing."""

    kind: str
    namespace: str
    name: str
    generation: int
    """The generation of the object that was looked at."""
    conditions: tuple[Condition, ...]

    @property
    def current_status(self) -> str:
        """One word for tables: the most important thing about the object."""
        by_type = {condition.type: condition for condition in self.conditions}
        if not by_type["Accepted"].status:
            return "Invalid"
        if by_type["Conflicted"].status:
            return "Conflicted"
        return "Programmed" if by_type["Programmed"].status else by_type["Programmed"].reason

    @property
    def reason(self) -> str:
        """The text behind that word."""
        by_type = {condition.type: condition for condition in self.conditions}
        if not by_type["Accepted"].status:
            return by_type["Accepted"].message
        if by_type["Conflicted"].status:
            return by_type["Conflicted"].message
        return by_type["Programmed"].message


@dataclass(frozen=True, slots=True)
class _Findings:
    """What keeps an object from having its effect; the first is the reason."""

    reason: str = ""
    messages: tuple[str, ...] = ()


def assess(snapshot: Snapshot, settings: Settings | None = None) -> list[ObjectStatus]:
    """Return the status of every object of ours, in order of kind and name."""
    return _Assessor(snapshot, settings or Settings()).all()


def assess_one(snapshot: Snapshot, settings: Settings, kind: str, key: Key) -> ObjectStatus | None:
    """Return the status of one object as far as it depends on no more than the object refers to.

    That is of all kinds but the ones that others refer to (``REFERRED``) and MeshConfig.
    """
    return _Assessor(snapshot, settings).one(kind, key)


def assess_referred(obj: HTTPRouteGroup | TCPRoute, used: bool) -> ObjectStatus:
    """Return the status of what has an effect only where something else names it."""
    kind = "HTTPRouteGroup" if isinstance(obj, HTTPRouteGroup) else "TCPRoute"
    return _status(kind, obj, _used(used))


def assess_mesh(snapshot: Snapshot, made_otherwise: Mapping[str, list[Key]]) -> ObjectStatus:
    """Return the status of MeshConfig.

    Args:
        snapshot: the world.
        made_otherwise: what the function of that name returns.

    """
    return _status("MeshConfig", snapshot.mesh, _mesh(snapshot, made_otherwise))


def assess_invalid(snapshot: Snapshot) -> list[ObjectStatus]:
    """Return the statuses of objects that could not be read."""
    by_object: dict[tuple[str, str, str], list[ObjectProblem]] = defaultdict(list)
    for problem in snapshot.problems:
        if problem.kind in BY_KIND and problem.name:
            by_object[problem.kind, problem.namespace, problem.name].append(problem)
    return [
        ObjectStatus(
            kind=kind,
            namespace=namespace,
            name=name,
            generation=problems[0].generation,
            conditions=(
                Condition("Accepted", False, "Invalid", _listed(problems)),
                Condition("Programmed", False, "Invalid", "the object is not valid"),
                Condition("Conflicted", False, "NoConflict", "no other object says otherwise"),
            ),
        )
        for (kind, namespace, name), problems in sorted(by_object.items())
    ]


MAPS: Mapping[str, Callable[[Snapshot], Mapping[Key, Any]]] = {
    "TrafficTarget": lambda snapshot: snapshot.targets,
    "TrafficSplit": lambda snapshot: snapshot.splits,
    "HTTPRouteGroup": lambda snapshot: snapshot.route_groups,
    "TCPRoute": lambda snapshot: snapshot.tcp_routes,
}
"""Kinds with a map of their own; objects of the others are in ``policies``."""


def find_object(snapshot: Snapshot, kind: str, key: Key) -> Any:
    """Return an object of ours, or None."""
    own = MAPS.get(kind)
    return snapshot.policies.get((kind, key)) if own is None else own(snapshot).get(key)


REFERRED = ("HTTPRouteGroup", "TCPRoute")
"""Kinds that have an effect only where an object of another kind names them."""


def references(kind: str, obj: Any) -> Iterator[tuple[str, Key]]:
    """Yield the objects of ``REFERRED`` kinds that an object names."""
    names: Iterable[str] = ()
    if kind == "TrafficTarget":
        for rule in obj.rules:
            if rule.kind in REFERRED:
                yield rule.kind, Key(obj.namespace, rule.name)
    elif kind == EGRESS:
        names = obj.groups
    elif kind == "TrafficSplit" or kind in EXTERNAL_ACCESS:
        names = obj.matches
    for name in names:
        yield "HTTPRouteGroup", Key(obj.key.namespace, name)


class _Assessor:
    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot = snapshot
        self.settings = settings

    def all(self) -> list[ObjectStatus]:
        snapshot = self.snapshot
        statuses = assess_invalid(snapshot)
        used: set[tuple[str, Key]] = set()
        found = [
            *(("TrafficTarget", key) for key in snapshot.targets),
            *(("TrafficSplit", key) for key in snapshot.splits),
            *((kind, key) for kind, key in snapshot.policies if kind in BY_KIND),
        ]
        for kind, key in found:
            statuses += filter(None, [self.one(kind, key)])
            used.update(references(kind, find_object(snapshot, kind, key)))
        for group in snapshot.route_groups.values():
            statuses.append(assess_referred(group, ("HTTPRouteGroup", group.key) in used))
        for route in snapshot.tcp_routes.values():
            statuses.append(assess_referred(route, ("TCPRoute", route.key) in used))
        mesh = snapshot.mesh
        if not any(s.kind == "MeshConfig" and s.name == mesh.name for s in statuses):
            statuses.append(assess_mesh(snapshot, made_otherwise(snapshot)))
        return sorted(statuses, key=lambda s: (s.kind, s.namespace, s.name))

    def one(self, kind: str, key: Key) -> ObjectStatus | None:
        obj = find_object(self.snapshot, kind, key)
        if obj is None:
            return None
        if kind == "TrafficTarget":
            return _status(kind, obj, self._target(obj))
        if kind == "TrafficSplit":
            conflict = self._conflict(obj)
            return _status(kind, obj, self._split(obj, conflict), conflict)
        found = self._judged(kind, obj)
        return _status(kind, obj, _Findings(found.reason, found.messages), found.conflict)

    def _judged(self, kind: str, obj: Any) -> Judgement:
        judge = BY_KIND[kind].judge
        if obj.key.namespace and obj.key.namespace not in self.snapshot.monitored:
            inside = obj.key.namespace == self.settings.fsm_namespace
            if not inside:
                text = f"namespace {obj.key.namespace} is not monitored by the mesh"
                return Judgement("NoEffect", (text,))
        return judge(self.snapshot, obj, self.settings) if judge else Judgement()

    def _target(self, target: TrafficTarget) -> _Findings:
        why_not = target_counts(target, self.snapshot.monitored, self.settings)
        if why_not is not None:
            return _Findings("NoEffect", (why_not,))
        missing: list[str] = []
        for rule in target.rules:
            missing += self._rule(target, rule)
        if missing:
            return _Findings("RefNotFound", tuple(missing))
        if not self.snapshot.pods_by_account.get(target.destination):
            return _Findings("NoWorkload", (f"no Pod runs as ServiceAccount {target.destination}",))
        if not self.snapshot.services_by_account.get(target.destination):
            return _Findings(
                "NoService",
                (f"no Service of the mesh leads to ServiceAccount {target.destination}",),
            )
        if self.snapshot.mesh.traffic.permissive:
            return _Findings(
                "PermissiveMode", ("permissive mode is on, so TrafficTargets are not asked",)
            )
        return _Findings()

    def _rule(self, target: TrafficTarget, rule: RuleRef) -> Iterable[str]:
        key = Key(target.namespace, rule.name)
        if rule.kind == "UDPRoute":
            if ("UDPRoute", key) not in self.snapshot.policies:
                yield f"UDPRoute {rule.name} does not exist in namespace {target.namespace}"
            elif not self.settings.proxy.carries_udp:
                yield f"UDPRoute {rule.name}: {NOT_CARRIED}"
        elif rule.kind == "TCPRoute":
            if key not in self.snapshot.tcp_routes:
                yield f"TCPRoute {rule.name} does not exist in namespace {target.namespace}"
        elif (group := self.snapshot.route_groups.get(key)) is None:
            yield f"HTTPRouteGroup {rule.name} does not exist in namespace {target.namespace}"
        elif not rule.matches:
            yield (f"no match of HTTPRouteGroup {rule.name} is named, so this rule allows nothing")
        else:
            known = {match.name for match in group.matches}
            for name in rule.matches:
                if name not in known:
                    yield f"HTTPRouteGroup {rule.name} has no match {name}"

    def _split(self, split: TrafficSplit, conflict: str) -> _Findings:
        if split.namespace not in self.snapshot.monitored:
            return _Findings(
                "NoEffect", (f"namespace {split.namespace} is not monitored by the mesh",)
            )
        if conflict and not split.matches:
            return _Findings("Conflicted", (conflict,))
        missing: list[str] = []
        unlike: list[str] = []
        apex = self.snapshot.service_in_mesh(split.apex)
        if apex is None:
            missing.append(f"the apex {self._absent(split.apex)}")
        for backend in split.backends:
            service = self.snapshot.service_in_mesh(backend.service)
            if service is None:
                missing.append(f"the backend {self._absent(backend.service)}")
                continue
            for port in apex.ports if apex is not None else ():
                own = backend_port(port, service)
                if own is None:
                    missing.append(
                        f"the backend {service.key} has no port that stands for port {port.port}"
                    )
                elif own.mesh_protocol.is_http != port.mesh_protocol.is_http:
                    unlike.append(
                        f"port {own.port} of the backend {service.key} speaks {own.mesh_protocol},"
                        f" port {port.port} of the apex {port.mesh_protocol}"
                    )
        missing += [
            f"HTTPRouteGroup {name} does not exist in namespace {split.namespace}"
            for name in split.matches
            if Key(split.namespace, name) not in self.snapshot.route_groups
        ]
        if missing:
            return _Findings("RefNotFound", (*missing, *unlike))
        return _Findings("ProtocolMismatch", tuple(unlike)) if unlike else _Findings()

    def _absent(self, key: Key) -> str:
        service = self.snapshot.services.get(key)
        if service is None:
            return f"Service {key} does not exist"
        if key.namespace not in self.snapshot.monitored:
            return f"Service {key} is in a namespace that the mesh does not monitor"
        return f"Service {key} is not carried by the mesh"

    def _conflict(self, split: TrafficSplit) -> str:
        if split.namespace not in self.snapshot.monitored:
            return ""
        rivals = [
            other
            for other in self.snapshot.splits_by_apex.get(split.apex, ())
            if other.matches == split.matches
        ]
        if not rivals or rivals[0].key == split.key:
            return ""
        return f"TrafficSplit {rivals[0].name} is about Service {split.apex} too and is followed"


def _status(kind: str, obj: Any, findings: _Findings, conflict: str = "") -> ObjectStatus:
    key = obj.key
    programmed = not findings.reason
    message = "; ".join(findings.messages) or "in effect"
    return ObjectStatus(
        kind=kind,
        namespace=key.namespace,
        name=key.name,
        generation=obj.generation,
        conditions=(
            Condition("Accepted", True, "Accepted", "the object is valid"),
            Condition(
                "Programmed",
                programmed,
                "Programmed" if programmed else findings.reason,
                message,
            ),
            Condition(
                "Conflicted",
                bool(conflict),
                "Conflict" if conflict else "NoConflict",
                conflict or "no other object says otherwise",
            ),
        ),
    )


def _mesh(snapshot: Snapshot, otherwise: Mapping[str, list[Key]]) -> _Findings:
    mesh = snapshot.mesh
    told = [
        f"{len(pods)} Pods were made with another {path} and keep it until they are made"
        f" again: {_some(pods)}"
        for path, pods in sorted(otherwise.items())
    ]
    plugins = frozenset(stage_of(key.name) for kind, key in snapshot.policies if kind == "Plugin")
    if missing := left_out(mesh, BUILT_IN_CHAINS, plugins):
        told.append(f"stages that this version does not have: {', '.join(missing)}")
    if idle := not_heeded(mesh):
        told.append("not heeded: " + ", ".join(f"{effect.path} ({effect.text})" for effect in idle))
    return _Findings(messages=("in effect", *told)) if told else _Findings()


def made_otherwise(snapshot: Snapshot) -> dict[str, list[Key]]:
    """Return the Pods that do not follow MeshConfig where it only counts at their making, by field.

    What has been excluded since is carried past by the sidecar; what has been taken off a list of
    exclusions is what a running Pod cannot be told, because its own rules let it pass.
    """
    return by_field({pod.key: outdated_in(snapshot, pod) for pod in snapshot.pods.values()})


def by_field(fields: Mapping[Key, tuple[str, ...]]) -> dict[str, list[Key]]:
    """Turn the fields of each Pod into the Pods of each field, in order."""
    found: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(fields):
        for path in fields[key]:
            found[path].append(key)
    return found


def outdated_in(snapshot: Snapshot, pod: Pod) -> tuple[str, ...]:
    """Return the fields of MeshConfig that one Pod does not follow."""
    text = pod.annotations.get(INJECTED_WITH_ANNOTATION)
    if not text or pod.terminal or not snapshot.pod_in_mesh(pod):
        return ()
    made_with = read_note(text)
    found = list(outdated(snapshot.mesh, made_with.mesh))
    home = snapshot.namespaces.get(pod.namespace)
    now = wanted(snapshot.mesh, pod.annotations, home.annotations if home else {})
    gone = made_with.exclusions.without(now)
    # Where nothing was included everything came to the sidecar, which knows what to do.
    found += [path for name, path in _EXCLUSION_FIELDS.items() if getattr(gone, name)]
    return tuple(found)


_EXCLUSION_FIELDS = {
    "outbound_ports": "traffic.outboundPortExclusionList",
    "inbound_ports": "traffic.inboundPortExclusionList",
    "outbound_ranges": "traffic.outboundIPRangeExclusionList",
    "outbound_included": "traffic.outboundIPRangeInclusionList",
}
_NAMED_MAX = 5  # LIMIT: Pods named in a status.


def _some(pods: list[Key]) -> str:
    names = ", ".join(map(str, pods[:_NAMED_MAX]))
    return f"{names} and {len(pods) - _NAMED_MAX} more" if len(pods) > _NAMED_MAX else names


def _used(used: bool) -> _Findings:
    if used:
        return _Findings()
    return _Findings("NotReferenced", ("no TrafficTarget, TrafficSplit or other policy names it",))


_TOLD_MAX = 20  # LIMIT: faults in a status; whoever mends these sees the next.


def _listed(problems: list[ObjectProblem]) -> str:
    told = [_in_words(problem) for problem in problems[:_TOLD_MAX]]
    if len(problems) > _TOLD_MAX:
        told.append(f"and {len(problems) - _TOLD_MAX} more")
    return "; ".join(told)


def _in_words(problem: ObjectProblem) -> str:
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return f"{text} (hint: {problem.hint})" if problem.hint else text
