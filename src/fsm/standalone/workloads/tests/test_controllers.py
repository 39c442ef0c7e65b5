"""The common loop, and the pure parts of the controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from fsm.kube import Unavailable
from fsm.standalone.workloads.cluster import matches
from fsm.standalone.workloads.controller import Controller, Key, Retry
from fsm.standalone.workloads.deployments import template_hash
from fsm.standalone.workloads.endpoints import endpoints_of, slices_of
from fsm.standalone.workloads.jobs import backoff_s
from fsm.standalone.workloads.pods import available_in_s
from fsm.standalone.workloads.replicasets import usefulness

A: Key = ("ns", "a")
B: Key = ("ns", "b")


class Recorder(Controller):
    """Counts looks; raises what it is told to, once each."""

    def __init__(self, *raises: Exception) -> None:
        super().__init__()
        self.looks: list[Key] = []
        self.active: set[Key] = set()
        self.release = asyncio.Event()
        self.release.set()
        self._raises = list(raises)

    def keys(self) -> Iterable[Key]:
        return [A]

    async def reconcile(self, key: Key) -> None:
        assert key not in self.active, "two looks at one object at once"
        self.active.add(key)
        self.looks.append(key)
        try:
            await self.release.wait()
            if self._raises:
                raise self._raises.pop(0)
        finally:
            self.active.discard(key)


async def _until(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 (the loop under test has no event to wait for)
            await asyncio.sleep(0.005)


async def _running(made: Recorder) -> asyncio.Task[None]:
    task = asyncio.create_task(made.run())
    await _until(lambda: made.looks)
    return task


async def test_changes_during_a_look_are_looked_at_once_more() -> None:
    made = Recorder()
    made.release.clear()
    task = await _running(made)
    for _ in range(5):
        made.look(A)
    made.look(B)
    await _until(lambda: B in made.looks)
    assert made.looks.count(A) == 1
    made.release.set()
    await _until(lambda: made.looks.count(A) == 2 and not made.active)
    task.cancel()
    await asyncio.wait([task])
    assert made.looks.count(A) == 2


@pytest.mark.parametrize(
    "error", [Retry(0.0), Unavailable(0, "x", "down"), RuntimeError("a bug")], ids=repr
)
async def test_look_that_fails_is_repeated_and_others_go_on(error: Exception) -> None:
    made = Recorder(error)
    task = await _running(made)
    made.look(B)
    await _until(lambda: made.looks.count(A) >= 2 and B in made.looks)
    task.cancel()
    await asyncio.wait([task])
    made.close()


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, False),
        ({}, False),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zz", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Nonsense"}]}, False),
    ],
)
def test_selector_selects(selector: dict[str, Any] | None, expected: bool) -> None:
    assert matches(selector, {"app": "web"}) is expected


def test_template_hash_depends_on_content_and_not_on_order() -> None:
    one = {"spec": {"template": {"a": 1, "b": {"c": 2, "d": 3}}}}
    same = {"spec": {"template": {"b": {"d": 3, "c": 2}, "a": 1}}}
    other = {"spec": {"template": {"a": 1, "b": {"c": 2, "d": 4}}}}
    assert template_hash(one) == template_hash(same) != template_hash(other)


def test_least_useful_pod_goes_first() -> None:
    def pod(name: str, created: str, phase: str, ready: str, node: str = "fsm") -> dict[str, Any]:
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
        meta = {"name": name, "creationTimestamp": created}
        return {"metadata": meta, "spec": {"nodeName": node}, "status": status}

    pods = [
        pod("old", "2026-01-01T00:00:00Z", "Running", "True"),
        pod("young", "2026-01-02T00:00:00Z", "Running", "True"),
        pod("unready", "2026-01-01T00:00:00Z", "Running", "False"),
        pod("pending", "2026-01-01T00:00:00Z", "Pending", "False"),
        pod("nowhere", "2026-01-01T00:00:00Z", "Pending", "False", ""),
    ]
    ranked = [p["metadata"]["name"] for p in sorted(pods, key=usefulness)]
    assert ranked == ["nowhere", "pending", "unready", "young", "old"]


def test_job_backoff_doubles_from_the_last_end() -> None:
    assert [backoff_s(n, 100.0, 100.0) for n in (1, 2, 3, 20)] == [10, 20, 40, 360]
    assert backoff_s(1, 100.0, 115.0) == -5


def test_availability_counts_the_time_since_ready() -> None:
    since = {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}
    pod = {"metadata": {}, "status": {"conditions": [since]}}
    assert available_in_s(pod, 30, 110.0) == 20
    assert available_in_s(pod, 30, 131.0) == 0
    assert available_in_s({"metadata": {}}, 30, 131.0) is None


def _pod(name: str, ip: str, port: int, ready: str = "True", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, **meta},
        "spec": {"containers": [{"ports": [{"name": "web", "containerPort": port}]}]},
        "status": {
            "podIP": ip,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


SERVICE: dict[str, Any] = {
    "metadata": {"name": "s", "namespace": "shop", "uid": "u"},
    "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "p", "port": 80, "targetPort": "web"}]},
}


def test_named_ports_that_differ_make_a_slice_each() -> None:
    pods = [_pod("b", "10.0.0.2", 81), _pod("a", "10.0.0.1", 80), _pod("c", "10.0.0.3", 80)]
    made = {s["ports"][0]["port"]: s for s in slices_of(SERVICE, pods)}
    assert [e["addresses"][0] for e in made[80]["endpoints"]] == ["10.0.0.1", "10.0.0.3"]
    assert [e["addresses"][0] for e in made[81]["endpoints"]] == ["10.0.0.2"]
    assert slices_of(SERVICE, pods[::-1]) == slices_of(SERVICE, pods)


def test_pod_that_is_going_is_listed_as_terminating_and_not_ready() -> None:
    going = _pod("a", "10.0.0.1", 80, deletionTimestamp="2026-01-01T00:00:00Z")
    (made,) = slices_of(SERVICE, [going])
    assert made["endpoints"][0]["conditions"] == {
        "ready": False,
        "serving": True,
        "terminating": True,
    }
    assert endpoints_of(SERVICE, [going])["subsets"] == []


def test_service_without_pods_has_one_empty_slice() -> None:
    (made,) = slices_of(SERVICE, [_pod("a", "", 80)])
    assert made["endpoints"] == []
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "s"


def test_unready_pod_is_listed_as_not_ready_unless_the_service_wants_it() -> None:
    pod = _pod("a", "10.0.0.1", 80, "False")
    assert slices_of(SERVICE, [pod])[0]["endpoints"][0]["conditions"]["ready"] is False
    assert "notReadyAddresses" in endpoints_of(SERVICE, [pod])["subsets"][0]
    eager = {**SERVICE, "spec": {**SERVICE["spec"], "publishNotReadyAddresses": True}}
    assert slices_of(eager, [pod])[0]["endpoints"][0]["conditions"]["ready"] is True
