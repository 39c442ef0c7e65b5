"""What people type: the real kubectl against the embedded API server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: NS}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: NS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS}
data: {color: blue}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS, labels: {app: web}}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: web, image: "web:1", env: [{name: A, value: b}]}]
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: splits.mesh.example.com}
spec:
  group: mesh.example.com
  scope: Namespaced
  names: {plural: splits, singular: split, kind: Split, shortNames: [sp], categories: [all]}
  versions:
    - name: v1alpha1
      served: true
      storage: false
      schema: &schema
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [service]
              properties:
                service: {type: string}
                mode: {type: string, enum: [fast, slow], default: slow}
                backends:
                  type: array
                  items:
                    type: object
                    required: [name]
                    properties: {name: {type: string}, weight: {type: integer, minimum: 0}}
            status:
              type: object
              x-kubernetes-preserve-unknown-fields: true
      subresources: {status: {}}
    - name: v1
      served: true
      storage: true
      schema: *schema
      subresources: {status: {}}
      additionalPrinterColumns:
        - {name: Service, type: string, jsonPath: .spec.service}
        - {name: Backends, type: string, jsonPath: ".spec.backends[*].name"}
        - {name: Mode, type: string, jsonPath: .spec.mode, priority: 1}
"""


class Cluster(Protocol):
    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]: ...


def manifests(namespace: str) -> str:
    return MANIFESTS.replace("NS", namespace)


def get(cluster: Cluster, *arguments: str) -> Any:
    return json.loads(cluster.kubectl("get", *arguments, "-o", "json").stdout)


@pytest.fixture
def shop(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A namespace of its own for each test, with the manifests applied."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.kubectl("apply", "-f", "-", stdin=manifests(name))
    return name


def test_apply_creates_then_is_unchanged_then_configures(cluster: Cluster) -> None:
    text = manifests("applied")
    first = cluster.kubectl("apply", "-f", "-", stdin=text)
    assert first.stdout.count(" created") == 5
    assert first.stderr == ""
    again = cluster.kubectl("apply", "-f", "-", stdin=text)
    assert again.stdout.count(" unchanged") == 5
    changed = cluster.kubectl("apply", "-f", "-", stdin=text.replace("replicas: 2", "replicas: 5"))
    assert "deployment.apps/web configured" in changed.stdout
    assert changed.stdout.count(" unchanged") == 4
    assert get(cluster, "deploy", "web", "-n", "applied")["spec"]["replicas"] == 5


def test_apply_removes_what_the_manifest_no_longer_says(cluster: Cluster, shop: str) -> None:
    cluster.kubectl(
        "apply", "-f", "-", stdin=manifests(shop).replace(", env: [{name: A, value: b}]", "")
    )
    container = get(cluster, "deploy", "web", "-n", shop)["spec"]["template"]["spec"]["containers"]
    assert "env" not in container[0]
    assert container[0]["image"] == "web:1"


def test_tables_look_as_users_know_them(cluster: Cluster, shop: str) -> None:
    header, row = cluster.kubectl("get", "svc", "-n", shop).stdout.splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row.split()[:2] == ["web", "ClusterIP"]
    assert row.split()[4] == "80/TCP"
    wide = cluster.kubectl("get", "deploy", "-n", shop, "-o", "wide").stdout.splitlines()
    assert wide[0].split() == [
        "NAME",
        "READY",
        "UP-TO-DATE",
        "AVAILABLE",
        "AGE",
        "CONTAINERS",
        "IMAGES",
        "SELECTOR",
    ]
    assert wide[1].split()[1] == "0/2"
    assert wide[1].split()[-1] == "app=web"
    everywhere = cluster.kubectl("get", "cm", "-A").stdout
    assert everywhere.splitlines()[0].split() == ["NAMESPACE", "NAME", "DATA", "AGE"]
    assert "kube-root-ca.crt" in everywhere


def test_output_formats(cluster: Cluster, shop: str) -> None:
    where = ("-n", shop)
    assert cluster.kubectl("get", "deploy", *where, "-o", "name").stdout == "deployment.apps/web\n"
    path = "jsonpath={.items[*].metadata.name}"
    assert cluster.kubectl("get", "sa", *where, "-o", path).stdout == "default web"
    shown = yaml.safe_load(cluster.kubectl("get", "svc", "web", *where, "-o", "yaml").stdout)
    assert shown["kind"] == "Service"
    assert shown["spec"]["clusterIP"].startswith("10.96.")
    columns = "custom-columns=N:.metadata.name,P:.spec.ports[0].port"
    assert cluster.kubectl("get", "svc", *where, "-o", columns).stdout.split()[-1] == "80"


def test_selectors(cluster: Cluster, shop: str) -> None:
    where = ("-n", shop, "-o", "name")
    assert cluster.kubectl("get", "svc,deploy", "-l", "app=web", *where).stdout.split() == [
        "service/web",
        "deployment.apps/web",
    ]
    assert cluster.kubectl("get", "svc", "-l", "app notin (web)", *where).stdout == ""
    found = cluster.kubectl("get", "sa", "--field-selector", "metadata.name=web", *where)
    assert found.stdout == "serviceaccount/web\n"
    bad = cluster.kubectl("get", "sa", "--field-selector", "spec.x=1", *where, check=False)
    assert "field label not supported" in bad.stderr


def test_describe_every_kind_without_error(cluster: Cluster, shop: str) -> None:
    shown = cluster.kubectl("describe", "all,cm,sa,ns", "-n", shop).stdout
    assert re.search(r"^Selector: +app=web$", shown, re.MULTILINE)


def test_label_annotate_and_three_kinds_of_patch(cluster: Cluster, shop: str) -> None:
    target = ("deploy", "web", "-n", shop)
    cluster.kubectl("label", *target, "tier=front")
    cluster.kubectl("annotate", *target, "note=hello world")
    body = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:1"}]}}}}'
    cluster.kubectl("patch", *target, "-p", body)
    cluster.kubectl("patch", *target, "--type", "merge", "-p", '{"spec":{"replicas":3}}')
    operation = '[{"op":"add","path":"/metadata/labels/zone","value":"a"}]'
    cluster.kubectl("patch", *target, "--type", "json", "-p", operation)
    found = get(cluster, *target)
    assert found["metadata"]["labels"] == {"app": "web", "tier": "front", "zone": "a"}
    assert found["metadata"]["annotations"]["note"] == "hello world"
    names = [c["name"] for c in found["spec"]["template"]["spec"]["containers"]]
    # The strategic merge keeps the container that the patch does not name.
    assert sorted(names) == ["side", "web"]
    assert found["spec"]["replicas"] == 3
    again = cluster.kubectl("label", *target, "tier=back", check=False)
    assert "already has a value" in again.stderr
    cluster.kubectl("label", *target, "tier-")
    assert "tier" not in get(cluster, *target)["metadata"]["labels"]


def test_scale_set_image_and_restart(cluster: Cluster, shop: str) -> None:
    target = ("deploy/web", "-n", shop)
    cluster.kubectl("scale", *target, "--replicas=7")
    cluster.kubectl("set", "image", *target, "web=web:2")
    cluster.kubectl("rollout", "restart", *target)
    found = get(cluster, "deploy", "web", "-n", shop)
    assert found["spec"]["replicas"] == 7
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    assert found["metadata"]["generation"] == 4
    wrong = cluster.kubectl("scale", *target, "--replicas=1", "--current-replicas=3", check=False)
    assert "7" in wrong.stderr


def test_imperative_create_speaks_protobuf(cluster: Cluster, kubectl_minor: int) -> None:
    where = ("-n", "made")
    cluster.kubectl("create", "namespace", "made")
    cluster.kubectl("create", "sa", "bot", *where)
    cluster.kubectl("create", "secret", "generic", "s", "--from-literal=a=b", *where)
    cluster.kubectl("create", "configmap", "c", "--from-literal=a=b", *where)
    cluster.kubectl("create", "deployment", "d", "--image=x:1", "--replicas=0", *where)
    cluster.kubectl("create", "job", "j", "--image=x:1", *where, "--", "sleep", "1")
    cluster.kubectl("create", "service", "nodeport", "n", "--tcp=80:8080", *where)
    cluster.kubectl("create", "ingress", "i", "--rule=host/path*=svc:80", *where)
    told = cluster.kubectl("create", "quota", "q", "--hard=pods=2", *where).stderr
    assert "resourcequotas are stored, but nothing acts on them" in told
    assert get(cluster, "quota", "q", *where)["spec"] == {"hard": {"pods": "2"}}
    cluster.kubectl("create", "cronjob", "cj", "--image=x:1", "--schedule=* * * * *", *where)
    cluster.kubectl("create", "pdb", "b", "--selector=a=b", "--min-available=1", *where)
    shown = cluster.kubectl("get", "cj,pdb,ingress", *where).stdout
    assert re.search(r"^NAME +SCHEDULE +TIMEZONE +SUSPEND +ACTIVE +LAST SCHEDULE", shown, re.M)
    assert re.search(r"^cronjob.batch/cj +\* \* \* \* \* +<none> +False +0 +<none>", shown, re.M)
    assert re.search(r"^poddisruptionbudget.policy/b +1 +N/A +0", shown, re.M)
    assert re.search(r"^ingress.networking.k8s.io/i +<none> +host +80", shown, re.M)
    cluster.kubectl("create", "priorityclass", "p", "--value=3")
    assert get(cluster, "priorityclass", "p")["value"] == 3
    cluster.kubectl("expose", "deploy", "d", "--port=80", "--target-port=web", *where)
    assert get(cluster, "secret", "s", *where)["data"] == {"a": "Yg=="}
    assert get(cluster, "cm", "c", *where)["data"] == {"a": "b"}
    assert get(cluster, "deploy", "d", *where)["spec"]["replicas"] == 0
    job = get(cluster, "job", "j", *where)["spec"]
    assert job["template"]["spec"]["containers"][0]["command"] == ["sleep", "1"]
    port = get(cluster, "svc", "n", *where)["spec"]["ports"][0]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    assert 30000 <= port["nodePort"] < 32768
    assert get(cluster, "svc", "d", *where)["spec"]["ports"][0]["targetPort"] == "web"
    assert get(cluster, "ingress", "i", *where)["spec"]["rules"][0]["host"] == "host"
    if kubectl_minor < 24:
        return
    token = cluster.kubectl("create", "token", "bot", *where).stdout.strip()
    assert token.count(".") == 2
    told = cluster.kubectl("create", "namespace", "Not_A_Name", check=False).stderr
    assert "lowercase RFC 1123 label" in told


def test_who_am_i(cluster: Cluster, kubectl_minor: int) -> None:
    if kubectl_minor < 28:
        pytest.skip("kubectl auth whoami asks for a beta version before 1.28")
    assert "kubernetes-admin" in cluster.kubectl("auth", "whoami").stdout


def test_what_may_i(cluster: Cluster) -> None:
    assert cluster.kubectl("auth", "can-i", "delete", "pods").stdout == "yes\n"
    nobody = ("--as", "system:serviceaccount:default:default")
    refused = cluster.kubectl("auth", "can-i", "get", "secrets", *nobody, check=False)
    assert refused.stdout == "no\n"
    told = cluster.kubectl("get", "secrets", *nobody, check=False).stderr
    assert 'cannot list resource "secrets"' in told


def test_unknown_and_wrong_fields_are_refused_without_flags(cluster: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "wrong"},
        "spec": {"containers": [{"name": "c", "image": "x", "imagge": "y"}], "hostNetwrk": True},
    }
    told = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod), check=False).stderr
    assert 'unknown field "spec.containers[0].imagge"' in told
    assert 'unknown field "spec.hostNetwrk"' in told
    pod["spec"] = {"containers": [{"name": "c", "image": 5}]}
    told = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod), check=False).stderr
    assert "spec.containers[0].image: expected a string, got 5" in told
    pod["spec"] = {"containers": [{"name": "UPPER"}, {"name": "b", "image": "x"}]}
    told = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod), check=False).stderr
    assert "spec.containers[0].name" in told
    assert "spec.containers[0].image: Required value" in told


RULED = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ranges.mesh.example.com}
spec:
  group: mesh.example.com
  scope: Namespaced
  names: {plural: ranges, singular: range, kind: Range}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {low: {type: integer}, high: {type: integer}}
              x-kubernetes-validations:
                - {rule: "self.low <= self.high", message: low is above high}
                - {rule: "self.high >= oldSelf.high", message: high never falls}
                - {rule: "quantity('1').isLessThan(quantity('2'))"}
"""


def test_rules_of_crds_refuse_objects_in_their_words(cluster: Cluster) -> None:
    done = cluster.kubectl("apply", "-f", "-", stdin=RULED)
    assert "not evaluated" in done.stderr
    assert "quantity" in done.stderr
    wrong = RULED.replace("self.low <= self.high", "self.low <=").replace("ranges", "others")
    assert (
        "compilation failed" in cluster.kubectl("apply", "-f", "-", stdin=wrong, check=False).stderr
    )

    def put(low: int, high: int) -> str:
        text = (
            "apiVersion: mesh.example.com/v1\nkind: Range\nmetadata: {name: r}\n"
            f"spec: {{low: {low}, high: {high}}}\n"
        )
        return cluster.kubectl("apply", "-f", "-", stdin=text, check=False).stderr

    assert 'spec: Invalid value: "object": low is above high' in put(2, 1)
    assert put(1, 5) == ""
    assert "high never falls" in put(1, 4)
    assert put(1, 6) == ""


def test_dry_run_stores_nothing_and_diff_tells(cluster: Cluster, shop: str) -> None:
    text = manifests(shop).replace("web:1", "web:9").replace("color: blue", "color: red")
    done = cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=text)
    assert "deployment.apps/web configured (server dry run)" in done.stdout
    assert get(cluster, "cm", "settings", "-n", shop)["data"] == {"color": "blue"}
    told = cluster.kubectl("diff", "-f", "-", stdin=text, check=False)
    assert told.returncode == 1
    assert "+  color: red" in told.stdout
    assert cluster.kubectl("diff", "-f", "-", stdin=manifests(shop)).returncode == 0


def test_server_side_apply(cluster: Cluster, shop: str) -> None:
    def config(color: str, **more: str) -> str:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"color": color} | more}
        return json.dumps(body | {"metadata": {"name": "ssa", "namespace": shop}})

    def apply(manager: str, text: str, *more: str, check: bool = True) -> str:
        flags = ("--server-side", f"--field-manager={manager}", *more)
        done = cluster.kubectl("apply", *flags, "-f", "-", stdin=text, check=check)
        return done.stdout + done.stderr

    assert "serverside-applied" in apply("a", config("blue", size="1", shape="round"))
    # What a manager no longer wants goes, what it never wanted stays.
    apply("b", json.dumps(json.loads(config("blue")) | {"data": {"extra": "b"}}))
    apply("a", config("blue", size="1"))
    assert get(cluster, "cm", "ssa", "-n", shop)["data"] == {
        "color": "blue",
        "size": "1",
        "extra": "b",
    }
    told = apply("b", config("red", extra="b"), check=False)
    assert 'conflict with "a"' in told
    assert ".data.color" in told
    apply("b", config("red", extra="b"), "--force-conflicts")
    assert get(cluster, "cm", "ssa", "-n", shop)["data"]["color"] == "red"


def test_delete_and_namespace_life(cluster: Cluster, shop: str) -> None:
    cluster.kubectl("delete", "deploy", "web", "-n", shop)
    missing = cluster.kubectl("get", "deploy", "web", "-n", shop, check=False)
    assert 'deployments.apps "web" not found' in missing.stderr
    cluster.kubectl("delete", "ns", shop, "--wait=false")
    namespace = get(cluster, "ns", shop)
    assert namespace["status"]["phase"] == "Terminating"
    late = cluster.kubectl("create", "configmap", "late", "-n", shop, check=False)
    assert "because it is being terminated" in late.stderr
    namespace["spec"]["finalizers"] = []
    cluster.kubectl(
        "replace",
        "--raw",
        f"/api/v1/namespaces/{shop}/finalize",
        "-f",
        "-",
        stdin=json.dumps(namespace),
    )
    gone = cluster.kubectl("get", "ns", shop, check=False)
    assert "not found" in gone.stderr
    assert "forbidden" in cluster.kubectl("delete", "ns", "default", check=False).stderr


def test_watch_prints_changes(cluster: Cluster, shop: str) -> None:
    cluster.kubectl("annotate", "cm", "settings", "-n", shop, "a=b")
    # The server ends the watch, so the command ends by itself after what it was asked to show.
    shown = cluster.kubectl(
        "get",
        "--raw",
        f"/api/v1/namespaces/{shop}/configmaps?watch=true&timeoutSeconds=1"
        "&fieldSelector=metadata.name%3Dsettings",
    )
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [event["type"] for event in events] == ["ADDED"]
    table = cluster.kubectl("get", "cm", "-n", shop, "-w", "--request-timeout=2s", check=False)
    assert table.stdout.splitlines()[0].split() == ["NAME", "DATA", "AGE"]
    assert table.stdout.count("NAME") == 1


def test_wait_for_a_condition(cluster: Cluster, shop: str, kubectl_minor: int) -> None:
    if kubectl_minor < 24:
        pytest.skip("kubectl patches the status apart from 1.24 on")
    patch = '{"status":{"conditions":[{"type":"Available","status":"True"}]}}'
    cluster.kubectl(
        "patch", "deploy", "web", "-n", shop, "--subresource=status", "--type=merge", "-p", patch
    )
    done = cluster.kubectl(
        "wait", "deploy/web", "-n", shop, "--for=condition=Available", "--timeout=10s"
    )
    assert "condition met" in done.stdout


def test_custom_kinds(cluster: Cluster, shop: str, kubectl_minor: int) -> None:
    assert "created" in cluster.kubectl("apply", "-f", "-", stdin=CRD).stdout
    cluster.kubectl(
        "wait", "crd/splits.mesh.example.com", "--for=condition=Established", "--timeout=10s"
    )
    assert "unchanged" in cluster.kubectl("apply", "-f", "-", stdin=CRD).stdout
    assert "splits" in cluster.kubectl("api-resources", "--api-group=mesh.example.com").stdout

    def split(version: str = "v1", **spec: Any) -> str:
        return json.dumps(
            {
                "apiVersion": f"mesh.example.com/{version}",
                "kind": "Split",
                "metadata": {"name": "one", "namespace": shop},
                "spec": spec,
            }
        )

    apply = ("apply", "-f", "-")
    bad = cluster.kubectl(*apply, stdin=split(service="s", colour="red"), check=False)
    if kubectl_minor < 27:
        # It does not ask that unknown fields be refused: they are dropped.
        cluster.kubectl("delete", "sp", "one", "-n", shop)
    else:
        assert 'unknown field "spec.colour"' in bad.stderr
    wrong = split(mode="warp", backends=[{"weight": -1}, {"name": 3}])
    told = cluster.kubectl(*apply, stdin=wrong, check=False).stderr
    for part in (
        "spec.service: Required value",
        'spec.mode: Unsupported value: "warp"',
        "spec.backends[0].name: Required value",
        "spec.backends[0].weight: Invalid value: -1",
        "spec.backends[1].name: Invalid value: 3",
    ):
        assert part in told
    good = split("v1alpha1", service="s", backends=[{"name": "a"}, {"name": "b"}])
    assert "created" in cluster.kubectl(*apply, stdin=good).stdout
    assert "unchanged" in cluster.kubectl(*apply, stdin=good).stdout
    rows = cluster.kubectl("get", "sp", "-n", shop).stdout.splitlines()
    assert [row.split() for row in rows] == [["NAME", "SERVICE", "BACKENDS"], ["one", "s", "a,b"]]
    assert "slow" in cluster.kubectl("get", "sp", "-n", shop, "-o", "wide").stdout
    assert "split.mesh.example.com/one" in cluster.kubectl("get", "all", "-n", shop).stdout
    stored = get(cluster, "splits.v1alpha1.mesh.example.com", "one", "-n", shop)
    assert stored["apiVersion"] == "mesh.example.com/v1alpha1"
    assert stored["spec"]["mode"] == "slow"
    # Status is written apart: neither write touches the other part.
    changed = {"status": {"ok": True}, "spec": {"service": "other"}}
    if kubectl_minor < 24:
        path = f"/apis/mesh.example.com/v1/namespaces/{shop}/splits/one"
        whole = json.loads(cluster.kubectl("get", "--raw", path).stdout) | changed
        cluster.kubectl("replace", "--raw", f"{path}/status", "-f", "-", stdin=json.dumps(whole))
    else:
        words = ("patch", "sp", "one", "-n", shop, "--type=merge", "--subresource=status")
        cluster.kubectl(*words, "-p", json.dumps(changed))
    cluster.kubectl(
        "patch",
        "sp",
        "one",
        "-n",
        shop,
        "--type=merge",
        "-p",
        '{"status":{"ok":false},"spec":{"mode":"fast"}}',
    )
    found = get(cluster, "sp", "one", "-n", shop)
    assert found["status"] == {"ok": True}
    assert (found["spec"]["service"], found["spec"]["mode"]) == ("s", "fast")
    assert found["metadata"]["generation"] == 2
    if kubectl_minor >= 27:
        assert "mesh.example.com" in cluster.kubectl("explain", "splits.spec").stdout
    cluster.kubectl("delete", "crd", "splits.mesh.example.com")
    gone = cluster.kubectl("get", "splits", "-n", shop, check=False)
    # kubectl still has the kind in its discovery cache; the server has not.
    assert "could not find the requested resource" in gone.stderr


def test_broken_crd_is_refused_with_every_reason(cluster: Cluster) -> None:
    crd = yaml.safe_load(CRD)
    crd["metadata"]["name"] = "wrong.example.com"
    crd["spec"]["scope"] = "Galaxy"
    crd["spec"]["versions"][0]["schema"] = {
        "openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "strng"}}}
    }
    crd["spec"]["versions"][1].pop("schema")
    told = cluster.kubectl("create", "-f", "-", stdin=json.dumps(crd), check=False).stderr
    for part in ("metadata.name", "spec.scope", "properties[a].type", "versions[1].schema"):
        assert part in told


def test_raw_paths_and_cluster_info(cluster: Cluster, kubectl_minor: int) -> None:
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"
    assert json.loads(cluster.kubectl("get", "--raw", "/version").stdout)["major"] == "1"
    assert "https://127.0.0.1:" in cluster.kubectl("cluster-info").stdout
    listed = cluster.kubectl("api-resources", "-o", "name").stdout.split()
    assert {"pods", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(listed)
    if kubectl_minor >= 27:
        assert "containers" in cluster.kubectl("explain", "pod.spec").stdout
    hint = cluster.kubectl("exec", "nobody", "--", "ls", check=False).stderr
    assert "not found" in hint or "not served" in hint


def test_what_every_pod_relies_on_comes_back_when_it_is_deleted(
    cluster: Cluster, shop: str
) -> None:
    before = get(cluster, "cm", "kube-root-ca.crt", "-n", shop)
    cluster.kubectl("delete", "cm", "--all", "-n", shop)
    cluster.kubectl("delete", "sa", "default", "-n", shop)
    after = get(cluster, "cm", "kube-root-ca.crt", "-n", shop)
    assert after["data"] == before["data"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    listed = cluster.kubectl("get", "sa,cm", "-n", shop, "-o", "name").stdout.split()
    assert "serviceaccount/default" in listed
    assert "configmap/settings" not in listed


def test_a_version_that_is_not_served_is_answered_with_those_that_are(cluster: Cluster) -> None:
    path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
    told = cluster.kubectl("get", "--raw", path, check=False).stderr
    assert "autoscaling/v2" in told


def test_what_is_larger_than_a_megabyte_is_refused(
    cluster: Cluster, shop: str, tmp_path: Path
) -> None:
    fits, large = tmp_path / "fits", tmp_path / "large"
    fits.write_bytes(b"x" * (1 << 20))
    large.write_bytes(b"x" * ((1 << 20) + 1))
    for kind in ("configmap", "secret generic"):
        where = ("create", *kind.split(), "-n", shop)
        cluster.kubectl(*where, "fits", f"--from-file=a={fits}")
        told = cluster.kubectl(*where, "large", f"--from-file=a={large}", check=False).stderr
        assert "data: Too long: may not be more than 1048576 bytes" in told
