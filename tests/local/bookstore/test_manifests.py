"""The manifests: complete, consistent with the applications, and the newest ones say the same."""

from pathlib import Path

import pytest
import yaml
from fsm_bookstore import settings

MANIFESTS = Path(__file__).resolve().parents[3] / "examples" / "bookstore" / "manifests"


def load(path):
    return [doc for doc in yaml.safe_load_all(path.read_text()) if doc]


def every():
    return [doc for path in sorted(MANIFESTS.rglob("*.yaml")) for doc in load(path)]


def normal(doc):
    """Return a policy as its newest version would be written."""
    text = doc["apiVersion"].split("/")[0]
    copy = yaml.safe_load(yaml.safe_dump(doc))
    copy["apiVersion"] = text
    spec = copy["spec"]
    if copy["kind"] == "TrafficSplit":
        spec["service"] = spec["service"].split(".")[0]
    for match in spec.get("matches", []):
        match["headers"] = {k: v for entry in match.get("headers", []) for k, v in entry.items()}
    return copy


def test_every_object_names_its_namespace():
    for doc in every():
        assert doc["metadata"]["namespace"], doc


def test_every_application_has_its_own_service_account():
    deployments = [doc for doc in every() if doc["kind"] == "Deployment"]
    accounts = {
        (doc["metadata"]["namespace"], doc["metadata"]["name"])
        for doc in every()
        if doc["kind"] == "ServiceAccount"
    }
    used = [
        (d["metadata"]["namespace"], d["spec"]["template"]["spec"]["serviceAccountName"])
        for d in deployments
    ]
    assert len(deployments) == 5
    assert len(set(used)) == 5
    assert set(used) == accounts


def test_the_policies_name_service_accounts_and_routes_that_exist():
    docs = every()
    names = {(d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in docs}
    targets = [d for d in docs if d["kind"] == "TrafficTarget"]
    assert targets
    for target in targets:
        spec = target["spec"]
        for account in [spec["destination"], *spec["sources"]]:
            assert ("ServiceAccount", account["namespace"], account["name"]) in names
        for rule in spec["rules"]:
            key = (rule["kind"], target["metadata"]["namespace"], rule["name"])
            assert key in names
            group = next(d for d in docs if (d["kind"], d["metadata"]["name"]) == (key[0], key[2]))
            assert set(rule["matches"]) <= {m["name"] for m in group["spec"]["matches"]}


@pytest.mark.parametrize(
    "path", sorted((MANIFESTS / "newest").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_newest_copy_says_the_same_as_the_old_one(path):
    (old,) = [p for p in MANIFESTS.rglob(path.name) if p.parent.name != "newest"]
    versions = {
        "TrafficTarget": "access.smi-spec.io/v1alpha3",
        "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
        "TrafficSplit": "split.smi-spec.io/v1alpha4",
    }
    assert [normal(d) for d in load(path)] == [normal(d) for d in load(old)]
    for doc in load(path):
        assert doc["apiVersion"] == versions[doc["kind"]]


def test_the_environment_in_the_manifests_is_what_the_applications_read():
    for doc in every():
        if doc["kind"] != "Deployment":
            continue
        (container,) = doc["spec"]["template"]["spec"]["containers"]
        env = {entry["name"]: entry["value"] for entry in container.get("env", [])}
        assert settings.port({}) == container["ports"][0]["containerPort"]
        for name in env:
            if name.endswith("_URL"):
                assert settings.target(name, "", env).port == 14001
        if "SHOP_INTERVAL_MS" in env:
            assert settings.interval_ms(env) == 1000
        if "IDENTITY" in env:
            assert settings.identity("", env) == doc["metadata"]["name"]


def test_every_application_says_how_to_ask_whether_it_is_ready():
    for doc in every():
        if doc["kind"] != "Deployment":
            continue
        (container,) = doc["spec"]["template"]["spec"]["containers"]
        ask = container["readinessProbe"]["httpGet"]
        assert ask["path"] == "/health"
        assert ask["port"] in [port["name"] for port in container["ports"]]


def test_the_thief_is_the_only_difference_when_the_thief_is_allowed():
    (usual, *_) = load(MANIFESTS / "access" / "traffic-access.yaml")
    (allowed,) = load(
        MANIFESTS / "access-allow-bookthief" / "traffic-access-v1-allow-bookthief.yaml"
    )
    thief = {"kind": "ServiceAccount", "name": "bookthief", "namespace": "bookthief"}
    usual["spec"]["sources"].append(thief)
    assert allowed == usual
