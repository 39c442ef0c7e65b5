"""Values for an installation: ``--set key=value`` and ``-f values.yaml``, as Helm users type them.

What comes in: the words of the command line, files. What goes out: one tree of values, and its
leaves by dotted key.

Understood of ``--set``: commas between assignments, ``{a,b}`` for lists, ``key[0]=x``, ``null`` to
remove, a backslash before a comma, dot, bracket or brace that is meant literally. Words that are
true, false or a whole number are that; everything else is text.
Invariants: later wins over earlier, ``--set`` over files; a list replaces a list; what is malformed
is refused with the assignment it stands in.
Not done here: the meaning of keys (``chart``).
Source: https://helm.sh/docs/intro/using_helm/#the-format-and-limitations-of---set
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fsm.cli.errors import ExitCode, Failure

Tree = dict[str, Any]

INDEX_MAX = 1000
"""LIMIT: the largest index of ``key[0]=x``; a typing error must not allocate gigabytes."""

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A value of the installation, such as fsm.enableEgress=false; repeatable, "
        "or with commas.",
    ),
]
FileOption = Annotated[
    list[Path] | None,
    typer.Option("--values", "-f", help="A YAML file of values; repeatable, later wins."),
]


def gather(files: Sequence[Path] | None, assignments: Sequence[str] | None) -> Tree:
    """Return the values of some files and ``--set`` options together.

    Raises:
        Failure: a file cannot be read, or an assignment is malformed.
    """
    tree: Tree = {}
    for path in files or ():
        tree = merged(tree, _read(path))
    for text in assignments or ():
        for assignment in _split(text, ","):
            _assign(tree, assignment)
    return tree


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return ``base`` with ``over`` laid over it; ``None`` removes."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that is no mapping, by its dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(tree: Tree, path: str, value: object) -> None:
    """Set the value at a dotted path, making the mappings on the way."""
    *parents, last = path.split(".")
    for name in parents:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[last] = value


def _read(path: Path) -> Tree:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", code=ExitCode.USAGE) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}," if mark else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Failure(f"{path}{place} is not YAML: {what}", code=ExitCode.USAGE) from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise Failure(
            f"{path} does not hold values",
            hint="it should look like fsm: {enableEgress: false}",
            code=ExitCode.USAGE,
        )
    return document


def _assign(tree: Tree, assignment: str) -> None:
    if not assignment.strip():
        return
    parts = _split(assignment, "=", 1)
    if len(parts) != 2 or not parts[0].strip():
        raise _malformed(assignment, "there is no “=”")
    names = [_name(word.strip(), assignment) for word in _split(parts[0], ".")]
    here: Any = tree
    for position, (name, index) in enumerate(names):
        last = position == len(names) - 1
        if index is None:
            here = _step(here, name, _value(parts[1]) if last else None, leaf=last)
            continue
        found = here.get(name)
        items = here[name] = list(found) if isinstance(found, list) else []
        items += [None] * (index + 1 - len(items))
        if last:
            items[index] = _value(parts[1])
        else:
            items[index] = items[index] if isinstance(items[index], dict) else {}
            here = items[index]


def _step(here: Tree, name: str, value: Any, *, leaf: bool) -> Any:
    if leaf:
        here[name] = value
        return here
    if not isinstance(here.get(name), dict):
        here[name] = {}
    return here[name]


def _name(word: str, assignment: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.*?)(?<!\\)\[(\d+)\]", word)
    name, index = (match[1], int(match[2])) if match else (word, None)
    if not name:
        raise _malformed(assignment, "a part of the key is empty")
    if index is not None and index > INDEX_MAX:
        raise _malformed(assignment, f"the index {index} is larger than {INDEX_MAX}")
    return _plain(name), index


def _value(text: str) -> Any:
    if text.startswith("{") and text.endswith("}"):
        inner = text[1:-1]
        return [_scalar(item.strip()) for item in _split(inner, ",")] if inner.strip() else []
    return _scalar(text)


def _scalar(text: str) -> Any:
    words = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    if re.fullmatch(r"-?(?:0|[1-9]\d{0,17})", text):
        return int(text)
    return _plain(text)


def _split(text: str, mark: str, most: int = 0) -> list[str]:
    """Split at a mark that stands outside of braces and not behind a backslash."""
    parts, depth, escaped = [""], 0, False
    for char in text:
        if char == mark and not depth and not escaped and not (most and len(parts) > most):
            parts.append("")
            continue
        if not escaped:
            depth += (char == "{") - (char == "}" and depth > 0)
        escaped = char == "\\" and not escaped
        parts[-1] += char
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\([,.{}\[\]=\\])", r"\1", text)


def _malformed(assignment: str, why: str) -> Failure:
    return Failure(
        f"--set {assignment}: {why}",
        hint="write --set key=value, such as --set fsm.enableEgress=false",
        code=ExitCode.USAGE,
    )
