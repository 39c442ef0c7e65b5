"""The kinds that the mesh brings: structural, complete, and at one with the policies."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import fsm.policies
from fsm.manifests import crds
from fsm.policies import BY_KIND, validate

OLDER = [crd for crd in crds() if crd["spec"]["group"].endswith("openservicemesh.io")]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in crds() if crd not in OLDER}
CASES = sorted(Path(fsm.policies.__file__).parent.glob("*/cases/*.yaml"))
SHORT = {
    "TrafficTarget": "tt",
    "HTTPRouteGroup": "htr",
    "TCPRoute": "tr",
    "TrafficSplit": "ts",
    "UDPRoute": "ur",
    "Retry": "rt",
    "Egress": "eg",
    "IngressBackend": "ib",
    "AccessControl": "acl",
    "AccessCert": "acct",
    "UpstreamTrafficSetting": "uts",
    "Plugin": "pi",
    "PluginChain": "pichn",
    "PluginConfig": "picfg",
    "MeshConfig": "meshconfig",
    "MeshRootCertificate": "mrc",
}


def schema(kind: str, version: str) -> dict[str, Any]:
    (found,) = [v for v in CRDS[kind]["spec"]["versions"] if v["name"] == version]
    schema: dict[str, Any] = found["schema"]["openAPIV3Schema"]
    return schema


def test_every_policy_has_a_kind_and_every_kind_a_policy() -> None:
    assert set(CRDS) == set(BY_KIND)


def test_kinds_of_the_older_generation_are_those_of_today_under_another_group() -> None:
    assert {crd["spec"]["names"]["kind"] for crd in OLDER} == {
        kind for kind, policy in BY_KIND.items() if len(policy.groups) > 1
    }
    for crd in OLDER:
        today = CRDS[crd["spec"]["names"]["kind"]]["spec"]
        assert crd["spec"]["versions"] == today["versions"]
        group = today["group"].replace("flomesh", "openservicemesh")
        assert crd["metadata"]["name"] == f"{today['names']['plural']}.{group}"


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_a_kind_is_named_as_users_type_it(kind: str) -> None:
    policy, spec = BY_KIND[kind], CRDS[kind]["spec"]
    assert CRDS[kind]["metadata"]["name"] == f"{policy.plural}.{policy.group}"
    assert spec["group"] == policy.group
    assert spec["names"]["plural"] == policy.plural
    assert spec["names"]["shortNames"] == [SHORT[kind]]
    assert tuple(v["name"] for v in spec["versions"]) == policy.versions
    assert [v["storage"] for v in spec["versions"]].index(True) == 0
    assert all(v["served"] and v["subresources"] == {"status": {}} for v in spec["versions"])


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_all_versions_keep_each_others_fields(kind: str) -> None:
    versions = CRDS[kind]["spec"]["versions"]
    assert all(v["schema"] == versions[0]["schema"] for v in versions)
    assert schema(kind, versions[0]["name"])["x-kubernetes-preserve-unknown-fields"] is True


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_schemas_are_structural_and_say_what_each_field_means(kind: str) -> None:
    def walk(node: dict[str, Any], path: str) -> None:
        free = node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or free or node.get("x-kubernetes-int-or-string"), path
        assert "default" not in node, path
        for name, child in node.get("properties", {}).items():
            assert child.get("description"), f"{path}.{name}"
            assert not child["description"].endswith(" ")
            walk(child, f"{path}.{name}")
        if "items" in node:
            walk(node["items"], f"{path}[]")

    walk(schema(kind, CRDS[kind]["spec"]["versions"][0]["name"]), kind)


@pytest.mark.parametrize("file", CASES, ids=lambda f: f"{f.parent.parent.name}/{f.stem}")
def test_what_the_policies_take_the_schema_takes(file: Path) -> None:
    obj = yaml.safe_load(file.read_text())["object"]
    if validate(obj):
        return
    version = obj["apiVersion"].partition("/")[2]
    jsonschema.Draft202012Validator(schema(obj["kind"], version)).validate(obj)


def test_every_caller_gets_a_copy_of_his_own() -> None:
    number = [crd["spec"]["names"]["kind"] for crd in crds()].index("TrafficSplit")
    first = crds()
    first[number]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"] = "changed"
    versions = crds()[number]["spec"]["versions"]
    assert {v["schema"]["openAPIV3Schema"]["type"] for v in versions} == {"object"}
    assert first[number]["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["type"] == "object"
