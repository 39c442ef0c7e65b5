"""The injector's decision and patch, by tables; the patch is applied, and the result looked at."""

from __future__ import annotations

import copy
import subprocess
from typing import Any

import jsonpatch
import pytest

from fsm.injector import InjectionSettings, Refusal, inject
from fsm.model import MeshConfig, Sidecar, Traffic

CLUSTER = InjectionSettings(sidecar_image="flomesh/pipy:1", init_image="flomesh/init:1")
BOX = InjectionSettings(mark=0xF5)
KEY = "flomesh.io/sidecar-injection"


def namespace(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "shop",
            "labels": {"flomesh.io/monitored-by": "fsm"},
            "annotations": annotations,
        }
    }


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"generateName": "web-", "namespace": "shop"}
    if annotations is not None:
        meta["annotations"] = annotations
    return {"metadata": meta, "spec": {"containers": [{"name": "app", "image": "app"}], **spec}}


def injected(
    obj: dict[str, Any],
    around: dict[str, Any] | None = None,
    mesh: MeshConfig | None = None,
    settings: InjectionSettings = CLUSTER,
) -> dict[str, Any]:
    around = around or namespace(**{KEY: "enabled"})
    patch = inject(obj, around, mesh or MeshConfig(), settings, "uuid-1")
    assert isinstance(patch, list), patch
    result: dict[str, Any] = jsonpatch.apply_patch(obj, patch)
    return result


def sidecar_of(obj: dict[str, Any]) -> dict[str, Any]:
    (found,) = [c for c in obj["spec"]["initContainers"] if c["name"] == "sidecar"]
    return found


def ruleset_of(obj: dict[str, Any]) -> str:
    program, *words = obj["spec"]["initContainers"][0]["command"]
    if program == "nft":
        (text,) = words
        return text
    # Where UDP is captured: a script, its name, and the rules with and without.
    assert program == "sh"
    return words[3]


YES, NO = "injected", "left alone"


@pytest.mark.parametrize(
    ("on_pod", "on_namespace", "outcome"),
    [
        (None, None, NO),
        (None, "enabled", YES),
        (None, "yes", YES),
        (None, "true", YES),
        (None, "True", YES),
        (None, " ENABLED ", YES),
        (None, "disabled", NO),
        (None, "no", NO),
        (None, "false", NO),
        ("enabled", None, YES),
        ("yes", "disabled", YES),
        ("true", "no", YES),
        ("disabled", "enabled", NO),
        ("no", "yes", NO),
        ("false", "true", NO),
        (None, "perhaps", "annotation flomesh.io/sidecar-injection of the Namespace is 'perhaps'"),
        ("", "enabled", "of the Pod is ''"),
        ("1", "enabled", "of the Pod is '1'"),
        ("disabled", "perhaps", NO),
        ("enabled", "perhaps", YES),
    ],
)
def test_the_switch_is_the_pods_word_else_its_namespaces(on_pod, on_namespace, outcome):
    around = namespace(**({KEY: on_namespace} if on_namespace is not None else {}))
    result = inject(
        pod({KEY: on_pod} if on_pod is not None else None), around, MeshConfig(), CLUSTER, "u"
    )
    if outcome == YES:
        assert isinstance(result, list)
    elif outcome == NO:
        assert result is None
    else:
        assert isinstance(result, Refusal)
        assert outcome in result.reason
        assert "enabled, yes, true or disabled, no, false" in result.reason


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"flomesh.io/monitored-by": "other"},
        {"flomesh.io/monitored-by": "fsm", "flomesh.io/ignore": "true"},
    ],
    ids=["none", "other-mesh", "ignored"],
)
def test_namespaces_that_are_not_of_this_mesh_are_left_alone(labels):
    around = namespace(**{KEY: "enabled"})
    around["metadata"]["labels"] = labels
    assert inject(pod({KEY: "enabled"}), around, MeshConfig(), CLUSTER, "u") is None


def test_the_old_names_of_labels_and_annotations_work():
    around = namespace(**{"openservicemesh.io/sidecar-injection": "enabled"})
    around["metadata"]["labels"] = {"openservicemesh.io/monitored-by": "fsm"}
    assert isinstance(inject(pod(), around, MeshConfig(), CLUSTER, "u"), list)


def test_a_pod_in_the_hosts_network_is_never_injected():
    assert (
        inject(pod({KEY: "enabled"}, hostNetwork=True), namespace(), MeshConfig(), CLUSTER, "u")
        is None
    )


def test_an_injected_pod_is_not_injected_again_and_the_argument_stays_as_it_was():
    original = pod(initContainers=[{"name": "migrate"}], volumes=[{"name": "data"}])
    before = copy.deepcopy(original)
    once = injected(original)
    assert original == before
    assert inject(once, namespace(**{KEY: "enabled"}), MeshConfig(), CLUSTER, "u2") is None


def test_a_label_alone_does_not_pass_for_an_injected_pod():
    obj = pod()
    obj["metadata"]["labels"] = {"fsm-proxy-uuid": "forged", "app": "web"}
    result = injected(obj)
    assert result["metadata"]["labels"] == {"fsm-proxy-uuid": "uuid-1", "app": "web"}
    assert [c["name"] for c in result["spec"]["initContainers"]] == ["fsm-init", "sidecar"]


def test_ours_come_first_and_the_pods_own_stay_in_order():
    obj = pod(
        initContainers=[{"name": "a"}, {"name": "b"}], volumes=[{"name": "data", "emptyDir": {}}]
    )
    result = injected(obj)
    names = [c["name"] for c in result["spec"]["initContainers"]]
    assert names == ["fsm-init", "sidecar", "a", "b"]
    assert [v["name"] for v in result["spec"]["volumes"]] == ["data", "fsm-identity"]
    assert result["spec"]["containers"] == obj["spec"]["containers"]


def test_the_sidecar_is_native_unprivileged_and_proves_itself_by_a_bound_token():
    result = injected(pod())
    sidecar = sidecar_of(result)
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "flomesh/pipy:1"
    assert sidecar["command"] == [
        "pipy",
        "sidecar",
        "--control-plane",
        "https://fsm-controller.fsm-system.svc:15128",
        "--ca",
        "/var/run/secrets/fsm/ca.crt",
        "--token",
        "/var/run/secrets/fsm/token",
        "--workers",
        "1",
    ]
    ports = {p["name"]: p["containerPort"] for p in sidecar["ports"]}
    assert ports == {
        "proxy-admin": 15000,
        "proxy-outbound": 15001,
        "proxy-inbound": 15003,
        "proxy-metrics": 15010,
    }
    assert sidecar["securityContext"]["runAsUser"] == 1500
    assert sidecar["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/ready", "port": 15010}
    names = {e["name"] for e in sidecar["env"]}
    assert names == {
        "POD_NAME",
        "POD_NAMESPACE",
        "POD_UID",
        "POD_IP",
        "SERVICE_ACCOUNT",
        "MESH_NAME",
        "POD_CONTROLLER_KIND",
        "POD_CONTROLLER_NAME",
    }
    (volume,) = result["spec"]["volumes"]
    token, roots = volume["projected"]["sources"]
    assert token["serviceAccountToken"] == {
        "audience": "fsm-controller",
        "expirationSeconds": 3600,
        "path": "token",
    }
    assert roots["configMap"]["name"] == "fsm-ca-bundle"


def test_in_the_box_the_sidecar_is_told_apart_by_its_mark():
    result = injected(pod(), settings=BOX)
    sidecar = sidecar_of(result)
    assert sidecar["command"][-3:] == ["--mark", "0xf5", "--udp"]
    assert "runAsUser" not in sidecar["securityContext"]
    assert sidecar["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW"]
    assert "meta mark 0xf5" in ruleset_of(result)
    assert "skuid" not in ruleset_of(result)
    assert "meta skuid 1500" in ruleset_of(injected(pod()))


def test_only_a_sidecar_that_is_root_carries_udp():
    boxed, plain = injected(pod(), settings=BOX), injected(pod())
    assert "tproxy" in ruleset_of(boxed)
    assert "tproxy" not in ruleset_of(plain)
    assert "--udp" not in sidecar_of(plain)["command"]
    # What is installed where the kernel cannot capture.
    assert "tproxy" not in boxed["spec"]["initContainers"][0]["command"][-1]


@pytest.mark.parametrize(
    ("meta", "owner"),
    [
        ({}, ("Pod", "web")),
        (
            {
                "labels": {"pod-template-hash": "5d4"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d4", "controller": True}],
            },
            ("Deployment", "web"),
        ),
        (
            {"ownerReferences": [{"kind": "ReplicaSet", "name": "bare", "controller": True}]},
            ("ReplicaSet", "bare"),
        ),
        (
            {
                "ownerReferences": [
                    {"kind": "Other", "name": "o"},
                    {"kind": "StatefulSet", "name": "db", "controller": True},
                ]
            },
            ("StatefulSet", "db"),
        ),
    ],
    ids=["bare", "deployment", "replicaset", "statefulset"],
)
def test_the_sidecar_learns_what_owns_its_pod(meta, owner):
    obj = pod()
    obj["metadata"] |= meta
    env = {e["name"]: e.get("value") for e in sidecar_of(injected(obj))["env"]}
    assert (env["POD_CONTROLLER_KIND"], env["POD_CONTROLLER_NAME"]) == owner


def test_exclusions_of_mesh_and_pod_add_up():
    mesh = MeshConfig(
        traffic=Traffic(
            outbound_port_exclusion_list=(5432,),
            outbound_ip_range_exclusion_list=("10.0.0.0/8",),
            inbound_port_exclusion_list=(8081,),
            network_interface_exclusion_list=("net1",),
        )
    )
    notes = {
        "flomesh.io/outbound-port-exclusion-list": "3306, 5432",
        "flomesh.io/inbound-port-exclusion-list": "9000",
        "flomesh.io/outbound-ip-range-exclusion-list": "10.1.2.3, 192.168.0.0/16,fd00::/8",
    }
    text = ruleset_of(injected(pod(notes), mesh=mesh))
    assert "tcp dport { 3306, 5432 } return" in text
    assert "8081, 9000, 15000, 15010, 15901" in text
    assert "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } return" in text
    assert "ip6 daddr { fd00::/8 } return" in text
    assert 'oifname { "net1" } return' in text


def test_an_inclusion_list_redirects_nothing_else():
    notes = {"flomesh.io/outbound-ip-range-inclusion-list": "10.96.0.0/16"}
    lines = ruleset_of(injected(pod(notes))).splitlines()
    redirects = [line.strip() for line in lines if ":15001" in line]
    assert redirects == ["ip daddr { 10.96.0.0/16 } meta l4proto tcp redirect to :15001"]


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"outbound-port-exclusion-list": "http"}, "'http', which is no port"),
        ({"inbound-port-exclusion-list": "0,70000"}, "'70000', which is no port"),
        ({"outbound-ip-range-exclusion-list": "10.0.0.0/33"}, "'10.0.0.0/33' is no IP"),
        ({"outbound-ip-range-exclusion-list": "1.2.3.4 } drop; {"}, "is no IP address"),
        ({"outbound-ip-range-inclusion-list": "x"}, "'x' is no IP"),
        ({"metrics": "ja"}, "metrics of the Pod is 'ja'"),
        ({"hold-application-until-proxy-starts": "5"}, "is '5'"),
    ],
)
def test_malformed_annotations_are_refused_by_name(notes, words):
    obj = pod({f"flomesh.io/{name}": value for name, value in notes.items()})
    result = inject(obj, namespace(**{KEY: "enabled"}), MeshConfig(), CLUSTER, "u")
    assert isinstance(result, Refusal)
    assert words in result.reason


def test_all_malformed_annotations_are_named_at_once():
    notes = {"flomesh.io/metrics": "ja", "flomesh.io/outbound-port-exclusion-list": "a,b"}
    result = inject(pod(notes), namespace(**{KEY: "enabled"}), MeshConfig(), CLUSTER, "u")
    assert isinstance(result, Refusal)
    assert all(words in result.reason for words in ("'ja'", "'a'", "'b'"))


def test_an_interface_name_cannot_write_rules():
    mesh = MeshConfig(traffic=Traffic(network_interface_exclusion_list=('e" accept #',)))
    result = inject(pod(), namespace(**{KEY: "enabled"}), mesh, CLUSTER, "u")
    assert isinstance(result, Refusal)
    assert "no name of a network interface" in result.reason


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"containers": [{"name": "sidecar"}]}, "container 'sidecar'"),
        ({"initContainers": [{"name": "fsm-init"}]}, "container 'fsm-init'"),
        ({"volumes": [{"name": "fsm-identity"}]}, "volume 'fsm-identity'"),
    ],
)
def test_a_taken_name_is_refused(spec, words):
    result = inject(pod(**spec), namespace(**{KEY: "enabled"}), MeshConfig(), CLUSTER, "u")
    assert isinstance(result, Refusal)
    assert words in result.reason


def test_mesh_config_and_annotations_shape_the_containers():
    mesh = MeshConfig(
        sidecar=Sidecar(
            enable_privileged_init_container=True,
            image="registry.local/pipy:mine",
            hold_application_until_proxy_starts=False,
            resources={"limits": {"cpu": "1"}},
            init_resources={"limits": {"cpu": "50m"}},
        )
    )
    notes = {
        "flomesh.io/sidecar-resource-limits-memory": "64Mi",
        "flomesh.io/sidecar-resource-requests-cpu": "10m",
        "flomesh.io/metrics": "enabled",
    }
    result = injected(pod(notes), mesh=mesh)
    first, sidecar = result["spec"]["initContainers"]
    assert first["securityContext"]["privileged"] is True
    assert first["resources"] == {"limits": {"cpu": "50m"}}
    assert sidecar["image"] == "registry.local/pipy:mine"
    assert "startupProbe" not in sidecar
    assert sidecar["resources"] == {
        "limits": {"cpu": "1", "memory": "64Mi"},
        "requests": {"cpu": "10m"},
    }
    assert result["metadata"]["annotations"]["prometheus.io/port"] == "15010"
    own = {
        "flomesh.io/sidecar-image": "x:1",
        "flomesh.io/hold-application-until-proxy-starts": "yes",
    }
    sidecar = sidecar_of(injected(pod(own), mesh=mesh))
    assert sidecar["image"] == "x:1"
    assert "startupProbe" in sidecar


def test_the_same_pod_gets_the_same_patch():
    results = [injected(pod({"a": "b"}), settings=BOX) for _ in range(3)]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("refused", "installed", "told"),
    [
        ("nothing", "tproxy", ""),
        # A kernel without the module refuses the ruleset that names it, as a whole.
        ("tproxy", "redirect", "UDP passes the sidecar by"),
        # Packets that are marked and led nowhere would be lost: then rather not at all.
        ("replace", "redirect", "UDP passes the sidecar by"),
    ],
)
def test_a_kernel_that_cannot_capture_udp_keeps_no_pod_from_starting(
    tmp_path, refused, installed, told
):
    stub = f"""#!/bin/sh
for word in "$@"; do case "$word" in *{refused}*) exit 1;; esac; done
[ "${{0##*/}}" = nft ] && printf %s "$1" > {tmp_path}/rules
exit 0
"""
    for name in ("nft", "ip"):
        (tmp_path / name).write_text(stub)
        (tmp_path / name).chmod(0o755)
    command = injected(pod(), settings=BOX)["spec"]["initContainers"][0]["command"]
    done = subprocess.run(
        ["/bin/sh", *command[1:]],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    rules = (tmp_path / "rules").read_text()
    assert installed in rules
    assert ("tproxy" in rules) == (installed == "tproxy")
    assert told in done.stderr
