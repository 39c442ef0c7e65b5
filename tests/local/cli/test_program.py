"""The program from outside: quick, quiet on stdout, failures in words, exit codes as documented."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fsm import __version__
from fsm.cli import errors, output, program
from fsm.cli.errors import ExitCode, Failure
from fsm.cli.main import _SWITCHES, plain_switches

FSM = [sys.executable, "-m", "fsm.cli.main"]


@pytest.fixture
def fsm(tmp_path):
    """Runs the program as a user who has no mesh and no kubeconfig."""

    def run(*arguments, **env):
        clean = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        home = {"HOME": str(tmp_path), "FSM_HOME": str(tmp_path / "state")}
        return subprocess.run(
            [*FSM, *arguments],
            env={**clean, **home, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_the_version_comes_at_once(fsm):
    took = []
    for _ in range(5):
        # What it costs, not how long it took: the machine may be busy with other things.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = fsm("version")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert done.stdout == f"fsm {__version__}\n"
    assert min(took) < 0.150, f"{1000 * min(took):.0f} ms"


def test_the_version_is_one_word_for_scripts(fsm):
    assert fsm("version", "--version-only").stdout == f"{__version__}\n"
    assert json.loads(fsm("version", "-o", "json").stdout) == {
        "client": __version__,
        "control_planes": [],
    }


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["namespace", "list"],
        ["ns", "add", "shop"],
        ["proxy", "get", "stats", "web-1"],
        ["proxy", "list"],
        ["mesh", "list"],
        ["install"],
        ["mesh", "upgrade"],
        ["uninstall", "mesh"],
        ["uninstall", "mesh", "-p", "9091", "--ca-bundle-secret-name", "fsm-ca-bundle"],
        ["mesh", "list", "-p", "9091"],
        ["support", "bug-report", "--ingress"],
        ["servicelb", "enable"],
        ["policy", "check-pods", "a/b", "c/d"],
        ["policy", "check-conflicts", "TrafficSplit"],
        ["verify", "control-plane"],
        ["verify", "connectivity", "--from-pod", "a/b", "--to-pod", "c/d"],
        ["metrics", "enable", "--namespace", "a"],
        ["rollout", "status", "trafficsplit/a"],
        ["explain", "a/b", "http://c/"],
        ["support", "bug-report"],
    ],
    ids=" ".join,
)
def test_without_a_mesh_every_command_says_what_to_do(fsm, command):
    done = fsm(*command)
    assert done.returncode == ExitCode.NO_MESH
    assert done.stdout == ""
    assert "error: no mesh runs here" in done.stderr
    assert "hint: start one with `fsm up`" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_api_that_does_not_answer_is_told_apart(fsm, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "current-context: a\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: a, user: {}}]\n"
    )
    done = fsm("status", "--kubeconfig", str(config))
    assert done.returncode == ExitCode.NO_MESH
    assert done.stderr.startswith("error: cannot ")
    assert "Traceback" not in done.stderr


def test_a_kubeconfig_that_is_not_there_is_named(fsm):
    done = fsm("--kubeconfig", "/no/such/file", "mesh", "list")
    assert done.returncode == ExitCode.NO_MESH
    assert "there is no kubeconfig at /no/such/file" in done.stderr


@pytest.mark.parametrize(
    "words", [["verison"], ["proxy", "get"], ["up", "--port", "x"], ["up", "y"]]
)
def test_a_wrong_command_line_is_exit_code_2(fsm, words):
    done = fsm(*words)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""


def test_down_without_a_box_is_no_error(fsm):
    done = fsm("down")
    assert done.returncode == ExitCode.OK
    assert "No box was running" in done.stderr


def test_every_command_has_help(fsm):
    text = fsm("--help").stdout
    for command in program.COMMANDS:
        assert (f"  {command.name} " in text) is not command.hidden
        assert fsm(command.name, "--help").returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_asks_the_program_itself(fsm, shell):
    script = fsm("completion", shell).stdout
    assert "fsm" in script
    assert "_FSM_COMPLETE" in script


def test_completion_completes_commands_and_options(fsm):
    def complete(line):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return fsm(_FSM_COMPLETE="complete_bash", **words).stdout.split()

    assert complete("fsm roll") == ["rollout"]
    assert complete("fsm rollout status --ti") == ["--timeout"]


def test_env_tells_what_is_talked_to(fsm, tmp_path):
    told = json.loads(fsm("env", "-o", "json", KUBECONFIG="/tmp/some").stdout)
    assert told["kubeconfig"] == "/tmp/some"
    assert told["fsm_namespace"] == "fsm-system"
    assert told["box"] == "not running"
    assert json.loads(fsm("env", "-o", "json").stdout)["kubeconfig"] is None


def test_osm_is_the_same_program(tmp_path):
    link = tmp_path / "osm"
    link.write_text(f"#!{sys.executable}\nfrom fsm.cli.main import main\nmain()\n")
    link.chmod(0o755)
    done = subprocess.run([link, "--help"], capture_output=True, text=True, check=False)
    assert "Usage: osm " in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(fsm):
    done = subprocess.run(
        f"{' '.join(FSM)} --help | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_only_the_named_commands_are_built():
    assert [c.name for c in program.needed(["-n", "x", "proxy", "list"])] == ["proxy"]
    assert program.needed(["--help"]) == program.COMMANDS
    assert program.needed(["typo"]) == program.COMMANDS


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["ingress", "enable", "--http-port", "80"], "ingress controller"),
        (["ing", "enable"], "ingress controller"),
        (["ingress", "namespaced", "enable"], "ingress controller per namespace"),
        (["gateway", "enable", "--log-level", "debug"], "Gateway API"),
        (["egw", "enable", "--mode", "http2tunnel"], "egress gateway"),
        (["flb", "enable", "--strict-mode"], "FLB"),
        (["dashboard", "-p", "3000", "-b=false"], "Grafana"),
        (["support", "error-info", "E1000"], "codes of errors"),
        (["verify", "ingress", "--to-pod", "a/b"], "ingress to verify"),
        (["proxy", "set", "logging?level=debug", "a"], "single sidecar"),
        (["alpha", "certificate", "rotate", "-y"], "on trial"),
        (["apply", "-f", "httproute.yaml"], "kubectl"),
        (["describe", "gateway", "x", "-n", "y"], "objects of its own"),
        (["install", "--fsm-chart-path", "/x"], "takes no chart"),
        (["mesh", "upgrade", "--osm-chart-path", "/x"], "takes no chart"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_this_version_has_not_is_said_in_words(fsm, words, missing):
    done = fsm(*words)
    assert done.returncode == ExitCode.ABSENT, done.stderr
    assert done.stdout == ""
    assert missing in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("name", ["ingress", "gw", "egressgateway", "flb"])
def test_to_switch_off_what_is_not_there_is_done_already(fsm, name):
    done = fsm(name, "disable")
    assert done.returncode == ExitCode.OK
    assert done.stdout.startswith("No action needed: ")


def test_verbose_may_stand_anywhere_and_shows_where_an_error_came_from(fsm):
    for words in (["--verbose", "status"], ["status", "--verbose"]):
        done = fsm(*words)
        assert done.returncode == ExitCode.NO_MESH
        assert "Traceback" in done.stderr


class Odd(Exception):
    """An error of no layer of ours."""


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (Failure("no", hint="yes", code=ExitCode.TIMEOUT), "no", ExitCode.TIMEOUT),
        (FileNotFoundError(2, "No such file", "/x"), "/x: No such file", ExitCode.FAILED),
        (ExceptionGroup("g", [Failure("inner")]), "inner", ExitCode.FAILED),
    ],
)
def test_expected_failures_are_told_in_words(error, message, code):
    failure = errors.explain(error)
    assert failure is not None
    assert (failure.message, failure.code) == (message, code)


def test_errors_of_our_layers_keep_their_hint():
    from fsm.kube import ConfigError, Unavailable

    told = errors.explain(ConfigError("no kubeconfig\nhint: make one"))
    assert told is not None
    assert (told.message, told.hint, told.code) == ("no kubeconfig", "make one", ExitCode.NO_MESH)
    told = errors.explain(Unavailable(0, "x", "cannot list Pods"))
    assert told is not None
    assert told.code is ExitCode.NO_MESH


def test_a_fault_of_the_program_keeps_its_traceback(capsys):
    assert errors.explain(Odd()) is None
    assert errors.explain(ExceptionGroup("g", [Failure("x"), Odd()])) is None
    assert errors.report(Odd("boom")) == ExitCode.FAILED
    assert "Odd: boom" in capsys.readouterr().err


def test_plain_columns_are_one_line_per_row_and_as_wide_as_needed():
    text = output.plain_table(("A", "NAME"), [("x", "one\ntwo"), ("longer value", "y")])
    assert text.splitlines() == [
        "A              NAME",
        "x              one two",
        "longer value   y",
    ]


@pytest.mark.parametrize("form", [output.Format.JSON, output.Format.YAML])
def test_data_is_written_whole(form, capsys):
    import yaml

    data = [{"name": "a", "list": [1, "ä"]}]
    output.emit(form, data, ("NAME",), [["a"]])
    assert yaml.safe_load(capsys.readouterr().out) == data


def test_the_reference_page_is_what_the_program_says():
    from pathlib import Path

    from fsm.cli import reference

    folder = Path(__file__).resolve().parents[3] / "docs" / "reference"
    how = "refresh it: make docs"
    assert (folder / "cli.md").read_text() == reference.page(), how
    assert (folder / "install-values.md").read_text() == reference.values_page(), how


def test_switches_may_be_said_as_relatives_say_them():
    words = ["install", "--atomic=true", "--dry-run=false", "--enforce-single-mesh=false"]
    assert list(plain_switches(words)) == ["install", "--atomic", "--no-enforce-single-mesh"]
    others = ["--set=fsm.enableEgress=true", "--set", "a=false", "--mesh-name=true", "--force=x"]
    assert list(plain_switches(others)) == others


def test_every_switch_that_may_be_said_so_is_one(fsm):
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs" / "reference" / "cli.md").read_text()
    for name in _SWITCHES:
        assert f"`{name}`" in page
    done = fsm("install", "--dry-run=true", "--enforce-single-mesh=true")
    assert done.returncode == ExitCode.OK
    assert "kind: CustomResourceDefinition" in done.stdout
