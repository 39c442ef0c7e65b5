"""The commands that ask, wait, verify, report and take away, typed against a real box.

One box for the module; the tests run in their order, each is what a person would type next.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
APPS = ROOT / "examples" / "scenarios" / "apps"

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(
        not (BIN / "pipy").exists(), reason="the proxy is not built (`make build` puts it there)"
    ),
]

POLICY = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: get, namespace: httpbin}
spec:
  matches:
  - {name: get, pathRegex: /get, methods: [GET]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: curl, namespace: httpbin}
spec:
  destination: {kind: ServiceAccount, name: httpbin, namespace: httpbin}
  sources:
  - {kind: ServiceAccount, name: curl, namespace: curl}
  rules:
  - {kind: HTTPRouteGroup, name: get, matches: [get]}
"""

DATAGRAMS = (
    POLICY.replace("HTTPRouteGroup", "UDPRoute")
    .replace("matches:\n  - {name: get, pathRegex: /get, methods: [GET]}", "matches: {ports: [53]}")
    .replace(", matches: [get]", "")
)


class Shell:
    def __init__(self, home):
        self.home = home
        self.state = home / "state"
        clean = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "PYTHONPATH")}
        self.env = {**clean, "FSM_HOME": str(self.state), "HOME": str(home)}

    def fsm(self, *arguments, code=0, given=""):
        done = subprocess.run(
            [sys.executable, "-m", "fsm.cli.main", *arguments],
            env=self.env,
            cwd=self.home,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        told = f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == code, told
        assert "Traceback" not in done.stderr, told
        return done

    def data(self, *arguments, code=0):
        return json.loads(self.fsm(*arguments, "-o", "json", code=code).stdout)

    def kubectl(self, *arguments, given=None):
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

    def mesh(self, **traffic):
        change = json.dumps({"spec": {"traffic": traffic}})
        where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system")
        self.kubectl("patch", *where, "--type=merge", "-p", change)
        return self.data("rollout", "status", "meshconfig/fsm-mesh-config")

    def spec(self):
        where = ("meshconfig", "fsm-mesh-config", "-n", "fsm-system", "-o", "json")
        return json.loads(self.kubectl("get", *where))["spec"]


def until(check, what, limit_s=30.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {limit_s:g} s: {what}")


@pytest.fixture(scope="module")
def shell():
    home = Path(tempfile.mkdtemp(prefix="fsm-cmd-", dir="/var/tmp"))
    made = Shell(home)
    try:
        done = made.fsm("up", "--port", "0", "--set", "fsm.sidecarLogLevel=debug,fsm.flb.enabled=1")
        assert "note: fsm.flb.enabled has no effect" in done.stderr
        for name in ("httpbin", "curl"):
            made.kubectl("create", "namespace", name)
            made.fsm("namespace", "add", name)
            made.kubectl("apply", "-n", name, "-f", str(APPS / f"{name}.yaml"))
        for name in ("httpbin", "curl"):
            where = ("-n", name, "--timeout=40s")
            made.kubectl("rollout", "status", f"deployment/{name}", *where)
        yield made
    finally:
        subprocess.run(
            [sys.executable, "-m", "fsm.cli.main", "down", "--purge"], env=made.env, check=False
        )
        shutil.rmtree(home, ignore_errors=True)


def test_values_of_the_first_installation_are_in_meshconfig(shell):
    assert shell.spec()["sidecar"]["logLevel"] == "debug"


def test_upgrade_keeps_what_users_changed_and_changes_what_is_asked_for(shell):
    shell.mesh(serviceAccessMode="domain")
    told = shell.fsm("mesh", "upgrade", "--set", "fsm.enableEgress=false").stdout
    assert told == "FSM successfully upgraded mesh [fsm] in namespace [fsm-system]\n"
    spec = shell.spec()
    assert spec["traffic"]["enableEgress"] is False
    assert spec["traffic"]["serviceAccessMode"] == "domain"
    assert spec["sidecar"]["logLevel"] == "debug"
    shell.mesh(serviceAccessMode="mixed", enableEgress=True)
    shell.fsm("mesh", "upgrade")
    assert shell.spec()["traffic"]["enableEgress"] is True, "values of before are no wish of now"


def test_upgrade_of_a_mesh_that_is_not_there_names_the_one_that_is(shell):
    done = shell.fsm("mesh", "upgrade", "--mesh-name", "prod", code=1)
    assert "mesh 'prod' does not exist (there is: fsm)" in done.stderr


def test_control_plane_is_verified(shell):
    found = shell.data("verify", "control-plane")
    assert len(found["checks"]) >= 8
    assert {check["status"] for check in found["checks"]} == {"Success"}


def test_rollout_waits_for_every_proxy_and_tells_the_time_of_each(shell):
    report = shell.mesh(enablePermissiveTrafficPolicyMode=False)
    change = report["change"]
    assert change["done"]
    assert {row["namespace"] for row in change["rows"]} == {"curl", "httpbin"}
    assert all(row["state"] == "applied" and row["applied_s"] > 0 for row in change["rows"])
    shown = shell.fsm("rollout", "status", "meshconfig", "fsm-mesh-config").stdout
    assert "applied by 2 proxies, the last after" in shown


def test_pods_may_not_talk_without_a_policy_and_every_command_says_so(shell):
    pods = ("curl/deploy/curl", "httpbin/deploy/httpbin")
    done = shell.fsm("policy", "check-pods", *pods, code=1)
    assert "is not allowed to communicate" in done.stdout
    found = shell.data(
        "verify", "connectivity", "--from-pod", pods[0], "--to-service", "httpbin/httpbin", code=1
    )
    assert found["status"] == "Failure"
    assert "TrafficTarget" in found["suggestion"]


def test_policy_is_validated_applied_and_followed(shell):
    (shell.home / "policy.yaml").write_text(POLICY)
    shell.fsm("validate", "-f", "policy.yaml", "--against-mesh")
    # The box's sidecars carry datagrams, as the control plane's own settings say.
    (shell.home / "udp.yaml").write_text(DATAGRAMS)
    assert (
        "cannot carry UDP" not in shell.fsm("validate", "-f", "udp.yaml", "--against-mesh").stdout
    )
    shell.kubectl("apply", "-f", "-", given=POLICY)
    report = shell.data("rollout", "status", "traffictarget/curl", "-n", "httpbin")
    assert report["change"]["applied"] == report["change"]["proxies"] >= 1
    told = shell.fsm("policy", "check-pods", "curl/deploy/curl", "httpbin/deploy/httpbin").stdout
    assert 'via the SMI TrafficTarget policy "curl" in namespace "httpbin"' in told
    assert "port 14001: GET ~ /get (HTTPRouteGroup/httpbin/get#get)" in told


def test_connectivity_is_judged_by_path_and_without_one(shell):
    words = ("verify", "connectivity", "--from-pod", "curl/deploy/curl")
    service = ("--to-service", "httpbin/httpbin")
    assert shell.data(*words, *service)["status"] == "Success"
    assert shell.data(*words, *service, "--path", "/get")["status"] == "Success"
    assert shell.data(*words, *service, "--path", "/post", code=1)["status"] == "Failure"
    assert shell.data(*words, "--to-pod", "httpbin/deploy/httpbin")["status"] == "Success"
    assert shell.data(*words, *service, "--to-port", "1", code=1)["status"] == "Failure"
    assert shell.data(*words, "--to-ext-host", "192.0.2.1")["status"] == "Success"


def test_explain_names_the_objects(shell):
    answers = shell.data("explain", "deploy/curl", "http://httpbin.httpbin:14001/get", "-n", "curl")
    assert [a["decision"] for a in answers] == ["allowed", "allowed"]
    assert answers[1]["allowed_by"] == "TrafficTarget/httpbin/curl"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("proxy", "get", "stats", "nobody", "-n", "curl"), 1, "hint: Pods in curl: curl-"),
        (("proxy", "get", "stats", "x", "-n", "crl"), 1, "hint: namespaces: curl"),
        (("proxy", "get", "statz", "curl/deploy/curl"), 1, "it answers config_dump, stats"),
        (("explain", "curl/deploy/crl", "http://x/"), 1, "hint: Deployments in curl: curl"),
        (("proxy", "get", "stats", "deploy/curl"), 1, "hint: name its namespace with -n"),
        (("explain", "curl/deploy/curl", "http://x.httpbin/"), 1, "Services in httpbin: httpbin"),
        (("rollout", "status", "traffictarget/x", "-n", "httpbin"), 1, "TrafficTargets in httpbin"),
        (("rollout", "status", "trafficsplt/x"), 2, "hint: TrafficSplit? the mesh's kinds are"),
        (("rollout", "status", "x"), 2, "write KIND/NAME"),
        (("policy", "check-conflicts", "Nothing"), 2, "the mesh's kinds are"),
        (("policy", "check-conflicts", "TrafficSplit", "-n", "x"), 1, "there is no namespace x"),
        (("metrics", "enable", "-n", "default"), 1, "does not belong to a mesh"),
        (("namespace", "add", "x"), 1, "x"),
        (("support", "bug-report", "--app-pods", "curl/x"), 1, "Pods in curl"),
        (("verify", "connectivity", "--from-pod", "curl/deploy/curl"), 2, "say where to"),
        (("uninstall", "mesh", "--mesh-name", "x"), 1, "there is: fsm"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_not_there_is_told_with_what_is(shell, words, code, told):
    done = shell.fsm(*words, code=code)
    assert told in done.stderr
    assert done.stdout == ""


def test_conflicting_objects_are_listed(shell):
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "spec": {"service": "httpbin", "backends": [{"service": "httpbin", "weight": 1}]},
    }
    assert "No conflicts" in shell.fsm("policy", "check-conflicts", "trafficsplits").stdout
    for name in ("one", "two"):
        obj = {**split, "metadata": {"name": name, "namespace": "httpbin"}}
        shell.kubectl("apply", "-f", "-", given=json.dumps(obj))

    def conflicts():
        done = subprocess.run(
            [sys.executable, "-m", "fsm.cli.main", "policy", "check-conflicts", "TrafficSplit"],
            env=shell.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done if done.returncode == 1 else None

    found = until(conflicts, "the second split is in conflict")
    assert "httpbin" in found.stdout
    assert "two" in found.stdout
    shell.kubectl("delete", "trafficsplit", "one", "two", "-n", "httpbin")


def test_metrics_are_switched_on_for_pods_that_run_and_those_to_come(shell):
    def annotations():
        (pod,) = json.loads(shell.kubectl("get", "pods", "-n", "curl", "-o", "json"))["items"]
        return pod["metadata"].get("annotations", {})

    assert "prometheus.io/scrape" not in annotations()
    shell.fsm("metrics", "enable", "--namespace", "curl,httpbin")
    assert annotations()["prometheus.io/port"] == "15010"
    namespace = json.loads(shell.kubectl("get", "ns", "curl", "-o", "json"))
    assert namespace["metadata"]["annotations"]["flomesh.io/metrics"] == "enabled"
    shell.fsm("metrics", "disable", "--namespace", "curl")
    assert "prometheus.io/scrape" not in annotations()


def test_what_changes_namespaces_tells_of_each_as_data(shell):
    known, unknown = shell.data("namespace", "add", "curl", "nowhere", code=1)
    assert known == {
        "namespace": "curl",
        "ok": True,
        "message": "Namespace [curl] has already been added to mesh [fsm]",
    }
    assert (unknown["namespace"], unknown["ok"]) == ("nowhere", False)
    assert "nowhere" in unknown["message"]
    assert [row["ok"] for row in shell.data("metrics", "enable", "-n", "curl")] == [True]
    shell.fsm("metrics", "disable", "-n", "curl")


def test_bug_report_holds_what_helps_and_no_secret(shell):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "curl"},
        "stringData": {"password": "hunter2"},
    }
    shell.kubectl("create", "-f", "-", given=json.dumps(secret))
    done = shell.fsm("support", "bug-report", "-o", "report.tar.gz")
    path = shell.home / done.stdout.strip()
    assert path.stat().st_mode & 0o077 == 0, "readable by its owner only"
    with tarfile.open(path) as archive:
        texts = {
            member.name.removeprefix("report/"): archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }
    assert "errors.txt" not in texts, texts.get("errors.txt")
    names = list(texts)
    for wanted in (
        *("about.json", "status.json", "control-plane/metrics.txt", "cluster/namespaces.yaml"),
        *("namespaces/curl/secrets.yaml", "namespaces/httpbin/traffictargets.yaml"),
    ):
        assert wanted in names
    assert any(n.startswith("namespaces/curl/pods/curl-") and "config_dump" in n for n in names)
    everything = "\n".join(texts.values())
    for hidden in ("hunter2", "aHVudGVyMg==", "PRIVATE KEY-----\nM", "eyJhbGciOi"):
        assert hidden not in everything
    assert "password: '***'" in texts["namespaces/curl/secrets.yaml"]


def test_uninstall_asks_and_a_no_changes_nothing(shell):
    done = shell.fsm("uninstall", "mesh", code=1, given="n\n")
    assert "Uninstall FSM [mesh name: fsm] in namespace [fsm-system]? [y/n]" in done.stderr
    assert shell.data("mesh", "list")[0]["mesh"] == "fsm"


def test_uninstall_takes_the_control_plane_and_leaves_the_policies(shell):
    done = shell.fsm("uninstall", "mesh", given="y\n")
    assert done.stdout == "FSM [mesh name: fsm] in namespace [fsm-system] uninstalled\n"
    assert "keep their sidecars" in done.stderr
    assert shell.fsm("mesh", "list").stdout == "No fsm mesh control planes found\n"
    assert "curl" in shell.kubectl("get", "traffictarget", "-n", "httpbin")
    # Nothing is refused by webhooks of a control plane that is gone.
    shell.kubectl("rollout", "restart", "deployment/curl", "-n", "curl")
    shell.kubectl("rollout", "status", "deployment/curl", "-n", "curl", "--timeout=40s")


def test_uninstall_of_everything_leaves_no_kind_behind(shell):
    shell.fsm("install")
    shell.fsm("uninstall", "mesh", "-f", "-a", "--delete-namespace")
    crds = shell.kubectl("get", "crd", "-o", "name").split()
    assert not [name for name in crds if name.endswith(("smi-spec.io", "flomesh.io"))]
    until(
        lambda: "fsm-system" not in shell.kubectl("get", "ns", "-o", "name"),
        "the namespace is gone",
    )
    assert "No fsm mesh" in shell.fsm("uninstall", "mesh", "-f").stdout
