"""The scenarios of `examples/scenarios`, as their READMEs tell them to type."""

from __future__ import annotations

import re
import subprocess
import sys
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
    if name == "canary" and not runs_scripts():
        pytest.skip("the proxy that is built runs no scripts yet (`pipy -e`)")
    walk(name)


def runs_scripts() -> bool:
    """Whether `pipy` takes a script, as the applications of the canary scenario need it."""
    pipy = Path(sys.executable).parent / "pipy"
    asked = [pipy, "--help"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stdout
    return re.search(r"(^|\s)-e\b", told) is not None
