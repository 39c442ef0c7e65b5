"""Whatever stands in the API: it is told in words, nothing is lost, and everything else goes on.

Each case is one bad object beside a mesh that works. The webhook refuses most of them; here they
are in the API all the same: a webhook may be away, and objects may be older than their rules.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, bookstore, bookstore_access

from fsm.compile import Change, IncrementalCompiler, assess, build_snapshot
from fsm.model import Key
from fsm.policies import validate

API = {
    "TrafficTarget": "access.smi-spec.io/v1alpha3",
    "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
    "TCPRoute": "specs.smi-spec.io/v1alpha4",
    "UDPRoute": "specs.smi-spec.io/v1alpha4",
    "IngressBackend": "policy.flomesh.io/v1alpha1",
    "AccessControl": "policy.flomesh.io/v1alpha1",
    "Retry": "policy.flomesh.io/v1alpha1",
    "UpstreamTrafficSetting": "policy.flomesh.io/v1alpha1",
    "TrafficSplit": "split.smi-spec.io/v1alpha4",
    "MeshConfig": "config.flomesh.io/v1alpha3",
    "Pod": "v1",
    "Service": "v1",
    "Namespace": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
}
DEEP: Any = 1
for _ in range(200):
    DEEP = {"x": [DEEP]}
EXPLODES = "(a+)+" * 40 + "$"
HOSTILE = ['a"; drop', "a\nb", "../../etc", "${jndi:x}", "a" * 5_000, "\x00", "\u202egnp", "é"]


def bad(kind: str, name: str = "bad", **rest: Any) -> dict[str, Any]:
    meta = {"namespace": "bookstore", "name": name, "generation": 3}
    if kind == "MeshConfig":
        meta = {"namespace": "fsm-system", "name": "fsm-mesh-config", "generation": 3}
    return {"apiVersion": API[kind], "kind": kind, "metadata": meta, **rest}


def matches(**match: Any) -> dict[str, Any]:
    return {"spec": {"matches": [{"name": "m", **match}]}}


CASES: dict[str, dict[str, Any]] = {
    "no spec": bad("TrafficTarget"),
    "spec is a list": bad("TrafficSplit", spec=[1]),
    "spec is text": bad("HTTPRouteGroup", spec="x"),
    "unknown field": bad("TCPRoute", spec={"matches": {"portz": [1]}}),
    "port out of range": bad("TCPRoute", spec={"matches": {"ports": [70_000]}}),
    "port is a boolean": bad("UDPRoute", spec={"matches": {"ports": [True]}}),
    "regex does not compile": bad("HTTPRouteGroup", **matches(pathRegex="([")),
    "regex looks behind": bad("HTTPRouteGroup", **matches(pathRegex="(?<=a)b")),
    "regex explodes in size": bad("HTTPRouteGroup", **matches(pathRegex="(a{1000}){1000}")),
    "regex is a megabyte": bad("HTTPRouteGroup", **matches(pathRegex="a" * 1_000_000)),
    "header name with a line break": bad("HTTPRouteGroup", **matches(headers={"a\r\nb": ".*"})),
    "method of its own": bad("HTTPRouteGroup", **matches(methods=["FETCH"])),
    "ten thousand matches": bad(
        "HTTPRouteGroup", spec={"matches": [{"name": f"m{n}"} for n in range(10_000)]}
    ),
    "source of another kind": bad(
        "TrafficTarget",
        spec={
            "destination": {"kind": "ServiceAccount", "name": "bookstore-v1"},
            "sources": [{"kind": "Group", "name": "all"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "g", "matches": ["m"]}],
        },
    ),
    "weights are negative": bad(
        "TrafficSplit", spec={"service": "bookstore", "backends": [{"service": "b", "weight": -1}]}
    ),
    "weights are not numbers": bad(
        "TrafficSplit", spec={"service": "bookstore", "backends": [{"service": "b", "weight": {}}]}
    ),
    "nested without end": bad("TrafficSplit", spec=DEEP),
    "mesh config of another shape": bad("MeshConfig", spec={"traffic": {"enableEgress": "yes"}}),
    "mesh config with a typo": bad("MeshConfig", spec={"trafic": {}}),
    "mesh config with a wrong range": bad(
        "MeshConfig", spec={"traffic": {"outboundIPRangeExclusionList": ["10.0.0.0/99"]}}
    ),
    "service without a name of text": {"metadata": {"name": 7, "namespace": "bookstore"}},
    "service with a port of text": bad("Service", spec={"ports": [{"port": "http"}]}),
    "service with a wrong address": bad("Service", spec={"clusterIP": "ten", "ports": []}),
    "slice on loopback": bad(
        "EndpointSlice",
        addressType="IPv4",
        endpoints=[{"addresses": ["not an address"]}],
        ports=[{"port": 1}],
    ),
    "pod without status of an object": bad("Pod", spec={}, status="Running"),
    **{
        f"hostile name {number}": bad("TrafficSplit", name, spec={"service": name, "backends": []})
        for number, name in enumerate(HOSTILE)
    },
}


def kind_of(obj: dict[str, Any]) -> str:
    return str(obj.get("kind", "Service"))


def mesh() -> World:
    return bookstore_access(bookstore(), "bookbuyer")


def everything(compiler: IncrementalCompiler, uids: list[str]) -> dict[str, bytes]:
    found = {}
    for uid in uids:
        text = compiler.compile(uid)
        assert text is not None
        found[uid] = text.to_json()
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_bad_object_is_told_and_disturbs_nobody(case: str) -> None:
    obj, world = CASES[case], mesh()
    compiler = IncrementalCompiler(world.settings)
    uids = list(compiler.begin(world.objects(), trust_roots=world.roots).pods_by_uid)
    before = everything(compiler, uids)
    kind, meta = kind_of(obj), obj["metadata"]
    began = time.process_time()
    key = Key(meta["namespace"], str(meta["name"]))
    snapshot = compiler.update([Change(kind, key, obj)], trust_roots=world.roots)
    statuses = assess(snapshot, world.settings)
    assert time.process_time() - began < 5.0, "nobody waits for it"
    assert everything(compiler, uids) == before
    assert [p for p in snapshot.problems if p.kind == kind and p.message], "it is told"
    if kind in ("Service", "Pod", "EndpointSlice"):
        return
    (status,) = [s for s in statuses if (s.kind, s.name) == (kind, meta["name"])]
    accepted = next(c for c in status.conditions if c.type == "Accepted")
    assert (status.generation, accepted.status, accepted.reason) == (3, False, "Invalid")
    assert all(len(problem.message) < 400 for problem in snapshot.problems), "fit to be read"
    if case.startswith("hostile"):
        return
    again = {(v.path, v.message) for v in validate(obj)}
    assert again == {(p.path, p.message) for p in snapshot.problems}, "the webhook says the same"


def test_of_a_thousand_faults_the_first_are_told_and_how_many_there_are() -> None:
    sources = [{"kind": "ServiceAccount", "name": f"Wrong{n}"} for n in range(1_000)]
    obj = bad(
        "TrafficTarget",
        spec={
            "destination": {"kind": "ServiceAccount", "name": "a"},
            "sources": sources,
            "rules": [{"kind": "TCPRoute", "name": "r"}],
        },
    )
    world = mesh()
    world.found["TrafficTarget"].append(obj)
    snapshot, problems = build_snapshot(world.objects(), world.settings)
    assert len(problems) == 1_000
    (status,) = [s for s in assess(snapshot, world.settings) if s.name == "bad"]
    assert status.reason.endswith("; and 980 more")
    assert len(status.reason) < 8_000


def test_a_regex_that_would_backtrack_for_ever_elsewhere_is_matched_in_linear_time() -> None:
    # The proxies' engine does not backtrack: what explodes in others is fine, or too large.
    began = time.process_time()
    validate(bad("HTTPRouteGroup", **matches(pathRegex=EXPLODES)))
    assert time.process_time() - began < 1.0


def test_a_policy_that_names_what_does_not_exist_or_conflicts_says_so_and_is_kept() -> None:
    world = mesh()
    for name in ("a", "b"):
        world.split("bookstore", name, "bookstore", {"nowhere": 1, "bookstore-v1": 1})
    snapshot, problems = build_snapshot(world.objects(), world.settings, trust_roots=world.roots)
    assert problems == []
    by_name = {
        s.name: {c.type: c for c in s.conditions}
        for s in assess(snapshot, world.settings)
        if s.kind == "TrafficSplit"
    }
    assert "Service bookstore/nowhere does not exist" in by_name["a"]["Programmed"].message
    assert by_name["b"]["Conflicted"].status
    assert "TrafficSplit a" in by_name["b"]["Conflicted"].message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        found += spots(inner, (*path, key))
    return found


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_whatever_stands_anywhere_in_any_object_the_world_can_be_compiled(
    data: st.DataObject,
) -> None:
    world = mesh().split("bookstore", "s", "bookstore", {"bookstore-v1": 1})
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    objects = world.objects()
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(sorted(k for k, found in objects.items() if found)))
        obj = copy.deepcopy(data.draw(st.sampled_from(objects[kind])))
        meta = obj["metadata"]
        key = Key(meta.get("namespace", ""), meta["name"])
        path = data.draw(st.sampled_from(spots(obj)))
        holder: Any = obj
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = data.draw(JSON)
        snapshot = compiler.update([Change(kind, key, obj)], trust_roots=world.roots)
        for uid in snapshot.pods_by_uid:
            compiler.compile(uid)
        assess(snapshot, world.settings)


def test_an_object_that_says_it_is_another_is_left_out_and_told() -> None:
    world = mesh()
    compiler = IncrementalCompiler(world.settings)
    compiler.begin(world.objects(), trust_roots=world.roots)
    pod = copy.deepcopy(world.objects()["Pod"][0])
    key = Key(pod["metadata"]["namespace"], pod["metadata"]["name"])
    pod["metadata"]["namespace"] = "elsewhere"
    snapshot = compiler.update([Change("Pod", key, pod)], trust_roots=world.roots)
    (problem,) = snapshot.problems
    assert (problem.kind, Key(problem.namespace, problem.name)) == ("Pod", key)
    assert problem.message == f"is that of elsewhere/{key.name}"
    assert key not in snapshot.pods


def test_a_namespace_that_is_no_name_is_a_fault_of_the_object_alone() -> None:
    spec = {"service": "a", "backends": [{"service": "b", "weight": 1}]}
    obj = bad("TrafficSplit", spec=spec)
    obj["metadata"]["namespace"] = "0 /"
    assert [v.path for v in validate(obj)] == ["metadata.namespace"]


def test_a_fault_of_ours_about_one_object_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fsm.compile import build

    def broken(obj: Any) -> Any:
        raise KeyError("a fault of ours")

    world = mesh()
    monkeypatch.setitem(build._READERS, "EndpointSlice", broken)  # type: ignore[arg-type]
    snapshot, problems = build_snapshot(world.objects(), world.settings)
    assert {p.kind for p in problems} == {"EndpointSlice"}
    assert all("a fault of ours" in p.message for p in problems)
    assert snapshot.targets
