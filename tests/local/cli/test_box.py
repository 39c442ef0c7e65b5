"""The commands against a real box: up, status, namespaces, the demo, a demo that must fail, down.

One box for the whole module, on a free port, with its state in a directory of its own. The tests
run in their order: each is what a person would type next.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fsm.cli.demo import leftovers

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(
        not (BIN / "pipy").exists(), reason="the proxy is not built (`make build` puts it there)"
    ),
]


class Shell:
    """Runs commands as a person with a state directory of their own."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        links = home / "lib"
        links.mkdir()
        (links / "fsm_bookstore").symlink_to(ROOT / "examples" / "bookstore")
        clean = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PYTHONPATH")}
        self.env = {
            **clean,
            "FSM_HOME": str(self.state),
            "HOME": str(home),
            "PYTHONPATH": f"{ROOT / 'src'}:{links}",
        }

    def fsm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fsm.cli.main", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )

    def data(self, *arguments: str):
        done = self.fsm(*arguments, "-o", "json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.state / "kubeconfig"), *arguments],
            input=given,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


@pytest.fixture(scope="module")
def shell():
    # A short path: the node agent's socket lives in it (unix(7) allows 107 bytes).
    with tempfile.TemporaryDirectory(prefix="fsm-cli-", dir="/var/tmp") as home:
        made = Shell(Path(home))
        try:
            yield made
        finally:
            made.fsm("down", "--purge")


def test_up_opens_the_box_and_puts_the_mesh_into_it(shell):
    done = shell.fsm("up", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{shell.state / 'kubeconfig'}\n"
    assert "✓ Starting the control plane" in done.stderr
    assert "fsm demo" in done.stderr


def test_up_again_changes_nothing(shell):
    before = shell.data("status")["box"]
    done = shell.fsm("up")
    assert done.returncode == 0, done.stderr
    assert shell.data("status")["box"] == before


def test_up_on_another_port_says_that_the_box_already_runs(shell):
    done = shell.fsm("up", "--port", "1")
    assert done.returncode == 1
    assert "the box already runs" in done.stderr


def test_a_second_mesh_is_refused(shell):
    done = shell.fsm("install", "--mesh-name", "other", "-N", "other-system")
    assert done.returncode == 1
    assert "this cluster already has mesh 'fsm'" in done.stderr


def test_status_shows_the_box_and_the_control_plane(shell):
    data = shell.data("status")
    assert data["box"]["state_dir"] == str(shell.state)
    assert [(p["mesh"], p["ready"]) for p in data["control_planes"]] == [("fsm", True)]
    assert data["problems"] == []


def test_the_meshes_and_their_smi_versions_are_listed(shell):
    (mesh,) = shell.data("mesh", "list")
    assert mesh["namespace"] == "fsm-system"
    assert "TrafficSplitv1alpha2" in mesh["smi_supported"]
    assert "SMI SUPPORTED" in shell.fsm("mesh", "list").stdout


def test_namespaces_are_added_listed_and_removed(shell):
    shell.kubectl("apply", "-f", "-", given=namespace("shop"))
    added = "Namespace [shop] successfully added to mesh [fsm]\n"
    assert shell.fsm("namespace", "add", "shop").stdout == added
    again = "Namespace [shop] has already been added to mesh [fsm]\n"
    assert shell.fsm("ns", "add", "shop").stdout == again
    assert shell.data("ns", "list") == [
        {"namespace": "shop", "mesh": "fsm", "sidecar_injection": "enabled"}
    ]
    removed = "Namespace [shop] successfully removed from mesh [fsm]\n"
    assert shell.fsm("namespace", "remove", "shop").stdout == removed
    assert shell.fsm("namespace", "list").stdout == "No namespaces in any mesh\n"


def test_of_several_namespaces_the_good_ones_are_added(shell):
    done = shell.fsm("ns", "add", "no-such", "shop")
    assert done.returncode == 1
    assert "no-such" in done.stderr
    assert done.stdout == "Namespace [shop] successfully added to mesh [fsm]\n"
    shell.fsm("ns", "remove", "shop")


def test_a_mesh_that_does_not_exist_takes_no_namespaces(shell):
    done = shell.fsm("ns", "add", "shop", "--mesh-name", "other")
    assert done.returncode == 1
    assert "mesh 'other' does not exist (there is: fsm)" in done.stderr


def test_a_pod_without_a_sidecar_is_told_apart_from_one_that_is_not_there(shell):
    name = shell.kubectl("get", "pods", "-n", "fsm-system", "-o", "name").strip().split("/")[1]
    done = shell.fsm("proxy", "get", "stats", "-n", "fsm-system", name)
    assert f"Pod fsm-system/{name} has no sidecar" in done.stderr
    done = shell.fsm("proxy", "get", "stats", "nobody", "-n", "fsm-system")
    assert "there is no Pod nobody in namespace fsm-system" in done.stderr


def test_the_demo_does_not_touch_namespaces_that_are_not_its_own(shell):
    shell.kubectl("apply", "-f", "-", given=namespace("bookstore"))
    done = shell.fsm("demo", "--fast")
    assert done.returncode == 1
    assert "namespace bookstore exists already" in done.stderr
    assert "bookstore" in shell.kubectl("get", "namespaces", "-o", "name")
    shell.kubectl("delete", "namespace", "bookstore", "--wait")


def test_the_demo_holds_and_leaves_the_mesh_as_it_was(shell):
    traffic = ("get", "meshconfig", "fsm-mesh-config", "-n", "fsm-system", "-o")
    before = shell.kubectl(*traffic, "jsonpath={.spec.traffic}")
    done = shell.fsm("demo", "--fast")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") >= 18
    assert "✗" not in done.stdout
    assert "Every claim held" in done.stdout
    assert "bookstore" not in shell.kubectl("get", "namespaces", "-o", "name")
    assert shell.kubectl(*traffic, "jsonpath={.spec.traffic}") == before


def test_a_demo_whose_claim_is_not_true_fails_loudly(shell):
    """Switches permissive mode on behind the demo's back: then the thief does get its books."""
    permissive = '{"spec":{"traffic":{"enablePermissiveTrafficPolicyMode":true}}}'
    stop = threading.Event()

    def sabotage():
        while "bookthief" not in shell.kubectl("get", "namespaces", "-o", "name"):
            if stop.wait(0.05):
                return
        shell.kubectl(
            *("patch", "meshconfig", "fsm-mesh-config", "-n", "fsm-system"),
            *("--type", "merge", "-p", permissive),
        )

    saboteur = threading.Thread(target=sabotage)
    saboteur.start()
    done = shell.fsm("demo", "--fast")
    stop.set()
    saboteur.join()
    assert done.returncode == 1, done.stdout
    assert "✗ Nobody gets a book" in done.stdout
    assert "expected: not one request that succeeds" in done.stderr
    assert f"its logs are in {shell.state}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bookthief" not in shell.kubectl("get", "namespaces", "-o", "name")


def test_down_leaves_no_process_no_namespace_and_no_object(shell):
    there = leftovers.of_box(shell.data("status")["box"]["pid"])
    assert len(there.processes) >= 5
    done = shell.fsm("down", "--purge")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 5
    while (left := leftovers.still_there(there)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == ""
    assert {p.name for p in shell.state.iterdir()} <= {"lock"}
    assert shell.fsm("status").returncode == 3
