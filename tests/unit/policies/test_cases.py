"""Every case file of every policy: what it says is what comes out, no more and no less."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

import fsm.policies
from fsm.model import Key, ServiceAccount
from fsm.policies import POLICIES, Invalid, Violation, parse, validate, warnings
from fsm.settings import Settings

FOLDER = Path(fsm.policies.__file__).parent
CASES = sorted(FOLDER.glob("*/cases/*.yaml"))
POLICY_FOLDERS = [file.parent for file in sorted(FOLDER.glob("*/schema.py"))]
KEYS = {"object", "violations", "warnings", "model", "model-has"}


def plain(value: object) -> object:
    if isinstance(value, (Key, ServiceAccount)):
        return str(value)
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def at(model: object, path: str) -> object:
    for part in path.split("."):
        model = getattr(model, part)
    return plain(model)


def assert_says(found: list[Violation], expected: list[dict[str, str]]) -> None:
    assert [v.path for v in found] == [e["path"] for e in expected], [str(v) for v in found]
    for violation, wanted in zip(found, expected, strict=True):
        assert wanted["message"] in violation.message
        assert wanted.get("hint", "") in violation.hint


@pytest.mark.parametrize("file", CASES, ids=lambda f: f"{f.parent.parent.name}/{f.stem}")
def test_case(file: Path) -> None:
    case = yaml.safe_load(file.read_text())
    assert set(case) <= KEYS
    assert len(case) > 1, "a case expects something"
    assert case["object"]["kind"].lower() == file.parent.parent.name.replace("_", "")
    assert_says(validate(case["object"]), case.get("violations", []))
    assert_says(warnings(case["object"]), case.get("warnings", []))
    if "violations" in case:
        with pytest.raises(Invalid) as caught:
            parse(case["object"])
        assert len(caught.value.violations) == len(case["violations"])
        return
    model = parse(case["object"])
    if "model" in case:
        assert plain(model) == case["model"]
    for path, value in case.get("model-has", {}).items():
        assert at(model, path) == value, path


@pytest.mark.parametrize("folder", POLICY_FOLDERS, ids=lambda f: f.name)
def test_every_policy_folder_is_complete(folder: Path) -> None:
    names = {entry.name for entry in folder.iterdir()}
    assert {"schema.py", "validate.py", "compile.py", "README.md", "cases", "__init__.py"} <= names
    cases = [yaml.safe_load(f.read_text()) for f in folder.glob("cases/*.yaml")]
    assert any("violations" in case for case in cases)
    assert any("model" in case or "model-has" in case for case in cases)


def test_every_policy_says_why_it_stands_where_it_stands() -> None:
    assert len(POLICIES) == len(POLICY_FOLDERS)
    assert len({policy.place for policy in POLICIES}) == len(POLICIES)
    assert POLICIES[0].kind == "MeshConfig"


def test_an_unknown_kind_is_a_violation_not_an_error() -> None:
    for obj in ({}, {"kind": "Gateway"}, {"kind": None}, {"kind": ["x"]}):
        assert [v.path for v in validate(obj)] == ["kind"]
        assert warnings(obj) == []
        with pytest.raises(Invalid):
            parse(obj)


def test_a_target_may_stand_elsewhere_when_the_settings_say_so() -> None:
    obj = yaml.safe_load((FOLDER / "traffic_target/cases/foreign-namespace.yaml").read_text())
    assert validate(obj["object"], Settings(require_target_namespace=False)) == []
