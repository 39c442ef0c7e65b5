"""Two replicas of the control plane on a real box: proxies follow both, one writes, one may die."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from meshworld import actors
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP = "shop"


def holder(shell: Shell) -> str:
    lease = shell.get("lease", "fsm-controller", "fsm-system")
    return str(lease["spec"].get("holderIdentity") or "")


def report(shell: Shell) -> Any:
    return json.loads(shell.fsm("certs", "list", "-o", "json").stdout)


@pytest.fixture(scope="module")
def pair(mesh: Shell) -> Shell:
    where = ("deployment/fsm-controller", "-n", "fsm-system")
    mesh.kubectl("scale", *where, "--replicas=2")
    mesh.kubectl("rollout", "status", *where, "--timeout=60s")
    traffic(mesh, enablePermissiveTrafficPolicyMode=True)
    mesh.apply(namespace(SHOP))
    mesh.fsm("namespace", "add", SHOP)
    mesh.apply(
        *actors.server("web", SHOP, replicas=4),
        *actors.caller("buyer", SHOP, {"buy": f"http://web.{SHOP}/buy"}, pause=0.05),
    )
    mesh.kubectl("rollout", "status", "deployment/web", "-n", SHOP, "--timeout=90s")
    return mesh


@pytest.fixture(scope="module")
def ledger(pair: Shell) -> Ledger:
    found = Ledger.of(pair, SHOP, "buyer")
    found.flows("buy", 0.0)
    return found


def rotated(shell: Shell, ledger: Ledger) -> None:
    moment = time.time()
    assert "rotated at" in shell.fsm("certs", "rotate", "--timeout", "100s").stdout
    after = report(shell)
    signer = after["roots"][0]["signer"]
    assert {one["signer"] for one in after["proxies"]} == {signer}
    # Of both replicas: each has a server for proxies and one for the API.
    ledger.many("buy", time.time(), 10)
    lost = [call for call in ledger.since("buy", moment) if not call.ok]
    assert not lost, lost[:3]


def test_a_rotation_is_followed_by_the_proxies_of_both(pair: Shell, ledger: Ledger) -> None:
    assert holder(pair) in [
        pod["metadata"]["name"] for pod in pair.pods("fsm-system", "fsm-controller")
    ]
    rotated(pair, ledger)


def test_a_change_is_waited_for_at_the_proxies_of_both(pair: Shell, ledger: Ledger) -> None:
    traffic(pair, enableEgress=False)
    done = pair.fsm("rollout", "status", "meshconfig/fsm-mesh-config", "-o", "json")
    assert json.loads(done.stdout)["change"]["applied"] == 5
    listed = json.loads(pair.fsm("proxy", "list", "-o", "json").stdout)
    assert len(listed) == 5, "each is told once, by whichever replica it is connected to"


def test_the_other_writes_when_the_one_that_did_is_killed(pair: Shell, ledger: Ledger) -> None:
    before = holder(pair)
    how = ("--grace-period=0", "--force")
    pair.kubectl("delete", "pod", before, "-n", "fsm-system", *how)
    until(lambda: holder(pair) not in ("", before), "the other to hold the Lease", 40)
    where = ("deployment/fsm-controller", "-n", "fsm-system")
    pair.kubectl("rollout", "status", *where, "--timeout=60s")
    traffic(pair, enableEgress=True)
    rotated(pair, ledger)
