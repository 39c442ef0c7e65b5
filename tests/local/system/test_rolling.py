"""A deployment in the mesh is rolled, scaled and restarted under load, and no request is lost.

Two callers, one with a connection per request and one that keeps its connection, call a server
whose Pods are replaced under them. A Pod that ends leaves the endpoints first; its sidecar ends
last.
"""

from __future__ import annotations

import time

import pytest
from meshworld import actors
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB = "shop", "lab"
CALLERS = ("fresh", "kept")


@pytest.fixture(scope="module")
def town(mesh: Shell) -> Shell:
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    url = {"buy": f"http://web.{SHOP}/buy", "hasty": f"http://hasty.{SHOP}/buy"}
    callers = [(LAB, name) for name in CALLERS]
    mesh.apply(
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, *callers),
        actors.target("hasty", SHOP, "hasty", rules, *callers),
        *actors.server("web", SHOP, replicas=2),
        *actors.server("hasty", SHOP, hasty=True),
        *actors.caller("fresh", LAB, url, pause=0.02),
        *actors.caller("kept", LAB, url, keep=True, pause=0.02),
    )
    mesh.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
    return mesh


@pytest.fixture(scope="module")
def ledgers(town: Shell) -> list[Ledger]:
    found = [Ledger.of(town, LAB, name) for name in CALLERS]
    for ledger in found:
        for name in ("buy", "hasty"):
            ledger.flows(name, 0.0)
    return found


def nothing_was_lost(ledgers: list[Ledger], moment: float, name: str = "buy") -> None:
    for ledger in ledgers:
        ledger.many(name, time.time(), 20)
        lost = [call for call in ledger.since(name, moment) if not call.ok]
        done = len(ledger.since(name, moment))
        assert not lost, f"{len(lost)} of {done} requests were lost: {lost[:4]}"


def settled(shell: Shell, replicas: int) -> None:
    """Wait until only the Pods that are wanted are left, those that end included."""

    def look() -> bool:
        names = shell.kubectl("get", "pods", "-n", SHOP, "-l", "app=web", "-o", "name").stdout
        return len(names.split()) == replicas

    until(look, f"{replicas} Pods are left")


def test_rolling_restart_loses_no_request(town: Shell, ledgers: list[Ledger]) -> None:
    before = {pod["metadata"]["name"] for pod in town.pods(SHOP, "web")}
    moment = time.time()
    town.kubectl("rollout", "restart", "deployment/web", "-n", SHOP)
    town.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
    settled(town, 2)
    after = {pod["metadata"]["name"] for pod in town.pods(SHOP, "web")}
    assert len(after) == 2
    assert not before & after
    nothing_was_lost(ledgers, moment)


def test_rolling_what_ends_hastily_loses_no_request_with_a_pause_before(
    town: Shell, ledgers: list[Ledger]
) -> None:
    """Its only Pod ends at SIGTERM at once; a preStop pause lets its callers hear of that first."""
    (before,) = (pod["metadata"]["name"] for pod in town.pods(SHOP, "hasty"))
    moment = time.time()
    town.kubectl("rollout", "restart", "deployment/hasty", "-n", SHOP)
    town.kubectl("rollout", "status", "deployment/hasty", "-n", SHOP, "--timeout=60s")
    until(lambda: len(town.pods(SHOP, "hasty")) == 1, "the old one ends")
    assert town.ready(SHOP, "hasty") != before
    nothing_was_lost(ledgers, moment, "hasty")


def test_scaling_down_and_up_loses_no_request(town: Shell, ledgers: list[Ledger]) -> None:
    moment = time.time()
    for replicas in (1, 3):
        town.kubectl("scale", "deployment/web", "-n", SHOP, f"--replicas={replicas}")
        town.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
        settled(town, replicas)
    nothing_was_lost(ledgers, moment)


def test_deleted_pod_is_replaced_and_no_request_is_lost(town: Shell, ledgers: list[Ledger]) -> None:
    moment = time.time()
    pod = town.pods(SHOP, "web")[0]["metadata"]["name"]
    town.kubectl("delete", "pod", pod, "-n", SHOP)
    town.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=60s")
    nothing_was_lost(ledgers, moment)


def test_control_plane_is_rolled_and_no_request_is_lost(town: Shell, ledgers: list[Ledger]) -> None:
    moment = time.time()
    where = ("deployment/fsm-controller", "-n", "fsm-system")
    town.kubectl("rollout", "restart", *where)
    town.kubectl("rollout", "status", *where, "--timeout=60s")
    until(lambda: len(town.pods("fsm-system", "fsm-controller")) == 1, "the old one is gone")
    nothing_was_lost(ledgers, moment)
    until(lambda: len(town.status()["proxies"]) == 6, "all sidecars are connected again")
