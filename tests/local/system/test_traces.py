"""The box ends, asked or killed, and this machine is as it was; opened again, all is there.

The order is a story: opened, furnished, killed, opened, killed again, opened, closed.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from meshworld import actors, host
from meshworld.ledger import Ledger
from meshworld.shell import Shell, namespace, traffic
from meshworld.waiting import until

pytestmark = pytest.mark.box

SHOP, LAB = "shop", "lab"


@pytest.fixture(scope="module")
def before(shell: Shell) -> host.Traces:
    """What is on this machine before there is a box."""
    return host.look(str(shell.state))


def clean(shell: Shell, before: host.Traces, port: int, family: frozenset[tuple[int, int]]) -> None:
    """Wait until nothing of the box is on this machine: not a process, to begin with."""
    mark = str(shell.state)
    until(lambda: not host.alive(family), "no process of the box is left", 10)
    until(
        lambda: not host.look(mark).beyond(before, mark),
        "nothing of the box is left on the machine",
        10,
    )
    assert not host.listening(port)


def api_port(shell: Shell) -> int:
    return int(json.loads((shell.state / "box.json").read_text())["api_port"])


def members(shell: Shell) -> frozenset[tuple[int, int]]:
    pid = shell.pid()
    assert pid is not None
    return host.family(pid)


def sells(shell: Shell) -> None:
    """Wait until who may is served, and check that who may not is not."""
    # The Pods that a box of the past ran are started anew.
    moment = time.time()
    for app in ("buyer", "thief"):
        shell.ready(LAB, app)
    Ledger.of(shell, LAB, "buyer").flows("web", moment)
    refused = Ledger.of(shell, LAB, "thief").many("web", moment, 5)
    assert not [call for call in refused if call.ok]


def test_a_mesh_is_opened_and_furnished(before: host.Traces, mesh: Shell) -> None:
    traffic(mesh, enablePermissiveTrafficPolicyMode=False)
    mesh.apply(*map(namespace, (SHOP, LAB)))
    mesh.fsm("namespace", "add", SHOP, LAB)
    rules = [{"kind": "HTTPRouteGroup", "name": "sales", "matches": ["buy"]}]
    mesh.apply(
        actors.routes("sales", SHOP, buy="/buy"),
        actors.target("web", SHOP, "web", rules, (LAB, "buyer")),
        *actors.server("web", SHOP),
        *actors.caller("buyer", LAB, {"web": f"http://web.{SHOP}/buy"}),
        *actors.caller("thief", LAB, {"web": f"http://web.{SHOP}/buy"}),
    )
    sells(mesh)
    # The look finds what there is to find: it would not miss it afterwards.
    mark = str(mesh.state)
    found = host.look(mark).beyond(before, mark)
    assert len(found["processes"]) >= 4
    assert len(found["namespaces"]) >= 3
    # PID 1, its three children, control plane, three applications, three sidecars.
    assert len(members(mesh)) >= 11
    assert host.listening(api_port(mesh))


def test_a_second_box_is_a_world_of_its_own(before: host.Traces, mesh: Shell) -> None:
    """Nothing of the inside shows outside: no link, no table, no mount, no named namespace."""
    mark = str(mesh.state)
    found = host.look(mark).beyond(before, mark)
    assert set(found) == {"processes", "namespaces"}, found


@pytest.mark.parametrize("which", ["first", "second"])
def test_killed_pid_1_takes_everything_along_and_up_brings_it_back(
    before: host.Traces, mesh: Shell, which: str
) -> None:
    port, family = api_port(mesh), members(mesh)
    os.kill(mesh.pid() or 0, signal.SIGKILL)
    clean(mesh, before, port, family)
    told = mesh.fsm("status", fails=True)
    assert told.returncode == 3
    assert "fsm up" in told.stderr
    mesh.up()
    assert mesh.get("traffictarget", "web", SHOP)["spec"]["sources"][0]["name"] == "buyer"
    sells(mesh)
    until(lambda: not mesh.status()["problems"], "`fsm status` finds everything well")


def test_down_leaves_nothing_on_the_machine_and_keeps_the_objects(
    before: host.Traces, mesh: Shell
) -> None:
    port, family = api_port(mesh), members(mesh)
    mesh.fsm("down")
    clean(mesh, before, port, family)
    assert mesh.fsm("status", fails=True).returncode == 3
    # What is stored stays, and is no process' business.
    assert (mesh.state / "kubeconfig").exists()
    again = mesh.fsm("down")
    assert "No box was running" in again.stderr


def test_down_with_purge_leaves_no_file(before: host.Traces, mesh: Shell) -> None:
    mesh.up()
    port, family = api_port(mesh), members(mesh)
    mesh.fsm("down", "--purge")
    clean(mesh, before, port, family)
    assert {path.name for path in mesh.state.iterdir()} <= {"lock"}
