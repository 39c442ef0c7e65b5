"""The reference pages are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsm.manifests.reference import PAGES
from fsm.policies import POLICIES

DOCS = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / f"{page}.md").read_text() == PAGES[page](), "stale; `make docs` writes it anew"


def test_every_policy_has_its_part_of_the_page() -> None:
    text = PAGES["policies"]()
    for policy in POLICIES:
        assert f"\n## {policy.kind}\n" in text
