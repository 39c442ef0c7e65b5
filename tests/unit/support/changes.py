"""What may happen to a small cluster, one step after the other, in any order.

In: a world and a step. Out: the objects that came, went or changed, as a watch tells. Invariants:
objects that were handed out are never edited in place; a step that does not fit the world (nothing
left to delete) changes nothing.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st
from world import MONITORED, World, port
from worlds import NAMES, NAMESPACES, WORKLOADS, worlds

from fsm.compile import Change
from fsm.model import Key
from fsm.model.exclusions import Exclusions, note
from fsm.model.names import INJECTED_WITH_ANNOTATION

Json = dict[str, Any]
Objects = dict[tuple[str, Key], Json]


class Step(NamedTuple):
    """Something that happens: to the ``which``th object of a kind, in the ``how``th way."""

    what: str
    which: int
    how: int
    value: int


KINDS = (
    "pod",
    "service",
    "namespace",
    "target",
    "split",
    "group",
    "mesh",
    "slice",
    "egress",
    "note",
    "fault",
)
PROTOCOLS = ("http", "https", "tcp")
numbers = st.integers(0, 7)
steps = st.builds(Step, st.sampled_from(KINDS), numbers, numbers, numbers)


@st.composite
def worlds_and_steps(draw: st.DrawFn, *, most: int = 8) -> tuple[World, list[Step]]:
    """Return a world and what happens to it."""
    return draw(worlds()), draw(st.lists(steps, min_size=1, max_size=most))


class Seen:
    """The world as far as its events have arrived."""

    def __init__(self, world: World) -> None:
        self.by_name = index(world)

    def take(self, changes: list[Change]) -> None:
        for change in changes:
            if change.obj is None:
                del self.by_name[change.kind, change.key]
            else:
                self.by_name[change.kind, change.key] = change.obj

    def objects(self) -> dict[str, list[Json]]:
        found: dict[str, list[Json]] = {}
        for (kind, _), obj in self.by_name.items():
            found.setdefault(kind, []).append(obj)
        return found


def index(world: World) -> Objects:
    return {
        (kind, Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])): obj
        for kind, found in world.objects().items()
        for obj in found
    }


def take(world: World, step: Step) -> list[Change]:
    """Let a step happen; return every object that is different after it."""
    before = index(world)
    _TAKEN[step.what](world, step)
    after = index(world)
    gone = [Change(*name, None) for name in before if name not in after]
    return gone + [
        Change(*name, copy.deepcopy(obj)) for name, obj in after.items() if before.get(name) != obj
    ]


def batches(changes: list[Change], shuffle: random.Random) -> list[list[Change]]:
    """Cut changes into batches, in any order: events of different kinds race."""
    changes = list(changes)
    shuffle.shuffle(changes)
    cut = shuffle.randint(0, len(changes))
    return [changes[:cut], changes[cut:]]


def _edit(found: list[Json], which: int, edit: Callable[[Json], None]) -> None:
    if found:
        edited = copy.deepcopy(found[which % len(found)])
        edit(edited)
        found[which % len(found)] = edited


def _drop(found: list[Json], which: int) -> None:
    if found:
        del found[which % len(found)]


def _pod(world: World, step: Step) -> None:
    pods = world.found["Pod"]

    def edit(pod: Json) -> None:
        labels, status = pod["metadata"]["labels"], pod["status"]
        if step.how == 1:
            ready = status["conditions"][0]["status"] == "True"
            status["conditions"][0]["status"] = "False" if ready else "True"
        elif step.how == 2:
            status["phase"] = "Failed" if status["phase"] == "Running" else "Running"
        elif step.how == 3:
            status["podIP"] = pods[step.value % len(pods)]["status"]["podIP"]
        elif step.how == 4:
            labels["app"] = NAMES[step.value % len(NAMES)]
        elif step.how == 5:
            pod["spec"]["serviceAccountName"] = [*NAMES, "shared"][step.value % 4]
        elif step.how == 6:
            labels.pop("fsm-proxy-uuid", None) or labels.update({"fsm-proxy-uuid": "x"})
        else:
            pod["metadata"]["uid"] = f"uid-{step.value}-{pod['metadata']['name']}"

    if step.how == 0:
        _drop(pods, step.which)
    elif step.how == 7:
        namespace, name = WORKLOADS[step.which % len(WORKLOADS)]
        if not any(p["metadata"]["name"] == f"{name}-new-{step.value}" for p in pods):
            world.pod(namespace, f"{name}-new-{step.value}", account=name, labels={"app": name})
    else:
        _edit(pods, step.which, edit)


def _service(world: World, step: Step) -> None:
    def edit(service: Json) -> None:
        if step.how == 1:
            service["spec"]["selector"] = {"app": NAMES[step.value % len(NAMES)]}
        elif step.how == 2:
            service["spec"]["ports"] = [port(80, name=["", "http-a", "tcp-b"][step.value % 3])]
        elif step.how == 3:
            service["metadata"]["annotations"] = {
                "flomesh.io/service-exclusion": "true" if step.value % 2 else "false"
            }
        elif step.how == 4:
            service["spec"]["clusterIP"] = "None" if step.value % 2 else f"10.96.9.{step.value}"
        elif step.how == 5:
            service["spec"]["ports"] = [port(80), port(81, 80 + step.value % 2)]
        else:
            service["spec"]["selector"] = {}

    if step.how == 0:
        _drop(world.found["Service"], step.which)
    elif step.how == 7:
        world.service(NAMESPACES[step.which % 2], f"late-{len(world.found['Service'])}", port(80))
    else:
        _edit(world.found["Service"], step.which, edit)


def _namespace(world: World, step: Step) -> None:
    def edit(namespace: Json) -> None:
        metadata = namespace["metadata"]
        if step.how % 2:
            metadata["annotations"] = {"flomesh.io/service-exclusion-list": NAMES[step.value % 3]}
        else:
            metadata["labels"] = {} if metadata["labels"] else dict(MONITORED)

    _edit(world.found["Namespace"], step.which, edit)


def _target(world: World, step: Step) -> None:
    def edit(target: Json) -> None:
        spec = target["spec"]
        namespace, name = WORKLOADS[step.value % len(WORKLOADS)]
        account = {"kind": "ServiceAccount", "namespace": namespace, "name": name}
        if step.how < 3:
            spec["sources"] = [account, *spec["sources"]][: 1 + step.how]
        elif step.how < 5:
            spec["destination"] = account | ({"port": 80} if step.how == 3 else {})
        else:
            spec["rules"] = [{"kind": "HTTPRouteGroup", "name": "g", "matches": ["m1"]}]

    if step.how == 7:
        _drop(world.found["TrafficTarget"], step.which)
    elif step.how == 6 or not world.found["TrafficTarget"]:
        name = f"late-{len(world.found['TrafficTarget'])}-{step.value}"
        ends = [WORKLOADS[n % len(WORKLOADS)] for n in (step.which, step.value)]
        world.target(name, ends[0], [ends[1]], ("HTTPRouteGroup", "g", "m0"), ("TCPRoute", "tcp"))
    else:
        _edit(world.found["TrafficTarget"], step.which, edit)


def _split(world: World, step: Step) -> None:
    def edit(split: Json) -> None:
        if step.how < 4:
            split["spec"]["backends"][0]["weight"] = step.value
        else:
            split["spec"]["service"] = NAMES[step.value % len(NAMES)]

    if step.how == 7:
        _drop(world.found["TrafficSplit"], step.which)
    elif step.how == 6 or not world.found["TrafficSplit"]:
        name = f"late-{len(world.found['TrafficSplit'])}-{step.value}"
        weights = {NAMES[step.value % 3]: 1, "gone": step.value}
        world.split(NAMESPACES[step.which % 2], name, NAMES[step.which % 3], weights)
    else:
        _edit(world.found["TrafficSplit"], step.which, edit)


def _group(world: World, step: Step) -> None:
    def edit(group: Json) -> None:
        group["spec"]["matches"] = [{"name": "m0", "pathRegex": f"/{step.value}"}]

    if step.how == 7:
        _drop(world.found[["HTTPRouteGroup", "TCPRoute"][step.value % 2]], step.which)
    else:
        _edit(world.found["HTTPRouteGroup"], step.which, edit)


def _mesh(world: World, step: Step) -> None:
    mode = ["domain", "mixed", "ip"][step.how % 3]
    flags = {"enableEgressPolicy": step.how > 3}
    world.mesh(
        permissive=step.value % 2 == 0, egress=step.which % 2 == 0, mode=mode, featureFlags=flags
    )


def _egress(world: World, step: Step) -> None:
    def edit(egress: Json) -> None:
        spec = egress["spec"]
        if step.how < 3:
            spec["ports"] = [{"number": 80 + step.value % 2, "protocol": PROTOCOLS[step.how]}]
        elif step.how == 3:
            spec["ipAddresses"] = [f"10.{96 + step.value % 2}.0.0/{8 + step.value}"]
        elif step.how == 4:
            spec["matches"] = [{"kind": "HTTPRouteGroup", "name": ["g", "gone"][step.value % 2]}]
        else:
            spec["hosts"] = [f"{name}.example" for name in NAMES[: step.value % 4]]

    if step.how == 7:
        _drop(world.found["Egress"], step.which)
    elif step.how == 6 or not world.found["Egress"]:
        namespace, name = WORKLOADS[step.value % len(WORKLOADS)]
        source = {"kind": "ServiceAccount", "namespace": namespace, "name": name}
        ports = [{"number": 80, "protocol": PROTOCOLS[step.which % 3]}]
        number = len(world.found["Egress"])
        api = "policy.flomesh.io/v1alpha1"
        spec = {"sources": [source], "ports": ports}
        world.policy("Egress", api, NAMESPACES[step.which % 2], f"e{number}-{step.value}", spec)
    else:
        _edit(world.found["Egress"], step.which, edit)


def _slice(world: World, step: Step) -> None:
    """Somebody writes EndpointSlices by hand, with and without the Pods behind the addresses."""
    found = world.found["EndpointSlice"]
    if step.how == 7:
        _drop(found, step.which)
        return
    namespace, name = WORKLOADS[step.which % len(WORKLOADS)]
    pods = world.found["Pod"]
    address = pods[step.value % len(pods)]["status"]["podIP"] if pods else "10.9.9.9"
    endpoint: Json = {"addresses": ["192.0.2.1" if step.how == 0 else address]}
    if step.how > 4:
        endpoint["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": f"{name}-0"}
    metadata = {
        "namespace": namespace,
        "name": f"own-{step.how % 3}",
        "labels": {"kubernetes.io/service-name": NAMES[step.value % len(NAMES)]},
    }
    kept = [s for s in found if s["metadata"]["name"] != metadata["name"]]
    found[:] = [
        *kept,
        {
            "metadata": metadata,
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [endpoint],
        },
    ]


def _note(world: World, step: Step) -> None:
    """A Pod says with which exclusions it was made, or a namespace that it wants others."""

    def made_with(pod: Json) -> None:
        made = Exclusions(outbound_ports=frozenset(range(80, 80 + step.value % 3)))
        pod["metadata"].setdefault("annotations", {})[INJECTED_WITH_ANNOTATION] = note(made, {})

    def excluding(namespace: Json) -> None:
        annotation = "flomesh.io/outbound-port-exclusion-list"
        namespace["metadata"]["annotations"] = {annotation: str(80 + step.value % 2)}

    if step.how < 5:
        _edit(world.found["Pod"], step.which, made_with)
    else:
        _edit(world.found["Namespace"], step.which, excluding)


def _fault(world: World, step: Step) -> None:
    """A TCPRoute can be read, or cannot."""

    def edit(route: Json) -> None:
        route["spec"] = {"matches": 7} if step.how % 2 else {"matches": {"ports": [80]}}
        route["metadata"]["generation"] = step.value

    _edit(world.found["TCPRoute"], step.which, edit)


_TAKEN: dict[str, Callable[[World, Step], None]] = {
    "pod": _pod,
    "service": _service,
    "namespace": _namespace,
    "target": _target,
    "split": _split,
    "group": _group,
    "mesh": _mesh,
    "slice": _slice,
    "egress": _egress,
    "note": _note,
    "fault": _fault,
}
