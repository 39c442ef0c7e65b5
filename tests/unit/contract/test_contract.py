"""The contract from Python's side: the same samples as the proxy's tests, and the same fields.

Some senseless configurations have a proper shape; those are ``check``'s to find, as they are the
proxy's. Each invalid sample must be refused by one of the two, and says which path is at fault.
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fsm.compile import ContractError, check, config_from_json, contract
from fsm.compile.contract import RENAMED, ProxyConfig

FOLDER = Path(__file__).parents[3] / "contract"
SCHEMA = json.loads((FOLDER / "proxy-config.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
VALID = sorted((FOLDER / "samples" / "valid").glob("*.json"))
INVALID = sorted((FOLDER / "samples" / "invalid").glob("*.json"))


def test_there_are_samples() -> None:
    assert VALID
    assert INVALID


@pytest.mark.parametrize("file", VALID, ids=lambda f: f.stem)
def test_valid_samples_are_of_the_schema_and_survive_a_round_trip(file: Path) -> None:
    VALIDATOR.validate(json.loads(file.read_text()))
    config = config_from_json(file.read_text())
    assert check(config) == []
    again = config.to_json()
    VALIDATOR.validate(json.loads(again))
    assert config_from_json(again) == config
    assert config_from_json(again).to_json() == again


@pytest.mark.parametrize("file", INVALID, ids=lambda f: f.stem)
def test_invalid_samples_are_refused_where_they_are_wrong(file: Path) -> None:
    sample = json.loads(file.read_text())
    try:
        faults = check(config_from_json(json.dumps(sample["config"])))
    except ContractError as error:
        faults = [str(error)]
    expected = sample["expect"]
    # serde words some shapes in its own way; its text begins with the path all the same.
    assert any(expected in fault for fault in faults), (expected, faults)


def test_the_dataclasses_have_the_fields_of_the_schema() -> None:
    seen = {"ProxyConfig"}
    _same_fields(ProxyConfig, SCHEMA)
    for name, definition in SCHEMA["$defs"].items():
        ours = getattr(contract, name, None)
        if name == "Path":
            alternatives = {next(iter(a["properties"])) for a in definition["oneOf"]}
            assert alternatives == {"exact", "prefix", "regex"}
        elif "properties" in definition:
            assert is_dataclass(ours), name
            _same_fields(ours, definition)
        else:
            words = {alternative["const"] for alternative in definition["oneOf"]}
            assert {str(word) for word in ours} == words, name  # type: ignore[union-attr]
        seen.add(name)
    mirrored = {
        name
        for name, value in vars(contract).items()
        if is_dataclass(value) and value.__module__ == contract.__name__
    }
    assert mirrored <= seen


def _same_fields(ours: Any, definition: dict[str, Any]) -> None:
    names = {RENAMED.get(f.name, f.name) for f in fields(ours)}
    assert names == set(definition["properties"]), ours.__name__


def test_the_defaults_are_those_of_the_schema() -> None:
    written = json.loads(ProxyConfig(version="0").to_json())
    for name, definition in SCHEMA["properties"].items():
        if "default" in definition:
            assert written[name] == definition["default"], name


@pytest.mark.parametrize("file", VALID, ids=lambda f: f.stem)
def test_the_json_is_canonical(file: Path) -> None:
    data = config_from_json(file.read_text()).to_json()
    again = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert data.decode() == again


def test_the_version_is_a_hash_of_everything_else() -> None:
    one = ProxyConfig(identity="spiffe://a/ns/b/sa/c").with_version()
    assert one.version == one.with_version().version
    assert len(one.version) == 16
    assert one.version != ProxyConfig(identity="spiffe://a/ns/b/sa/d").with_version().version


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{", "."),
        ("[]", "."),
        ('{"version": 1}', "version"),
        ('{"version": "1", "clusters": []}', "clusters"),
        ('{"version": "1", "inbound": {"matches": {}}}', "inbound.matches"),
        ('{"version": "1", "inbound": {"matches": [3]}}', "inbound.matches[0]"),
        ('{"version": "1", "timeouts": {"idle_ms": -1}}', "timeouts.idle_ms"),
        ('{"version": "1", "timeouts": {"idle_ms": true}}', "timeouts.idle_ms"),
        ('{"version": "1", "telemetry": {"access_log": "some"}}', "telemetry.access_log"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_path(text: str, path: str) -> None:
    with pytest.raises(ContractError) as caught:
        config_from_json(text)
    assert str(caught.value).startswith(f"{path}: ")
