"""One box for all scenarios; each begins with the settings of a fresh mesh, and nothing in it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parent.parent / "system" / "support"))

from meshworld.machine import why_no_box
from meshworld.shell import ROOT, Shell
from meshworld.waiting import until
from walkthrough import readme
from walkthrough.typist import Typist

SCENARIOS = ROOT / "examples" / "scenarios"
USUAL = {"default", "kube-system", "kube-public", "kube-node-lease", "fsm-system"}

SCENARIO_S = 150.0
"""Longest that one scenario may take on a machine that does much else, in seconds."""


@pytest.fixture(scope="session")
def scenario_box() -> Iterator[Shell]:
    """A mesh that all scenarios share."""
    if reason := why_no_box():
        pytest.skip(reason)
    # Not under pytest's own directory: paths of unix sockets must be short.
    home = Path(tempfile.mkdtemp(prefix="fsm-scn-", dir="/var/tmp"))
    shell = Shell(home)
    try:
        shell.up()
        yield shell
    finally:
        shell.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def box(scenario_box: Shell) -> Iterator[Shell]:
    """The shared mesh, as it was when it was new; what a scenario makes is gone after it."""
    where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system")
    before = scenario_box.get("meshconfig", "fsm-mesh-config", "fsm-system")["spec"]
    try:
        yield scenario_box
    finally:
        change = json.dumps([{"op": "replace", "path": "/spec", "value": before}])
        scenario_box.kubectl("patch", *where, "--type", "json", "-p", change)
        made = namespaces(scenario_box) - USUAL
        if made:
            how = ("--wait=false", "--ignore-not-found")
            scenario_box.kubectl("delete", "namespace", *sorted(made), *how)
            until(lambda: not namespaces(scenario_box) - USUAL, f"{made} are gone", 60.0)


@pytest.fixture
def walk(box: Shell) -> Callable[[str], None]:
    """Follows the README of a scenario from its first command to its last."""

    def follow(name: str) -> None:
        folder = SCENARIOS / name
        steps = readme.read(folder / "README.md")
        began = time.monotonic()
        typist = Typist(folder, box.env | {"KUBECONFIG": str(box.state / "kubeconfig")})
        try:
            for step in steps:
                typist.follow(step)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- Pods\n{troubles(box)}") from None
        finally:
            typist.close()
            print("\n".join(typist.seen))
        took = time.monotonic() - began
        assert took <= SCENARIO_S, f"{took:.0f} s\n" + "\n".join(typist.seen)
        left = namespaces(box) - USUAL
        terminating = {name for name in left if phase(box, name) == "Terminating"}
        assert left == terminating, f"the README leaves namespaces behind: {left - terminating}"

    return follow


def namespaces(shell: Shell) -> set[str]:
    """The names of all namespaces."""
    return set(
        shell.kubectl("get", "ns", "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    )


def troubles(shell: Shell) -> str:
    """What is there, and why what is not ready is not."""
    told = [shell.kubectl("get", "pods", "-A", "-o", "wide").stdout]
    found = json.loads(shell.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
    for pod in found:
        ready = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
        if ready.get("Ready") != "True":
            app = pod["metadata"].get("labels", {}).get("app", "")
            told.append(shell.explain(pod["metadata"]["namespace"], app))
    return "\n".join(told)


def phase(shell: Shell, namespace: str) -> str:
    """What a namespace says of itself; nothing when it is gone."""
    found = shell.kubectl(
        "get", "ns", namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}"
    )
    return found.stdout or "Terminating"
