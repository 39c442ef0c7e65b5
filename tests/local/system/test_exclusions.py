"""Exclusions that change while Pods run: their sidecars follow, and nobody is restarted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from meshworld import actors
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, OUTSIDE = "shop", "outside"


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    """A client and a server in the mesh, and one of each outside of it; egress is closed."""
    mesh.apply(namespace(SHOP), namespace(OUTSIDE))
    mesh.fsm("namespace", "add", SHOP)
    for where in (SHOP, OUTSIDE):
        mesh.apply(*actors.server("web", where), *actors.client("client", where))
    for where in (SHOP, OUTSIDE):
        mesh.ready(where, "web")
        mesh.ready(where, "client")
    traffic(mesh, enableEgress=False, enablePermissiveTrafficPolicyMode=True)
    return mesh


def code(shell: Shell, where: str, url: str) -> tuple[int, str]:
    return shell.curl(where, shell.ready(where, "client"), url)


def served(shell: Shell, where: str, url: str) -> bool:
    return code(shell, where, url) == (0, "200")


def cluster_ip(shell: Shell, where: str, name: str) -> str:
    found = shell.kubectl("get", "service", name, "-n", where, "-o", "json").stdout
    return str(json.loads(found)["spec"]["clusterIP"])


def mesh_config(shell: Shell) -> Any:
    return json.loads(
        shell.kubectl(
            "get", "meshconfig", "fsm-mesh-config", "-n", "fsm-system", "-o", "json"
        ).stdout
    )


def test_a_range_that_is_excluded_is_reached_at_once_and_refused_again_when_it_is_not(
    town: Shell,
) -> None:
    url = f"http://web.{OUTSIDE}/"
    pod = town.ready(SHOP, "client")
    until(lambda: code(town, SHOP, url)[0] in (7, 52, 56), "egress to be closed", 20)
    traffic(town, outboundIPRangeExclusionList=[f"{cluster_ip(town, OUTSIDE, 'web')}/32"])
    until(lambda: served(town, SHOP, url), "the excluded range to be reached", 20)
    traffic(town, outboundIPRangeExclusionList=[])
    until(lambda: code(town, SHOP, url)[0] in (7, 52, 56), "it to be refused again", 20)
    assert town.ready(SHOP, "client") == pod, "nobody was restarted"
    status = mesh_config(town)["status"]
    assert status["currentStatus"] == "Programmed", status


def test_an_inbound_port_is_opened_and_closed_by_an_annotation_of_the_running_pod(
    town: Shell,
) -> None:
    url = f"http://web.{SHOP}/"
    pod = town.ready(SHOP, "web")
    until(lambda: code(town, OUTSIDE, url)[0] in (52, 56), "strangers to be refused", 20)
    (found,) = town.pods(SHOP, "web")
    ports = found["spec"]["containers"][0].get("ports") or [{"containerPort": 80}]
    number = ports[0]["containerPort"]
    note = "flomesh.io/inbound-port-exclusion-list"
    town.kubectl("annotate", "pod", pod, "-n", SHOP, f"{note}={number}")
    until(lambda: served(town, OUTSIDE, url), "the port to be open to strangers", 20)
    town.kubectl("annotate", "pod", pod, "-n", SHOP, f"{note}-")
    until(lambda: code(town, OUTSIDE, url)[0] in (52, 56), "strangers to be refused again", 20)


def test_a_pod_that_is_made_with_an_exclusion_is_named_when_it_is_taken_away(town: Shell) -> None:
    url = f"http://web.{OUTSIDE}/"
    address = f"{cluster_ip(town, OUTSIDE, 'web')}/32"
    traffic(town, outboundIPRangeExclusionList=[address])
    town.kubectl("rollout", "restart", "deployment/client", "-n", SHOP)
    town.kubectl("rollout", "status", "deployment/client", "-n", SHOP, "--timeout=60s")
    until(lambda: len(town.pods(SHOP, "client")) == 1, "the old Pod to go", 60)
    until(lambda: served(town, SHOP, url), "the excluded range to be reached", 20)
    traffic(town, outboundIPRangeExclusionList=[])
    pod = town.ready(SHOP, "client")

    def named() -> bool:
        reason = mesh_config(town)["status"]["reason"]
        return f"{SHOP}/{pod}" in reason and "outboundIPRangeExclusionList" in reason

    until(named, "MeshConfig to name the Pod that keeps it", 20)
    assert served(town, SHOP, url), "its own rules let it pass until it is made again"
