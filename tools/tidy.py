"""Tidiness: what no linter checks. `python -m tools.tidy` prints each finding, and fails if any.

- Files end at 600 lines (tests beside the code do not count), lines at 110 columns in Rust.
- Every module opens with a description.
- Every path that ARCHITECTURE.md, README.md and CONTRIBUTING.md name exists.
- No TODO without an issue number; no paths of somebody's home.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 600
CODE = {".py", ".rs"}
DOCUMENTS = ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md")
#: What a document calls a path: in back-quotes, with a folder or a known ending.
PATH = re.compile(r"`([\w.\-]+(?:/[\w.\-{}|,]*)*(?:/|\.(?:py|rs|md|json|yaml|toml)))`")
TODO = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")
HOME = re.compile(r"(?:/home|/root|/Users)/\w+")


def tracked() -> list[Path]:
    """Every file that git tracks or would."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def is_test(path: Path) -> bool:
    """Whether a file is a test, which may be long and needs no description."""
    parts = path.relative_to(ROOT).parts
    return "tests" in parts or path.stem in {"tests", "conftest"} or path.stem.startswith("test_")


def length(path: Path, lines: list[str]) -> Iterator[str]:
    """Files that are too long to find one's way in."""
    tests = next((i for i, line in enumerate(lines) if line.strip() == "#[cfg(test)]"), len(lines))
    if not is_test(path) and tests > LINES_MAX:
        yield f"{tests} lines, {LINES_MAX} are the limit: which two ideas are in it?"


def description(path: Path, lines: list[str]) -> Iterator[str]:
    """Modules that do not say what they are for."""
    first = next((line for line in lines if line.strip() and not line.startswith("#!")), "")
    opening = ("//!",) if path.suffix == ".rs" else ('"""', 'r"""', "#")
    if lines and not is_test(path) and not first.startswith(opening):
        yield "opens without a description"


def words(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Words that should not be there."""
    for number, line in enumerate(lines, 1):
        if TODO.search(line):
            yield number, "a TODO needs an issue number: TODO(#12)"
        if HOME.search(line):
            yield number, "a path of somebody's machine"


def named_paths(document: Path) -> Iterator[tuple[int, str]]:
    """Paths that a document names and that are not there."""
    for number, line in enumerate(document.read_text().splitlines(), 1):
        for name in PATH.findall(line):
            if "{" in name or "|" in name or "…" in name:
                continue
            if not (ROOT / name).exists() and not list(ROOT.glob(f"**/{name.rstrip('/')}")):
                yield number, f"names {name}, which is not there"


def findings() -> Iterator[str]:
    """Everything that is untidy."""
    for path in tracked():
        name = path.relative_to(ROOT)
        if path.suffix in CODE:
            lines = path.read_text().splitlines()
            yield from (f"{name}:1: {what}" for what in length(path, lines))
            yield from (f"{name}:1: {what}" for what in description(path, lines))
            if path != Path(__file__).resolve():
                yield from (f"{name}:{number}: {what}" for number, what in words(lines))
    for document in DOCUMENTS:
        yield from (f"{document}:{number}: {what}" for number, what in named_paths(ROOT / document))


def main() -> int:
    """Prints the findings; 1 when there are any."""
    found = sorted(findings())
    print("\n".join(found) or "tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
