"""What pages have people type exists: commands, options, tasks of make, objects that are applied.

Nothing is carried out here; scenarios and READMEs of examples are (`tests/local`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pages
import pytest
import typer
import yaml

from fsm.cli import program
from fsm.controllers.validation import validate_documents

#: The changelog tells what once was.
PAGES = [page for page in pages.pages() if page.name != "CHANGELOG.md"]
PIPY_OPTION = re.compile(r"`(--?[\w-]+)")
PATCH = re.compile(r"^\s*\{|^\s*spec:")


@cache
def root() -> Any:
    return typer.main.get_command(program.build())


def wrong(words: list[str]) -> str | None:
    """Why a command line of `fsm` names what is not there, or nothing."""
    command, valued = root(), False
    for word in words[1:]:
        if word == "--":
            break
        if re.match(r"--?[a-zA-Z]", word):
            short = word[:2] if word[1] != "-" else word.partition("=")[0]
            taken = {name: p for p in command.params for name in (*p.opts, *p.secondary_opts)}
            if short not in {*taken, "-h", "--help", "--verbose", "--version"}:
                return f"{word} is no option of {command.name}"
            valued = short in taken and not getattr(taken[short], "is_flag", False)
            valued = valued and word == short
        elif valued:
            valued = False
        elif hasattr(command, "commands") and word in command.commands:
            command = command.commands[word]
        elif hasattr(command, "commands") and re.match(r"[a-z]", word):
            return f"{word} is no command of {command.name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_commands_of_fsm_are_there(page: Path) -> None:
    found = [
        f"line {line}: {' '.join(words)}: {why}"
        for line, words in pages.shell(page)
        if words[:1] in (["fsm"], ["osm"]) and (why := wrong(words)) is not None
    ]
    assert found == []


@cache
def pipy_options() -> frozenset[str]:
    """The options of pipy; a test compares that page with the program."""
    return frozenset(PIPY_OPTION.findall((pages.DOCS / "reference/pipy.md").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_options_of_pipy_are_there(page: Path) -> None:
    found = [
        f"line {line}: {word}"
        for line, words in pages.shell(page)
        if words[:1] == ["pipy"] and words[1:2] not in (["sidecar"], ["check"])
        for word in (words[1 : words.index("--")] if "--" in words else words[1:])
        if word.startswith("-") and word.partition("=")[0] not in pipy_options()
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_tasks_of_make_are_there(page: Path) -> None:
    tasks = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(), re.M))
    named = {
        word
        for _, words in pages.shell(page)
        if words[:1] == ["make"]
        for word in words[1:]
        if re.fullmatch(r"[a-z-]+", word)
    }
    assert named - tasks == set()


def objects(page: Path) -> list[dict[str, Any]]:
    """The objects of the mesh's kinds that a page shows whole, and its patches of MeshConfig."""
    found: list[dict[str, Any]] = []
    for block in pages.blocks(page):
        texts = [inner for _, inner in pages.HEREDOC.findall(block.text)]
        texts += [block.text] if block.language == "yaml" else []
        for text in texts:
            if "$(" not in text:
                found += [one for one in yaml.safe_load_all(text) if is_whole(one)]
    for _, words in pages.shell(page):
        if "meshconfig" in words and "patch" in words:
            patch = next((word for word in words if PATCH.match(word)), None)
            if patch is not None and "$" not in patch:
                kind = {"kind": "MeshConfig", "apiVersion": "config.flomesh.io/v1alpha3"}
                found.append(
                    kind | {"metadata": {"name": "fsm-mesh-config"}} | yaml.safe_load(patch)
                )
    return found


def is_whole(one: Any) -> bool:
    return isinstance(one, dict) and {"kind", "apiVersion", "metadata"} <= set(one)


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_objects_that_pages_show_would_be_taken(page: Path) -> None:
    findings = validate_documents(objects(page))
    assert [f"{f.path}: {f.message}" for f in findings if f.severity == "error"] == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fsm up --port 0", False),
        ("fsm up --prot 0", True),
        ("fsm nosuch", True),
        ("fsm certs nosuch", True),
        ("fsm certs …", False),
        ("fsm explain a/b http://c -X POST", False),
        ("fsm --namespace x status", False),
        ("fsm validate -f x --against-mesh -ojson", False),
        ("fsm validate -f x --against-cluster", True),
    ],
)
def test_what_is_not_there_is_told(line: str, told: bool) -> None:
    assert (wrong(line.split()) is not None) is told


def test_commands_are_found_where_pages_have_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ A=1 fsm up \\\n>  --port 0   # the box\nfsm no command\n```\n"
        '```sh\nexport K="$(fsm env)"; fsm a | grep b\ncat <<E\nfsm document\nE\n```\nand `fsm c`\n'
    )
    found = [(line, words) for line, words in pages.shell(page) if words[:1] == ["fsm"]]
    assert found == [
        (1, ["fsm", "up", "--port", "0"]),
        (6, ["fsm", "env"]),
        (6, ["fsm", "a"]),
        (12, ["fsm", "c"]),
    ]
