"""What `--set` and `-f` say, and what the chart's keys come to."""

import json

import pytest
import yaml

from fsm.cli import chart, customise, values
from fsm.cli.errors import ExitCode, Failure
from fsm.manifests.install import install_manifests
from fsm.settings import Settings


@pytest.mark.parametrize(
    ("assignment", "tree"),
    [
        ("a=b", {"a": "b"}),
        ("a.b=1,a.c=true", {"a": {"b": 1, "c": True}}),
        ("a={x,y}", {"a": ["x", "y"]}),
        ("a={}", {"a": []}),
        ("a[1]=x", {"a": [None, "x"]}),
        ("a[0].b=x", {"a": [{"b": "x"}]}),
        (r"a=x\,y", {"a": "x,y"}),
        (r"a\.b=x", {"a.b": "x"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=null", {"a": None}),
        ("a=", {"a": ""}),
        ("a=007", {"a": "007"}),
        ("a=-3", {"a": -3}),
        ("a=24h", {"a": "24h"}),
        ("a={10.0.0.0/8,192.168.0.0/16},b=c", {"a": ["10.0.0.0/8", "192.168.0.0/16"], "b": "c"}),
        ("", {}),
    ],
)
def test_assignments_are_read_as_helm_users_mean_them(assignment, tree):
    assert values.gather((), [assignment]) == tree


@pytest.mark.parametrize("assignment", ["a", "=b", "a..b=c", ".a=b", "a[9999999999]=x"])
def test_malformed_assignment_is_quoted_in_the_error(assignment):
    with pytest.raises(Failure, match="--set") as refused:
        values.gather((), [assignment])
    assert refused.value.code is ExitCode.USAGE
    assert assignment in refused.value.message


def test_later_wins_and_set_wins_over_files(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("fsm: {a: 1, b: {c: 1, d: 1}}")
    second.write_text("fsm: {b: {c: 2}, l: [1, 2]}")
    assert values.gather([first, second], ["fsm.b.d=3", "fsm.l={x}"]) == {
        "fsm": {"a": 1, "b": {"c": 2, "d": 3}, "l": ["x"]}
    }


@pytest.mark.parametrize(
    ("text", "words"), [("[", "is not YAML"), ("- a", "does not hold values"), ("\0", "not YAML")]
)
def test_file_that_holds_no_values_is_named(tmp_path, text, words):
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(Failure, match=words) as refused:
        values.gather([file], ())
    assert str(file) in refused.value.message


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Failure, match=r"no\.yaml: No such file"):
        values.gather([tmp_path / "no.yaml"], ())


def plan(*assignments):
    return chart.plan(Settings(), values.gather((), assignments))


def test_values_reach_the_spec_the_settings_and_the_objects():
    made = plan(
        "fsm.enableEgress=false,fsm.outboundPortExclusionList={22,25}",
        "fsm.trustDomain=shop.example,fsm.controllerLogLevel=warn,smi.validateTrafficTarget=false",
        "fsm.image.registry=reg.example/mesh,fsm.image.tag=2.0",
        "fsm.featureFlags.enableRetryPolicy=true",
    )
    assert made.spec["traffic"] == {"enableEgress": False, "outboundPortExclusionList": [22, 25]}
    assert made.spec["featureFlags"] == {"enableRetryPolicy": True}
    assert made.settings.trust_domain == "shop.example"
    assert made.settings.log_level == "warning"
    assert made.notes == ()
    objects = customise.customise(install_manifests(made.settings), made)
    (preset,) = [o for o in objects if o["metadata"]["name"] == "preset-mesh-config"]
    spec = json.loads(preset["data"]["preset-mesh-config.json"])
    assert spec["traffic"]["enableEgress"] is False
    assert spec["traffic"]["enablePermissiveTrafficPolicyMode"] is True
    assert customise.kept_values(preset) == made.given
    (deployment,) = [o for o in objects if o["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "reg.example/mesh/fsm-controller:2.0"
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env["FSM_SIDECAR_IMAGE"] == "reg.example/mesh/pipy:2.0"
    assert env["FSM_REQUIRE_TARGET_NAMESPACE"] == "false"


def test_without_values_the_objects_are_the_rendered_ones():
    rendered = install_manifests(Settings())
    assert customise.customise(rendered, plan()) == rendered


@pytest.mark.parametrize("era", chart.PREFIXES)
def test_names_of_every_era_mean_the_same(era):
    assert plan(f"{era}.enableEgress=false").spec == {"traffic": {"enableEgress": False}}


def test_value_without_effect_is_noted_with_the_reason():
    (note,) = plan("fsm.deployGrafana=true").notes
    assert note.startswith("fsm.deployGrafana has no effect: ")


def test_all_problems_are_told_at_once():
    with pytest.raises(Failure) as refused:
        plan(
            "fsm.enableEgres=false,fsm.enableEgress=maybe",
            "fsm.certificateProvider.kind=vault,fsm.controllerLogLevel=loud,fsm.meshName=A_b",
        )
    for words in (
        "unknown value fsm.enableEgres (did you mean fsm.enableEgress",
        "fsm.enableEgress: expected true or false, got 'maybe'",
        "'vault'; this version has tresor",
        "fsm.controllerLogLevel is 'loud'",
        "mesh name 'A_b' is not a valid name",
    ):
        assert words in refused.value.message
    assert refused.value.code is ExitCode.USAGE


def test_every_key_with_an_effect_is_accepted_by_meshconfig_s_own_validation():
    # What the chart's table calls a path of MeshConfig's spec must be one.
    sample = {"sidecar.sidecarTimeout": 60, "traffic.interceptionMode": "PodLevel"}
    for knob in chart.KNOBS:
        if not knob.spec:
            continue
        key = chart.full_key(knob)
        if key.endswith("."):
            continue
        spec = {}
        values.put(spec, knob.spec, sample.get(knob.spec))
        judged = chart._judge_spec(spec)
        assert not any("is not a field" in problem for problem in judged), (key, judged)


def test_dry_run_prints_what_would_be_applied(tmp_path):
    from fsm.cli import install

    made = plan("fsm.enableEgress=false")
    text = yaml.safe_dump_all(install.documents(made))
    kinds = [document["kind"] for document in yaml.safe_load_all(text)]
    assert kinds[0] == "CustomResourceDefinition"
    assert "Deployment" in kinds
