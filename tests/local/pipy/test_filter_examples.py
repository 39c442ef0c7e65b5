"""The reference of the filters: each has its example, each example gives what the page says.

An example is the last script before an outcome: a ``text`` block, what it writes to the standard
output, or a ``log`` block, the lines of its log without their time. Scripts that begin with
``// file: NAME`` lie beside it.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import PATIENCE, PIPY, free_ports, run_once

PAGES = Path(__file__).parents[3] / "docs" / "reference" / "pipyjs-filters"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b8000\b")
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ ", re.MULTILINE)


@dataclass
class Section:
    """What a page says of one filter."""

    name: str
    text: str
    script: str = ""
    outcome: str = ""
    of_log: bool = False
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Section:
        """Takes a section apart."""
        section = cls(text.split("\n", 1)[0].strip(), text)
        for kind, content in BLOCK.findall(text):
            if kind != "js":
                section.outcome, section.of_log = content, kind == "log"
            elif content.startswith("// file: "):
                first, rest = content.split("\n", 1)
                section.files[first.removeprefix("// file: ")] = rest
            else:
                section.script = content
        return section


def sections() -> list[Section]:
    found = []
    for page in sorted(PAGES.glob("*.md")):
        found += [Section.read(part) for part in page.read_text().split("\n## ")[1:]]
    return found


SECTIONS = sections()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_an_example_gives_what_its_page_says(section: Section, tmp_path: Path) -> None:
    port = str(free_ports(1)[0])
    for name, text in {**section.files, "example.js": section.script}.items():
        (tmp_path / name).write_text(PORT.sub(port, text))
    done = subprocess.run(
        [PIPY, "example.js"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = TIME.sub("", done.stderr) if section.of_log else done.stdout
    assert said.rstrip("\n") == section.outcome.rstrip("\n"), done.stderr
    assert done.returncode == 0, done.stderr


LISTED = [line.split(None, 1) for line in run_once("--list-filters").stdout.splitlines()]


def test_every_filter_has_its_section() -> None:
    documented = [section.name for section in SECTIONS if section.name != "Listening"]
    assert sorted(documented) == sorted(name for name, _ in LISTED)


def test_the_list_of_the_reference_is_that_of_the_program() -> None:
    row = re.compile(r"^\| \[(\w+)\]\(pipyjs-filters/\w+\.md#(\w+)\) \| (.*) \|$", re.MULTILINE)
    rows = row.findall(PAGES.with_suffix(".md").read_text())
    assert [(name, help) for name, _, help in rows] == [(name, help) for name, help in LISTED]
    assert all(anchor == name.lower() for name, anchor, _ in rows)
