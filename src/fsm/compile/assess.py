"""How each policy object is doing, in words: what goes into its status.

In: the snapshot. Out: one ``ObjectStatus`` for each object of ours, with three conditions:

- ``Accepted``: it could be read; if not, every fault is listed.
- ``Programmed``: it has the effect that it describes; if not, what is missing.
- ``Conflicted``: another object says something else about the same thing, and that one is followed.

Invariants: pure; the text depends on the snapshot alone, in a fixed order, so a status is written
only when something changed. Not here: time stamps, writing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fsm.compile.clusters import backend_port
from fsm.compile.contract import BUILT_IN_CHAINS
from fsm.model.exclusions import read_note, wanted
from fsm.model.names import INJECTED_WITH_ANNOTATION, Key
from fsm.model.policy import RuleRef, TrafficSplit, TrafficTarget
from fsm.model.snapshot import ObjectProblem, Snapshot, target_counts
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


class _Assessor:
    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot = snapshot
        self.settings = settings

    def all(self) -> list[ObjectStatus]:
        statuses = self._invalid()
        for target in self.snapshot.targets.values():
            statuses.append(self._status("TrafficTarget", target, self._target(target)))
        for split in self.snapshot.splits.values():
            conflict = self._conflict(split)
            statuses.append(
                self._status("TrafficSplit", split, self._split(split, conflict), conflict)
            )
        for (kind, _), obj in self.snapshot.policies.items():
            if kind not in BY_KIND:
                continue
            found = self._judged(kind, obj)
            statuses.append(
                self._status(kind, obj, _Findings(found.reason, found.messages), found.conflict)
            )
        groups, routes = self._referenced()
        for group in self.snapshot.route_groups.values():
            statuses.append(self._status("HTTPRouteGroup", group, _used(group.key in groups)))
        for route in self.snapshot.tcp_routes.values():
            statuses.append(self._status("TCPRoute", route, _used(route.key in routes)))
        mesh = self.snapshot.mesh
        if not any(s.kind == "MeshConfig" and s.name == mesh.name for s in statuses):
            statuses.append(self._status("MeshConfig", mesh, self._mesh()))
        return sorted(statuses, key=lambda s: (s.kind, s.namespace, s.name))

    def _status(
        self,
        kind: str,
        obj: Any,
        findings: _Findings,
        conflict: str = "",
    ) -> ObjectStatus:
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

    def _judged(self, kind: str, obj: Any) -> Judgement:
        judge = BY_KIND[kind].judge
        if obj.key.namespace and obj.key.namespace not in self.snapshot.monitored:
            inside = obj.key.namespace == self.settings.fsm_namespace
            if not inside:
                text = f"namespace {obj.key.namespace} is not monitored by the mesh"
                return Judgement("NoEffect", (text,))
        return judge(self.snapshot, obj, self.settings) if judge else Judgement()

    def _invalid(self) -> list[ObjectStatus]:
        by_object: dict[tuple[str, str, str], list[ObjectProblem]] = defaultdict(list)
        for problem in self.snapshot.problems:
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

    def _mesh(self) -> _Findings:
        mesh = self.snapshot.mesh
        told = [
            f"{len(pods)} Pods were made with another {path} and keep it until they are made"
            f" again: {_some(pods)}"
            for path, pods in sorted(made_otherwise(self.snapshot).items())
        ]
        plugins = frozenset(
            stage_of(key.name) for kind, key in self.snapshot.policies if kind == "Plugin"
        )
        if missing := left_out(mesh, BUILT_IN_CHAINS, plugins):
            told.append(f"stages that this version does not have: {', '.join(missing)}")
        if idle := not_heeded(mesh):
            told.append(
                "not heeded: " + ", ".join(f"{effect.path} ({effect.text})" for effect in idle)
            )
        return _Findings(messages=("in effect", *told)) if told else _Findings()

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

    def _referenced(self) -> tuple[set[Key], set[Key]]:
        groups = {
            Key(split.namespace, name)
            for split in self.snapshot.splits.values()
            for name in split.matches
        }
        for (kind, key), policy in self.snapshot.policies.items():
            if kind == EGRESS:
                groups |= {Key(key.namespace, name) for name in policy.groups}
            elif kind in EXTERNAL_ACCESS:
                groups |= {Key(key.namespace, name) for name in policy.matches}
        routes: set[Key] = set()
        for target in self.snapshot.targets.values():
            for rule in target.rules:
                used = groups if rule.kind == "HTTPRouteGroup" else routes
                used.add(Key(target.namespace, rule.name))
        return groups, routes


def made_otherwise(snapshot: Snapshot) -> dict[str, list[Key]]:
    """Return the Pods that do not follow MeshConfig where it only counts at their making, by field.

    What has been excluded since is carried past by the sidecar; what has been taken off a list of
    exclusions is what a running Pod cannot be told, because its own rules let it pass.
    """
    found: dict[str, list[Key]] = defaultdict(list)
    for pod in snapshot.pods.values():
        text = pod.annotations.get(INJECTED_WITH_ANNOTATION)
        if not text or pod.terminal or not snapshot.pod_in_mesh(pod):
            continue
        made_with = read_note(text)
        for path in outdated(snapshot.mesh, made_with.mesh):
            found[path].append(pod.key)
        home = snapshot.namespaces.get(pod.namespace)
        now = wanted(snapshot.mesh, pod.annotations, home.annotations if home else {})
        gone = made_with.exclusions.without(now)
        for name, path in _EXCLUSION_FIELDS.items():
            # Where nothing was included everything came to the sidecar, which knows what to do.
            if getattr(gone, name):
                found[path].append(pod.key)
    return found


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
