"""What a container sees: variables, fields, resolver, hosts."""

from __future__ import annotations

from typing import Any

import pytest

from fsm.standalone.node.environment import (
    EnvironmentProblem,
    environment,
    etc_hosts,
    expand,
    field,
    resolv_conf,
)

POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"app": "web"},
        "annotations": {"b": 'say "hi"\n', "a": "1"},
    },
    "spec": {"nodeName": "fsm"},
}
POD_IPS = ("10.244.0.9", "fd00::9")
NODE_IPS = ("10.244.0.1", "fd00::1")
CONFIG = {"metadata": {"name": "c"}, "data": {"A": "from-config", "k": "v"}}
SECRET = {"metadata": {"name": "s"}, "data": {"A": "ZnJvbS1zZWNyZXQ="}}
SOURCES = {("ConfigMap", "c"): CONFIG, ("Secret", "s"): SECRET, ("Secret", "no"): None}


def env(container: dict[str, Any], **base: str) -> dict[str, str]:
    return environment(POD, container, base, SOURCES, POD_IPS, NODE_IPS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(", "$A ${A} $("),
        ("$", "$"),
    ],
)
def test_references_expand_as_on_a_cluster(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_later_sources_override_earlier_ones() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}],
        "env": [{"name": "k", "value": "own"}, {"name": "both", "value": "$(A)+$(P_A)"}],
    }
    seen = env(container, A="image", HOME="/root")
    assert seen == {
        "A": "from-config",
        "HOME": "/root",
        "k": "own",
        "P_A": "from-secret",
        "both": "from-config+from-secret",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "c", "key": "zz"}}, 'couldn\'t find key "zz"'),
        ({"fieldRef": {"fieldPath": "status.phase"}}, "status.phase"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "resourceFieldRef"),
    ],
)
def test_missing_source_is_told(source: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message):
        env({"env": [{"name": "X", "valueFrom": source}]})


def test_optional_source_that_is_missing_leaves_the_variable_out() -> None:
    ref = {"secretKeyRef": {"name": "no", "key": "k", "optional": True}}
    entries = [{"name": "X", "valueFrom": ref}]
    assert env({"env": entries, "envFrom": [{"secretRef": {"name": "no", "optional": True}}]}) == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['none']", ""),
        ("metadata.annotations", 'a="1"\nb="say \\"hi\\"\\n"'),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.244.0.9"),
        ("status.podIPs", "10.244.0.9,fd00::9"),
        ("status.hostIPs", "10.244.0.1,fd00::1"),
        ("status.hostIP", "10.244.0.1"),
    ],
)
def test_field_reads(path: str, expected: str) -> None:
    assert field(POD, path, POD_IPS, NODE_IPS) == expected


def test_resolver_follows_policy_and_config() -> None:
    config = {
        "nameservers": ["127.0.0.153"],
        "searches": ["mesh"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    assert resolv_conf(POD, ("10.96.0.10",), "cluster.local", ()) == (
        "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "options ndots:5\n"
    )
    own = {**POD, "spec": {"dnsPolicy": "None", "dnsConfig": config}}
    assert resolv_conf(own, ("10.96.0.10",), "cluster.local", ()) == (
        "nameserver 127.0.0.153\nsearch mesh\noptions ndots:2 edns0\n"
    )
    default = {**POD, "spec": {"dnsPolicy": "Default"}}
    assert resolv_conf(default, ("10.96.0.10",), "cluster.local", ("9.9.9.9",)) == (
        "nameserver 9.9.9.9\n"
    )


def test_hosts_file_names_the_pod_and_its_aliases() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    pod = {**POD, "spec": {"hostname": "db-0", "subdomain": "db", "hostAliases": aliases}}
    lines = etc_hosts(pod, POD_IPS).splitlines()
    assert lines[-3:] == [
        "10.244.0.9\tdb-0.db.shop.svc.cluster.local\tdb-0",
        "fd00::9\tdb-0.db.shop.svc.cluster.local\tdb-0",
        "1.2.3.4\ta\tb",
    ]
