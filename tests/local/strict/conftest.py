"""Makes ``proxyrig`` of the proxy's tests importable; says how much is to be done.

``SOAK=1`` (``make soak``) asks for the full numbers, and prints them; without it the same tests run
with few.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "proxy" / "support"))

SOAK = os.environ.get("SOAK") == "1"


@pytest.fixture
def amount():
    """Choose between the few of every run and the many of a soak."""
    return lambda few, many: many if SOAK else few


@pytest.fixture
def tell(capsys):
    """Show a figure in a soak."""

    def told(**figures):
        if SOAK:
            with capsys.disabled():
                print("\nsoak:", *(f"{name}={value}" for name, value in figures.items()))

    return told
