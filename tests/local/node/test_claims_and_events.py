"""Persistent volume claims keep what was written; events tell what became of a Pod."""

from __future__ import annotations

import json
from typing import Any

import pytest
from box_world import Box, apply, pod, until

from fsm.standalone.node.events import between

box_test = pytest.mark.box


def store(name: str, script: str) -> dict[str, Any]:
    made = pod(name, script)
    container = made["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "250M"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


@box_test
async def test_each_pod_of_a_statefulset_finds_its_own_data_again(box: Box, namespace: str) -> None:
    apply(box, namespace, store("db", "hostname >> /data/log; exec sleep 100000"))
    box.kubectl("rollout", "status", "-n", namespace, "statefulset/db", "--timeout=60s")
    claims = json.loads(box.kubectl("get", "pvc", "-n", namespace, "-o", "json"))["items"]
    assert {c["metadata"]["name"]: c["status"]["phase"] for c in claims} == {
        "data-db-0": "Bound",
        "data-db-1": "Bound",
    }
    box.kubectl("delete", "-n", namespace, "pod", "db-1", "--now")

    async def twice() -> bool:
        said = await box.run(namespace, "db-1", "cat /data/log")
        return bool(said["stdout"] == "db-1\ndb-1\n")

    await until(twice, "the second db-1 sees what the first one wrote")
    assert (await box.run(namespace, "db-0", "cat /data/log"))["stdout"] == "db-0\n"


@box_test
async def test_a_claim_that_is_missing_is_told_and_waited_for(box: Box, namespace: str) -> None:
    made = pod("p", terminationGracePeriodSeconds=0)
    made["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "later"}}]
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    apply(box, namespace, made)

    async def told() -> bool:
        said = box.kubectl("describe", "pod", "p", "-n", namespace)
        return "FailedMount" in said and 'persistentvolumeclaim "later" not found' in said

    await until(told, "describe says which claim is missing")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1M"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "later"}}
    apply(box, namespace, claim | {"spec": spec})
    box.kubectl("wait", "-n", namespace, "pod/p", "--for=condition=Ready", "--timeout=60s")


@box_test
async def test_events_tell_of_start_trouble_and_end(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("good", terminationGracePeriodSeconds=0))
    apply(box, namespace, pod("bad", container={"image": "nobody/knows-this"}))
    box.kubectl("wait", "-n", namespace, "pod/good", "--for=condition=Ready", "--timeout=30s")
    box.kubectl("delete", "-n", namespace, "pod", "good", "--now")

    async def complete() -> bool:
        events = json.loads(box.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
        seen = {(e["involvedObject"]["name"], e["reason"]) for e in events}
        return {
            ("good", "Scheduled"),
            ("good", "Started"),
            ("good", "Killing"),
            ("bad", "Failed"),
        } <= seen

    await until(complete, "all events are there")
    said = box.kubectl("describe", "pod", "bad", "-n", namespace)
    assert "no command is known for image" in said.partition("Events:")[2]
    assert "LAST SEEN" in box.kubectl("get", "events", "-n", namespace)


def _status(state: dict[str, Any], *, ready: bool = False) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "ready": ready, "state": state}]}


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ({}, _status(RUNNING), ["Started"]),
        (_status(RUNNING), _status(RUNNING), []),
        (_status(RUNNING, ready=True), _status(RUNNING), ["Unhealthy"]),
        (
            _status(RUNNING),
            _status({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}),
            ["BackOff"],
        ),
        (_status(RUNNING), _status({"terminated": {"exitCode": 0}}), []),
        ({}, _status({"waiting": {"reason": "ContainerCreating"}}), []),
        ({}, {"reason": "FailedMount", "message": "x"}, ["FailedMount"]),
        ({"reason": "FailedMount", "message": "x"}, {"reason": "FailedMount", "message": "x"}, []),
    ],
)
def test_happenings_between_two_statuses(
    before: dict[str, Any], after: dict[str, Any], reasons: list[str]
) -> None:
    assert [happening.reason for happening in between(before, after)] == reasons
