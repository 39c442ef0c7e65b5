"""Deployments, StatefulSets, Jobs, namespaces and owners, with the real kubectl."""

from __future__ import annotations

import json
from typing import Any

import pytest
from box_world import Box, apply, pod, service, until, web

from fsm.kube import NotFound
from fsm.kube.resources import CONFIGMAPS, NAMESPACES, PODS

pytestmark = pytest.mark.box


def _template(labels: dict[str, str], made: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": made["spec"]}


def _deployment(name: str, text: str, replicas: int = 2, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": _template(labels, web(name, text)),
            **spec,
        },
    }


def _names(box: Box, namespace: str, *selector: str) -> set[str]:
    out = box.kubectl("get", "pods", "-n", namespace, *selector, "-o", "name")
    return set(out.split())


async def test_rolling_update_never_drops_a_request(box: Box, namespace: str) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    before = _deployment("web", "v1", strategy=rolling)
    container = before["spec"]["template"]["spec"]["containers"][0]
    # As everyone has to: new connections stop coming only after the endpoints were withdrawn.
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "0.5"]}}}
    calls = (
        "until curl -sSf -m 2 http://web/ > /dev/null 2>&1; do sleep 0.1; done; echo begun;"
        " while [ ! -e /tmp/stop ]; do curl -sS -m 2 http://web/ 2>&1 && echo; done; echo over"
    )
    client = pod("client", calls, restartPolicy="Never")
    apply(box, namespace, before, service("web", {"app": "web"}), client)

    async def seen(word: str) -> bool:
        return word in (await box.node("GET", f"/logs/{namespace}/client/main")).decode()

    await until(lambda: seen("v1"), "the first version answers")
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    after = json.loads(json.dumps(before).replace('"v1"', '"v2"'))
    apply(box, namespace, after)
    told = box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=60s")
    assert "successfully rolled out" in told

    async def only_new() -> bool:
        return len(_names(box, namespace, "-l", "app=web")) == 2

    await until(only_new, "the old Pods are gone")
    await box.run(namespace, "client", "touch /tmp/stop")
    await until(lambda: seen("over"), "the client stopped")
    text = (await box.node("GET", f"/logs/{namespace}/client/main")).decode()
    assert set(text.split("\n")) == {"begun", "v1", "v2", "over", ""}, text


async def test_rollback_restores_the_template_and_counts_revisions(
    box: Box, namespace: str
) -> None:
    apply(box, namespace, _deployment("web", "v1", replicas=1))
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    apply(box, namespace, _deployment("web", "v2", replicas=1))
    cause = "kubernetes.io/change-cause=the second"
    box.kubectl("annotate", "deploy/web", "-n", namespace, cause)
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")

    async def told() -> bool:
        return "the second" in box.kubectl("rollout", "history", "deploy/web", "-n", namespace)

    await until(told, "the history tells why")
    box.kubectl("rollout", "undo", "deploy/web", "-n", namespace)
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    history = box.kubectl("rollout", "history", "deploy/web", "-n", namespace)
    lines = [line.split(maxsplit=1) for line in history.splitlines()[2:] if line.strip()]
    assert lines[0] == ["2", "the second"]
    assert [number for number, _ in lines] == ["2", "3"]
    assert box.kubectl("get", "rs", "-n", namespace, "--no-headers").count("\n") == 2


async def test_scaling_follows_the_wanted_number(box: Box, namespace: str) -> None:
    apply(box, namespace, _deployment("web", "x", replicas=1))

    async def count(wanted: int) -> bool:
        ready = box.kubectl(
            *("get", "deploy/web", "-n", namespace),
            *("-o", "jsonpath={.status.replicas},{.status.readyReplicas}"),
        )
        return ready == (f"{wanted},{wanted}" if wanted else "0,0") or ready == f"{wanted},"

    await until(lambda: count(1), "one")
    box.kubectl("scale", "deploy/web", "-n", namespace, "--replicas=4")
    await until(lambda: count(4), "four")
    box.kubectl("scale", "deploy/web", "-n", namespace, "--replicas=0")
    await until(lambda: count(0), "none")


async def test_deleted_pod_of_a_deployment_is_replaced(box: Box, namespace: str) -> None:
    apply(box, namespace, _deployment("web", "x", replicas=1))
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    (first,) = _names(box, namespace)
    box.kubectl("delete", first, "-n", namespace)

    async def other() -> bool:
        names = _names(box, namespace)
        return len(names) == 1 and first not in names

    await until(other, "another Pod took its place")


async def test_deleting_a_deployment_takes_its_replicasets_and_pods(
    box: Box, namespace: str
) -> None:
    apply(box, namespace, _deployment("web", "x"))
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    box.kubectl("delete", "deploy/web", "-n", namespace)

    async def nothing() -> bool:
        left = box.kubectl("get", "rs,pods", "-n", namespace, "-o", "name")
        return not left.strip()

    await until(nothing, "ReplicaSet and Pods are collected")


async def test_orphans_stay_when_asked_to(box: Box, namespace: str) -> None:
    apply(box, namespace, _deployment("web", "x", replicas=1))
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    box.kubectl("delete", "deploy/web", "-n", namespace, "--cascade=orphan")
    (name,) = _names(box, namespace)
    # Another owner is collected meanwhile: when that is done, ours was looked at as well.
    apply(box, namespace, _deployment("other", "x", replicas=0))
    async with box.client() as client:
        owner = json.loads(box.kubectl("get", "deploy/other", "-n", namespace, "-o", "json"))
        reference = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "other",
            "uid": owner["metadata"]["uid"],
        }
        owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
        await client.create(CONFIGMAPS, owned, namespace)
        box.kubectl("delete", "deploy/other", "-n", namespace)

        async def collected() -> bool:
            try:
                await client.get(CONFIGMAPS, "owned", namespace)
            except NotFound:
                return True
            return False

        await until(collected, "what the other owned is collected")
    assert _names(box, namespace) == {name}
    assert box.kubectl("get", "rs", "-n", namespace, "-o", "name").strip()


async def test_deleted_namespace_takes_everything_in_it(box: Box, namespace: str) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    apply(box, namespace, _deployment("web", "x"), service("web", {"app": "web"}), config)
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=30s")
    box.kubectl("delete", "namespace", namespace, "--timeout=30s")
    async with box.client() as client:
        with pytest.raises(NotFound):
            await client.get(NAMESPACES, namespace)
        assert not (await client.list(PODS, namespace)).items
    assert not [p for p in await box.pods() if p["namespace"] == namespace]


async def test_a_statefulset_goes_back_to_the_template_before(box: Box, namespace: str) -> None:
    labels = {"app": "db"}
    where = ("-n", namespace)

    def rolled_out(said: str) -> str:
        made = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "db", "annotations": {"kubernetes.io/change-cause": said}},
            "spec": {
                "replicas": 1,
                "serviceName": "db",
                "selector": {"matchLabels": labels},
                "template": _template(labels, web("db", said)),
            },
        }
        apply(box, namespace, made)
        box.kubectl("rollout", "status", "sts/db", *where, "--timeout=60s")
        return box.kubectl("get", "sts", "db", *where, "-o", "jsonpath={.spec.template}")

    first = rolled_out("one")
    assert rolled_out("two") != first
    history = box.kubectl("rollout", "history", "sts/db", *where)
    assert [line.split() for line in history.split("\n")[2:4]] == [["1", "one"], ["2", "two"]]
    box.kubectl("rollout", "undo", "sts/db", *where)
    box.kubectl("rollout", "status", "sts/db", *where, "--timeout=60s")
    assert box.kubectl("get", "sts", "db", *where, "-o", "jsonpath={.spec.template}") == first

    async def numbered() -> bool:
        path = "jsonpath={.items[*].revision}"
        told = box.kubectl("get", "controllerrevisions", *where, "-o", path)
        return sorted(told.split()) == ["2", "3"]

    await until(numbered, "the template of before has the highest number")


async def test_statefulset_gives_names_that_stay_in_order(box: Box, namespace: str) -> None:
    labels = {"app": "db"}
    made = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": 2,
            "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": _template(labels, web("db", "row")),
        },
    }
    apply(box, namespace, service("db", labels, clusterIP="None"), made, pod("client"))
    box.kubectl("rollout", "status", "sts/db", "-n", namespace, "--timeout=30s")
    assert _names(box, namespace, "-l", "app=db") == {"pod/db-0", "pod/db-1"}

    async def named() -> bool:
        outcome = await box.run(namespace, "client", "curl -sSf http://db-1.db:8080/")
        return bool(outcome["stdout"] == "row")

    await until(named, "db-1.db answers")
    box.kubectl("delete", "pod/db-0", "-n", namespace)

    async def back() -> bool:
        return _names(box, namespace, "-l", "app=db") == {"pod/db-0", "pod/db-1"}

    await until(back, "db-0 is back under its name")
    box.kubectl("scale", "sts/db", "-n", namespace, "--replicas=1")

    async def one() -> bool:
        return _names(box, namespace, "-l", "app=db") == {"pod/db-0"}

    await until(one, "the highest ordinal went")


def _job(name: str, script: str, **spec: Any) -> dict[str, Any]:
    template = {"spec": pod(name, script, restartPolicy="Never")["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


async def test_job_completes_although_a_native_sidecar_would_run_on(
    box: Box, namespace: str
) -> None:
    job = _job("once", "echo done", completions=2, parallelism=2)
    sidecar = {
        "name": "proxy",
        "image": "alpine",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"],
    }
    job["spec"]["template"]["spec"]["initContainers"] = [sidecar]
    apply(box, namespace, job)
    box.kubectl("wait", "job/once", "-n", namespace, "--for=condition=complete", "--timeout=30s")
    assert box.kubectl("logs", "job/once", "-n", namespace, "-c", "main") == "done\n"


async def test_job_that_keeps_failing_is_given_up(box: Box, namespace: str) -> None:
    apply(box, namespace, _job("never", "exit 1", backoffLimit=0))
    box.kubectl("wait", "job/never", "-n", namespace, "--for=condition=failed", "--timeout=30s")
    reason = box.kubectl(
        *("get", "job/never", "-n", namespace, "-o", "jsonpath={.status.conditions[0].reason}")
    )
    assert reason == "BackoffLimitExceeded"


async def test_refused_pods_show_in_the_deployment(box: Box, namespace: str) -> None:
    made = _deployment("web", "x", replicas=1)
    made["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    apply(box, namespace, made)

    async def told() -> bool:
        text = box.kubectl("get", "deploy/web", "-n", namespace, "-o", "json")
        conditions = json.loads(text)["status"].get("conditions") or []
        failures = [c for c in conditions if c["type"] == "ReplicaFailure"]
        return bool(failures) and "nobody" in failures[0]["message"]

    await until(told, "ReplicaFailure")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    apply(box, namespace, account)
    box.kubectl("rollout", "status", "deploy/web", "-n", namespace, "--timeout=60s")


async def test_a_cordoned_node_takes_nobody_until_it_is_uncordoned(
    box: Box, namespace: str
) -> None:
    box.kubectl("cordon", box.settings.node_name)
    try:
        apply(box, namespace, pod("late", terminationGracePeriodSeconds=0))

        async def told() -> bool:
            text = box.kubectl("describe", "-n", namespace, "pod/late")
            return "FailedScheduling" in text and "node(s) were unschedulable" in text

        await until(told, "it is told why the Pod waits")
        row = box.kubectl("get", "-n", namespace, "pod/late", "--no-headers")
        assert row.split()[:3] == ["late", "0/1", "Pending"]
    finally:
        box.kubectl("uncordon", box.settings.node_name)
    box.kubectl("wait", "-n", namespace, "pod/late", "--for=condition=Ready", "--timeout=30s")


def test_the_node_says_what_it_has(box: Box) -> None:
    text = box.kubectl("describe", "node", box.settings.node_name)
    assert "-9223372036854775808" not in text
