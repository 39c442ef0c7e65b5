"""Every link of every page leads somewhere, and every page of `docs/` can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest

PATH = re.compile(r"`((?:docs|proxy|src|tests|examples|contract|tools|deploy|fuzz)/[\w./\-]+)`")


@pytest.mark.parametrize("page", pages.pages(), ids=pages.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in pages.links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            dead.append(f"{target}: no such file")
        elif anchor and there.suffix == ".md" and anchor not in pages.anchors(there):
            dead.append(f"{target}: no such heading")
    assert dead == []


@pytest.mark.parametrize("page", pages.pages(), ids=pages.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    # The changelog tells what once was.
    named = PATH.findall(pages.prose(page)) if page.name != "CHANGELOG.md" else []
    near = (pages.ROOT, page.parent, pages.ROOT / "proxy/pipy-script")
    assert [path for path in named if not any((folder / path).exists() for folder in near)] == []


def test_the_index_has_every_page_in_its_kind() -> None:
    index = pages.DOCS / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in pages.links(index)}
    there = {page for page in pages.pages() if page.is_relative_to(pages.DOCS)} - {index}
    assert sorted(map(pages.name, there - listed)) == []


@pytest.mark.parametrize(
    ("index", "folder"),
    [
        ("examples/pipy/README.md", "examples/pipy"),
        ("docs/how-to/start-from-an-example.md", "examples/pipy"),
        ("examples/scenarios/README.md", "examples/scenarios"),
    ],
)
def test_the_index_has_every_example(index: str, folder: str) -> None:
    page = pages.ROOT / index
    listed = {(page.parent / link).resolve() for link in pages.links(page)}
    there = {page.parent for page in pages.pages() if page.parent.parent == pages.ROOT / folder}
    assert sorted(map(pages.name, there - listed)) == []


def test_the_reader_of_headings_spells_them_as_links_do(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# The `fsm` command, [in short](x.md)\n```\n# no heading\n```\n## A-b c\n")
    assert pages.anchors(page) == {"the-fsm-command-in-short", "a-b-c"}
