"""The scenarios of `examples/scenarios`, as their READMEs tell them to type."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.box, pytest.mark.scenario]

Walk = Callable[[str], None]


@pytest.mark.parametrize(
    "name",
    [
        "permissive-mode",
        "tcp-routing",
        "canary",
        "egress-passthrough",
        "outbound-ip-exclusion",
        "metrics",
        "bookstore",
    ],
)
def test_the_readme_holds(walk: Walk, name: str) -> None:
    walk(name)
