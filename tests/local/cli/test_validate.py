"""`fsm validate`: every finding with file and line; exit codes; broken files among good ones."""

import json
import subprocess
import sys

import pytest

ROUTES = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata:
  name: routes
  namespace: shop
spec:
  matches:
  - name: all
    pathRegex: ".*"
    methods: ["*"]
"""


def validate(*arguments, given=None):
    return subprocess.run(
        [sys.executable, "-m", "fsm.cli.main", "validate", *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_good_manifests_say_nothing_on_stdout(tmp_path):
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    done = validate("-f", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "1 document, 0 errors, 0 warnings\n"


def test_faults_of_all_documents_are_told_at_once_with_their_lines(tmp_path):
    file = tmp_path / "shop.yaml"
    broken = ROUTES.replace("pathRegex", "pathRegx").replace('["*"]', "[FETCH ME]")
    file.write_text(f"# first\n{ROUTES}---\n{broken}")
    done = validate("-f", str(file))
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if not line.startswith("    hint: ")]
    assert lines
    assert all(line.startswith(f"{file}:") for line in lines)
    assert any(f"{file}:21: error: HTTPRouteGroup shop/routes: spec.matches[0]" in x for x in lines)
    assert any(f"{file}:22: error: HTTPRouteGroup shop/routes: spec.matches[0]" in x for x in lines)


def test_file_that_is_no_yaml_is_a_finding_and_the_others_are_judged(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: [\n")
    (tmp_path / "b.yaml").write_text(ROUTES.replace("pathRegex", "pathRegx"))
    (tmp_path / "notes.txt").write_text("not looked at: [")
    done = validate("-f", str(tmp_path), "-o", "json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {row["file"].rpartition("/")[2] for row in found} == {"a.yaml", "b.yaml"}
    assert any("is not YAML" in row["message"] for row in found)
    assert all(set(row) >= {"file", "line", "path", "message", "hint", "severity"} for row in found)


def test_stdin_is_read_as_a_file():
    done = validate("-f", "-", given=ROUTES.replace("HTTPRouteGroup", "HTTPRouteGrop"))
    assert done.returncode == 1
    assert "stdin:2: error: HTTPRouteGrop shop/routes: kind:" in done.stdout
    assert "hint: HTTPRouteGroup?" in done.stdout


@pytest.mark.parametrize(
    ("argument", "words"),
    [("/no/such/file.yaml", "No such file"), ("/proc/self/fd", "there are no manifests in")],
)
def test_files_that_are_not_there_are_a_wrong_command_line(argument, words):
    done = validate("-f", argument)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    "text",
    ["\0", "a: &x [*x]", "? [a]\n: b", "- " * 2000, "{" * 3000, "!!python/object:os.system {}"],
)
def test_whatever_a_file_holds_there_is_an_answer(tmp_path, text):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    done = validate("-f", str(file))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
