"""Containers in Pods: order, restarts, probes, what they see, how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from box_world import IDLE, Box, apply, pod, service, until, web

from fsm.kube import NotFound
from fsm.kube.resources import PODS, SECRETS

pytestmark = pytest.mark.box


async def _status(box: Box, namespace: str, name: str) -> dict[str, Any]:
    async with box.client() as client:
        found: dict[str, Any] = (await client.get(PODS, name, namespace))["status"]
        return found


async def _container(box: Box, namespace: str, name: str, index: int = 0) -> dict[str, Any]:
    status: dict[str, Any] = (await _status(box, namespace, name))["containerStatuses"][index]
    return status


async def _phase(box: Box, namespace: str, name: str, phase: str) -> dict[str, Any]:
    async def check() -> dict[str, Any] | None:
        status = await _status(box, namespace, name)
        return status if status.get("phase") == phase else None

    found: dict[str, Any] = await until(check, f"Pod {name} is {phase}")
    return found


async def _log(box: Box, namespace: str, name: str, container: str = "main") -> str:
    return (await box.node("GET", f"/logs/{namespace}/{name}/{container}")).decode()


async def test_init_containers_run_one_by_one_before_the_application(
    box: Box, namespace: str
) -> None:
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    inits = [
        {
            "name": f"init{n}",
            "image": "alpine",
            "command": ["sh", "-c", f"test $(ls /shared | wc -l) = {n} && touch /shared/{n}"],
            **mount,
        }
        for n in range(3)
    ]
    made = pod(
        "ordered",
        "ls /shared",
        container=mount,
        initContainers=inits,
        volumes=[{"name": "shared", "emptyDir": {}}],
        restartPolicy="Never",
    )
    apply(box, namespace, made)
    status = await _phase(box, namespace, "ordered", "Succeeded")
    assert await _log(box, namespace, "ordered") == "0\n1\n2\n"
    ends = [s["state"]["terminated"]["exitCode"] for s in status["initContainerStatuses"]]
    assert ends == [0, 0, 0]


async def test_failed_init_container_fails_a_pod_that_never_restarts(
    box: Box, namespace: str
) -> None:
    init = {"name": "no", "image": "alpine", "command": ["sh", "-c", "exit 9"]}
    apply(box, namespace, pod("p", initContainers=[init], restartPolicy="Never"))
    status = await _phase(box, namespace, "p", "Failed")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 9
    assert "running" not in status["containerStatuses"][0]["state"]


async def test_native_sidecar_starts_before_and_ends_after_the_application(
    box: Box, namespace: str
) -> None:
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    sidecar = {
        "name": "sidecar",
        "image": "alpine",
        "restartPolicy": "Always",
        "command": [
            "sh",
            "-c",
            "trap 'ls /shared; exit 0' TERM; sleep 0.3; touch /shared/sidecar-up;"
            " while :; do sleep 0.05; done",
        ],
        "startupProbe": {
            "exec": {"command": ["test", "-e", "/shared/sidecar-up"]},
            "periodSeconds": 1,
        },
        **mount,
    }
    made = pod(
        "job",
        "test -e /shared/sidecar-up && touch /shared/app-ran",
        container=mount,
        initContainers=[sidecar],
        volumes=[{"name": "shared", "emptyDir": {}}],
        restartPolicy="Never",
    )
    apply(box, namespace, made)
    status = await _phase(box, namespace, "job", "Succeeded")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0

    async def ended() -> bool:
        text = await _log(box, namespace, "job", "sidecar")
        return text == "app-ran\nsidecar-up\n"

    await until(ended, "the sidecar ended last and saw what the application left")


async def test_crashing_container_backs_off_and_says_so(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("crash", "echo trying; exit 3"))

    async def looping() -> dict[str, Any] | None:
        status = await _container(box, namespace, "crash")
        waiting = status["state"].get("waiting") or {}
        return status if waiting.get("reason") == "CrashLoopBackOff" else None

    status = await until(looping, "CrashLoopBackOff")
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert await _log(box, namespace, "crash") == "trying\n"
    assert "CrashLoopBackOff" in box.kubectl("get", "pods", "-n", namespace)


async def test_unknown_image_names_the_file_to_extend_and_works_once_it_is_there(
    box: Box, namespace: str
) -> None:
    made = pod("strange", container={"image": "registry.example:5000/shop/strange:1"})
    del made["spec"]["containers"][0]["command"]
    apply(box, namespace, made)

    async def refused() -> str | None:
        waiting = (await _container(box, namespace, "strange"))["state"].get("waiting") or {}
        good = waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff")
        return waiting.get("message") if good else None

    message = await until(refused, "ErrImagePull")
    path = box.settings.state_dir / "images.yaml"
    assert str(path) in message
    assert "registry.example:5000/shop/strange:1" in message
    path.write_text(json.dumps({"shop/strange": {"entrypoint": ["sh", "-c", IDLE]}}))
    try:
        await _phase(box, namespace, "strange", "Running")
    finally:
        path.unlink()


async def test_command_that_does_not_exist_is_an_error_in_words(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("p", container={"command": ["no-such-program"]}))

    async def told() -> bool:
        waiting = (await _container(box, namespace, "p"))["state"].get("waiting") or {}
        return waiting.get("reason") == "RunContainerError" and "no-such-program" in waiting.get(
            "message", ""
        )

    await until(told, "RunContainerError")


async def test_liveness_failure_restarts_the_container(box: Box, namespace: str) -> None:
    probe = {
        "exec": {"command": ["sh", "-c", "test ! -e /tmp/sick"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    apply(box, namespace, pod("sick", container={"livenessProbe": probe}))
    await _phase(box, namespace, "sick", "Running")
    await box.run(namespace, "sick", "touch /tmp/sick")

    async def restarted() -> bool:
        status = await _container(box, namespace, "sick")
        return status["restartCount"] == 1 and "running" in status["state"]

    await until(restarted, "one restart")
    # A restarted container begins with a fresh root.
    assert (await box.run(namespace, "sick", "test ! -e /tmp/sick"))["exitCode"] == 0


async def test_readiness_takes_the_pod_out_of_its_service(box: Box, namespace: str) -> None:
    probe = {
        "exec": {"command": ["sh", "-c", "test ! -e /tmp/busy"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    made = web("r", "r", container={"readinessProbe": probe})
    apply(box, namespace, made, service("r", {"app": "r"}))

    async def listed(wanted: str) -> bool:
        text = box.kubectl(
            "get",
            *("endpoints", "r", "-n", namespace),
            *("-o", "jsonpath={.subsets[*].addresses[*].targetRef.name}"),
        )
        return text == wanted

    await until(lambda: listed("r"), "ready at first")
    await box.run(namespace, "r", "touch /tmp/busy")
    await until(lambda: listed(""), "taken out")
    await box.run(namespace, "r", "rm /tmp/busy")
    await until(lambda: listed("r"), "back again")


async def test_container_sees_config_secrets_fields_and_its_token(box: Box, namespace: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"COLOR": "blue", "file.txt": "from the map"},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hidden"},
        "stringData": {"password": "swordfish"},
    }
    token = {"serviceAccountToken": {"audience": "someone", "path": "t", "expirationSeconds": 600}}
    container = {
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "env": [
            {
                "name": "PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}},
            },
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "BOTH", "value": "$(COLOR)-$(LABEL)-$(UNKNOWN)-$$(COLOR)"},
        ],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/settings"},
            {"name": "mixed", "mountPath": "/var/lib/mixed/deep"},
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": "settings"}},
        {
            "name": "mixed",
            "projected": {"sources": [token, {"secret": {"name": "hidden"}}]},
        },
    ]
    apply(box, namespace, config, secret, pod("p", container=container, volumes=volumes))
    status = await _phase(box, namespace, "p", "Running")
    script = (
        'echo "$COLOR $PASSWORD $IP $LABEL $BOTH"; cat /etc/settings/file.txt; echo;'
        " cat /var/lib/mixed/deep/password; echo; hostname;"
        " cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo;"
        " grep -c . /var/run/secrets/kubernetes.io/serviceaccount/ca.crt > /dev/null && echo ca;"
        " touch /etc/settings/x 2>/dev/null || echo read-only; cat /var/lib/mixed/deep/t"
    )
    lines = (await box.run(namespace, "p", script))["stdout"].splitlines()
    assert lines[0] == f"blue swordfish {status['podIP']} p blue-p-$(UNKNOWN)-$(COLOR)"
    assert lines[1:7] == ["from the map", "swordfish", "p", namespace, "ca", "read-only"]
    async with box.client() as client:
        who = await client.review_token(lines[7], ["someone"])
    assert (who.namespace, who.service_account, who.pod_name) == (namespace, "default", "p")


async def test_pod_calls_the_api_with_its_own_token(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("p"))
    await _phase(box, namespace, "p", "Running")
    directory = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = (
        f'curl -sS --cacert {directory}/ca.crt -H "Authorization: Bearer $(cat {directory}/token)"'
        " https://kubernetes.default.svc/api/v1/namespaces/default/secrets"
    )

    async def answered() -> dict[str, Any]:
        return dict(json.loads((await box.run(namespace, "p", script))["stdout"]))

    answer = await until(answered, "the API answers")
    assert answer["code"] == 403
    assert f"system:serviceaccount:{namespace}:default" in answer["message"]


async def test_missing_secret_holds_the_container_until_it_appears(
    box: Box, namespace: str
) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "later", "key": "k"}}}]
    apply(box, namespace, pod("p", container={"env": env}))

    async def told() -> bool:
        waiting = (await _container(box, namespace, "p"))["state"].get("waiting") or {}
        return waiting.get("reason") == "CreateContainerConfigError" and "later" in str(waiting)

    await until(told, "CreateContainerConfigError")
    async with box.client() as client:
        await client.create(
            SECRETS, {"metadata": {"name": "later"}, "data": {"k": "dg=="}}, namespace
        )
    await _phase(box, namespace, "p", "Running")
    assert (await box.run(namespace, "p", 'test "$X" = v'))["exitCode"] == 0


async def test_what_a_container_writes_never_reaches_the_host(
    box: Box, namespace: str, tmp_path: Any
) -> None:
    (tmp_path / "kept").write_text("as it was")
    apply(box, namespace, pod("p"))
    await _phase(box, namespace, "p", "Running")
    script = f"echo changed > {tmp_path}/kept; rm -f {tmp_path}/other; cat {tmp_path}/kept"
    outcome = await box.run(namespace, "p", script)
    assert outcome["stdout"] == "changed\n", outcome
    assert (tmp_path / "kept").read_text() == "as it was"


async def test_state_of_the_box_is_hidden_from_containers(box: Box, namespace: str) -> None:
    apply(box, namespace, pod("p"))
    await _phase(box, namespace, "p", "Running")
    state = box.settings.state_dir
    assert (state / "kubeconfig").exists()
    script = f"ls -A {state} && ! touch {state}/x 2>/dev/null && ! cat {state}/kubeconfig 2>&1"
    outcome = await box.run(namespace, "p", script)
    assert outcome["stdout"] == f"cat: {state}/kubeconfig: No such file or directory\n", outcome


async def test_deleted_pod_gets_sigterm_and_leaves_nothing(box: Box, namespace: str) -> None:
    mount = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
    out = box.settings.state_dir / "out"
    out.mkdir(exist_ok=True)
    script = "trap 'echo bye > /out/said; exit 0' TERM; while :; do sleep 0.05; done"
    volumes = [{"name": "out", "hostPath": {"path": str(out)}}]
    apply(box, namespace, pod("p", script, container=mount, volumes=volumes))
    await _phase(box, namespace, "p", "Running")
    mine = next(p for p in await box.pods() if p["namespace"] == namespace)
    assert mine["link"] in box.inside("ip", "link")
    assert mine["ip"] in box.inside("ip", "route")
    box.kubectl("delete", "pod", "p", "-n", namespace)
    assert (out / "said").read_text() == "bye\n"
    async with box.client() as client:
        with pytest.raises(NotFound):
            await client.get(PODS, "p", namespace)
    assert mine["link"] not in box.inside("ip", "link")
    assert mine["ip"] not in box.inside("ip", "route")
    assert mine["netns"].rpartition("/")[2] not in box.inside("ip", "netns")
    assert str(mine["processes"]["main"]) not in box.inside("ps", "-eo", "pid=").split()
    assert not (box.settings.state_dir / "pods" / mine["uid"]).exists()


async def test_stubborn_container_is_killed_after_its_grace_period(
    box: Box, namespace: str
) -> None:
    script = "trap '' TERM; while :; do sleep 0.05; done"
    apply(box, namespace, pod("p", script, terminationGracePeriodSeconds=1))
    await _phase(box, namespace, "p", "Running")
    box.kubectl("delete", "pod", "p", "-n", namespace, "--timeout=20s")
    assert not [p for p in await box.pods() if p["namespace"] == namespace]


async def test_rejected_volume_is_told_and_the_pod_waits(box: Box, namespace: str) -> None:
    volumes = [{"name": "v", "nfs": {"server": "nowhere", "path": "/"}}]
    apply(box, namespace, pod("p", volumes=volumes))

    async def told() -> bool:
        status = await _status(box, namespace, "p")
        return "kind nfs is not supported here" in status.get("message", "")

    await until(told, "the message names the kind of the volume")
    box.kubectl("delete", "pod", "p", "-n", namespace, "--timeout=20s")
