"""Workloads of every shape in the mesh, on a real box: Jobs that end, Pods with several Services,
StatefulSets by their names, aliases, and what a Pod may say about its own sidecar.

Permissive mode is on: what is looked at is whether traffic finds its way, not who may.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from meshworld import actors
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

PLANT = "plant"
TWO_PORTS = r"""
import http.server, os, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.environ['HOSTNAME']} {self.server.server_port}".encode())
for port in (8080, 8081):
    server = http.server.ThreadingHTTPServer(("", port), H)
    threading.Thread(target=server.serve_forever).start()
"""


@pytest.fixture(scope="module")
def plant(mesh: Shell) -> Shell:
    traffic(mesh, enablePermissiveTrafficPolicyMode=True)
    mesh.apply(namespace(PLANT))
    mesh.fsm("namespace", "add", PLANT)
    mesh.apply(*actors.client("asker", PLANT))
    return mesh


@pytest.fixture(scope="module")
def asker(plant: Shell) -> str:
    return plant.ready(PLANT, "asker")


def ask(shell: Shell, pod: str, url: str, *options: str) -> str:
    """What a Pod hears at a URL; empty when it hears nothing."""
    outcome = shell.exec(PLANT, pod, "curl", "-sf", "-m", "5", *options, url)
    return str(outcome["stdout"]) if outcome["exitCode"] == 0 else ""


def hears(shell: Shell, pod: str, url: str, words: str) -> None:
    until(lambda: words in ask(shell, pod, url), f"{url} answers {words!r}", 30)


def machine(**more: Any) -> dict[str, Any]:
    return {
        "image": "python",
        "command": [sys.executable, "-c", TWO_PORTS],
        "ports": [{"containerPort": 8080, "name": "main"}, {"containerPort": 8081, "name": "side"}],
        "readinessProbe": {
            "exec": {"command": ["curl", "-fs", "http://127.0.0.1:8081/"]},
            "periodSeconds": 1,
        },
        **more,
    }


def test_a_job_ends_beside_its_sidecar_and_has_called_the_mesh(plant: Shell, asker: str) -> None:
    plant.apply(*actors.server("shop", PLANT))
    plant.ready(PLANT, "shop")
    hears(plant, asker, "http://shop/first", "/first")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "stocktaking", "namespace": PLANT},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app": "stocktaking"}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "main",
                            "image": "alpine",
                            # At once: it is held until its sidecar can carry this.
                            "command": ["curl", "-sf", "-m", "5", "http://shop/stock"],
                        }
                    ],
                },
            },
        },
    }
    plant.apply(job)
    waits = ("--for=condition=complete", "job/stocktaking", "-n", PLANT, "--timeout=40s")
    plant.kubectl("wait", *waits)
    (pod,) = plant.pods(PLANT, "stocktaking")
    assert "fsm-proxy-uuid" in pod["metadata"]["labels"], "it had a sidecar"
    assert pod["status"]["phase"] == "Succeeded"
    log = plant.kubectl("logs", pod["metadata"]["name"], "-n", PLANT, "-c", "main").stdout
    assert "/stock" in log, "its first request found its way"


def test_several_services_lead_to_one_pod_by_number_and_by_name(plant: Shell, asker: str) -> None:
    ports = [
        {"name": "http", "port": 80, "targetPort": "main"},
        {"name": "http-side", "port": 90, "targetPort": "side"},
    ]
    both = actors.service("press", PLANT, ports[0])
    both["spec"]["ports"] = ports
    other = actors.service("press-side", PLANT, {"name": "http", "port": 80, "targetPort": 8081})
    other["spec"]["selector"] = {"app": "press"}
    plant.apply(*actors.deployment("press", PLANT, machine()), both, other)
    plant.ready(PLANT, "press")
    for url, words in (
        ("http://press/", "press"),
        ("http://press/", "8080"),
        ("http://press:90/", "8081"),
        (f"http://press-side.{PLANT}/", "8081"),
    ):
        hears(plant, asker, url, words)


def test_a_statefulset_is_reached_by_the_names_of_its_pods(plant: Shell, asker: str) -> None:
    headless = actors.service("vat", PLANT, {"name": "http", "port": 8080, "targetPort": "main"})
    headless["spec"]["clusterIP"] = "None"
    account, found = actors.deployment("vat", PLANT, machine(), replicas=2)
    found["kind"] = "StatefulSet"
    found["spec"]["serviceName"] = "vat"
    plant.apply(account, headless, found)
    plant.kubectl("rollout", "status", "statefulset/vat", "-n", PLANT, "--timeout=60s")
    for number in (0, 1):
        hears(plant, asker, f"http://vat-{number}.vat.{PLANT}:8080/", f"vat-{number} 8080")
    name = f"vat.{PLANT}.svc.cluster.local"
    hears(plant, asker, f"http://{name}:8080/", "8080")


def test_another_name_of_a_service_means_it(plant: Shell, asker: str) -> None:
    alias = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "store", "namespace": PLANT},
        "spec": {"type": "ExternalName", "externalName": f"shop.{PLANT}.svc.cluster.local"},
    }
    plant.apply(alias)
    hears(plant, asker, "http://store/by-another-name", "/by-another-name")


def test_a_pod_may_be_dialled_as_the_mode_of_access_says(plant: Shell, asker: str) -> None:
    url = f"http://{plant.ip(PLANT, 'shop')}:8080/dialled"
    hears(plant, asker, url, "/dialled")
    try:
        for mode, by_address, by_name in (("domain", False, True), ("ip", True, False)):
            change = {"spec": {"traffic": {"serviceAccessMode": mode}}}
            where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system", "--type=merge")
            plant.kubectl("patch", *where, "-p", json.dumps(change))
            plant.fsm("rollout", "status", "meshconfig/fsm-mesh-config")
            heard = bool(ask(plant, asker, "http://shop/named"))
            assert heard is by_name, f"{mode}: by name"
            if by_address:
                hears(plant, asker, url, "/dialled")
    finally:
        change = {"spec": {"traffic": {"serviceAccessMode": "mixed"}}}
        plant.kubectl("patch", *where, "-p", json.dumps(change))
        plant.fsm("rollout", "status", "meshconfig/fsm-mesh-config")


def annotated(name: str, **notes: str) -> list[actors.Object]:
    account, found = actors.deployment(name, PLANT, machine())
    annotations = {f"flomesh.io/{key.replace('_', '-')}": value for key, value in notes.items()}
    found["spec"]["template"]["metadata"]["annotations"] = annotations
    return [account, found]


def sidecar(pod: dict[str, Any]) -> dict[str, Any] | None:
    spec = pod["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    return next((c for c in containers if c["name"] == "sidecar"), None)


def test_a_pod_says_what_its_own_sidecar_is_to_be(plant: Shell) -> None:
    plant.apply(
        *annotated("alone", sidecar_injection="disabled"),
        *annotated(
            "frugal",
            sidecar_resource_limits_memory="64Mi",
            sidecar_resource_requests_cpu="50m",
            outbound_port_exclusion_list="5432,6379",
        ),
    )
    for name in ("alone", "frugal"):
        plant.ready(PLANT, name)
    (alone,), (frugal,) = plant.pods(PLANT, "alone"), plant.pods(PLANT, "frugal")
    assert sidecar(alone) is None
    assert "fsm-proxy-uuid" not in alone["metadata"]["labels"]
    found = sidecar(frugal)
    assert found is not None
    assert found["resources"]["limits"]["memory"] == "64Mi"
    assert found["resources"]["requests"]["cpu"] == "50m"
    account, found = annotated("odd", sidecar_injection="perhaps")
    plant.apply(account)
    odd = found["spec"]["template"]
    meta = {**odd["metadata"], "name": "odd", "namespace": PLANT}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": odd["spec"]}
    told = plant.apply(pod, fails=True).stderr
    assert "perhaps" in told, "the admission says what it does not understand"


def test_a_sidecar_that_ends_lets_what_was_begun_finish(plant: Shell, asker: str) -> None:
    (pod,) = plant.pods(PLANT, "shop")
    kinds = [c["name"] for c in pod["spec"].get("initContainers", [])]
    assert "sidecar" in kinds, "it is a native one: it begins before the application and ends after"
    plant.kubectl("rollout", "restart", "deployment/shop", "-n", PLANT)
    lost = 0
    done: list[bool] = []

    def over() -> bool:
        nonlocal lost
        lost += ask(plant, asker, "http://shop/still") == ""
        names = [p["metadata"]["name"] for p in plant.pods(PLANT, "shop")]
        done.append(names != [] and pod["metadata"]["name"] not in names)
        return done[-1] and len(done) > 10

    until(over, "the old Pod to be replaced", 60)
    assert lost == 0, f"{lost} of {len(done)} requests were lost"
