"""The project's pages as tests read them: headings, links, blocks, and the commands in those.

What comes in: Markdown files of the repository. What goes out: their parts. Not done here: judging
them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEREDOC = re.compile(r"<<-?'?\"?(\w+)\"?'?\n(.*?)^\1$", re.M | re.S)
INNER = re.compile(r"\$\(([^()]*)\)")
PROMPT = re.compile(r"^(?:\$|#) ")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced part of a page: its language, its text, and the line where it begins."""

    page: Path
    line: int
    language: str
    text: str


@cache
def pages() -> tuple[Path, ...]:
    """Every Markdown file of the repository: those that git knows."""
    command = ["git", "ls-files", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return tuple(ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def name(page: Path) -> str:
    """What people call a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        indent, language, inner = match.groups()
        lines = (line.removeprefix(indent) for line in inner.splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, match.start()) + 1, language, "".join(lines))


def prose(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", page.read_text())


def links(page: Path) -> Iterator[str]:
    """The links of a page to other files, and to headings."""
    for target in LINK.findall(CODE.sub("", prose(page))):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


def anchors(page: Path) -> set[str]:
    """What links to headings of this page may name."""
    found = set()
    for line in prose(page).splitlines():
        if line.startswith("#"):
            title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip().lower())
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


def typed(block: Block) -> str:
    """What a block has people type: the lines behind prompts where it has prompts."""
    lines = block.text.splitlines()
    if not any(PROMPT.match(line) for line in lines):
        return block.text
    taken: list[str] = []
    inside = False
    for line in lines:
        if PROMPT.match(line) or inside:
            taken.append(line[2:] if PROMPT.match(line) else line.removeprefix("> "))
            inside = line.endswith("\\")
    return "\n".join(taken)


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a piece of shell, as words; documents that are fed to them left out.

    A piece that is no shell gives nothing.
    """
    text = HEREDOC.sub("\n", text).replace("\\\n", " ")
    for inner in INNER.findall(text):
        yield from commands(inner)
    text = INNER.sub("X", text)
    lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars="();<>|&")
    lexer.commenters = ""
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= set("();<>|&"):
                yield words
                words = []
            elif words or not re.match(r"(?:\w+=|export$|do$|then$|sudo$|time$)", word):
                words.append(word)
    except ValueError:
        return
    yield words


def shell(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The commands that a page has people type, with the line where their block begins."""
    for block in blocks(page):
        if block.language in {"", "sh", "bash", "console"}:
            # A comment ends its line; one inside of quotes is none, and has no blank before it.
            text = re.sub(r"(?:^|(?<=\s))#\s.*$", "", typed(block), flags=re.M)
            for words in commands(text):
                yield block.line, words
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for code in CODE.findall(line):
            for words in commands(code.strip("`")):
                yield number, words
