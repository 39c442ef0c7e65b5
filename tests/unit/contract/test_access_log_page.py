"""The page of the access log's fields is that of the code: the same names in the same order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_lists_the_fields_that_a_line_has_in_their_order() -> None:
    code = (ROOT / "proxy/pipy-observe/src/log/entry.rs").read_text()
    writer = code[code.index("pub(crate) fn line(") : code.index("fn ends<")]
    written = re.findall(r'[{,]\\"(\w+)\\":', writer)
    page, _, _ = (ROOT / "docs/reference/access-log.md").read_text().partition("\n## ")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert len(written) > 20
    assert listed == written


def test_the_page_names_every_decision() -> None:
    code = (ROOT / "proxy/pipy-observe/src/log/entry.rs").read_text()
    words = re.findall(r'Decision::\w+ => "(\w+)"', code)
    page = (ROOT / "docs/reference/access-log.md").read_text()
    assert len(words) == 4
    assert all(f"`{word}`" in page for word in words)
