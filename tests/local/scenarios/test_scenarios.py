"""The scenarios of `examples/scenarios`, as their READMEs tell them to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Walk = Callable[[str], None]

SCENARIOS = Path(__file__).resolve().parents[3] / "examples" / "scenarios"
NAMES = sorted(path.parent.name for path in SCENARIOS.glob("*/README.md"))


def test_every_scenario_is_in_the_list() -> None:
    listed = (SCENARIOS / "README.md").read_text()
    assert NAMES
    assert [name for name in NAMES if f"[{name}]({name}/)" not in listed] == []


@pytest.mark.box
@pytest.mark.scenario
@pytest.mark.parametrize("name", NAMES)
def test_the_readme_holds(walk: Walk, name: str) -> None:
    walk(name)
