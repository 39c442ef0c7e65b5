"""The cases: what is sent, what may be seen, what is answered. From YAML; the form is this.

A file holds one class of cases::

    class: lengths                     # the row of the table
    about: one line for people
    cases:
      - name: signed                   # what is special
        line: "POST /{tag} HTTP/1.1"   # the request line; this one unless given
        host: "Host: shop"             # the line of the host; null for none
        headers: ["Content-Length: {value}"]
        body: "abc{smuggled}"          # what follows the head
        send: "..."                    # instead of the four: every byte
        finish: true                   # the client then ends its direction
        vary: {value: ["+3", "-3"]}    # one case for each combination of values
        refused: 400                   # the proxy answers so and closes; or a list
        seen: [[POST, "/{tag}", abc]]  # what the server reads before that, if anything

``{tag}`` names the case in everything that a server could take for a target; ``{smuggled}`` is a
request of its own, which must not be seen unless ``seen`` says so. ``seen: any`` leaves it to the
server what becomes of the request; that it saw no more than the proxy is always demanded.
``seen: begun`` is for what goes wrong after the head was sent on: no server may read it as whole,
and one may have answered before. A refusal of 0 is an end without an answer. A case over HTTP/2 has
``h2`` in place of a request line::

    h2: {fields: [[":path", "/x"]], more: [[name, value]], data: "...", trailers: [[name, value]]}

where ``fields`` replaces fields of an ordinary request (null takes one away), and ``more`` adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FILES = Path(__file__).parents[2] / "corpus"
_SMUGGLED = "GET /smuggled/{tag} HTTP/1.1\r\nHost: shop\r\n\r\n"

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class H2:
    """A request over HTTP/2, as raw as the case wants it."""

    fields: Fields
    data: bytes | None
    trailers: Fields


@dataclass(frozen=True)
class Expected:
    """A request that the server reads."""

    method: str
    target: str
    body: bytes


@dataclass(frozen=True)
class Case:
    """One exchange."""

    family: str
    name: str
    tag: str
    raw: bytes
    h2: H2 | None
    finish: bool
    # Statuses of the proxy's refusal, any of which is right; none when it refuses nothing.
    refused: tuple[int, ...]
    seen: tuple[Expected, ...]
    # The server decides what becomes of it.
    open: bool
    # Part of it may have reached the server before it was refused.
    begun: bool


@dataclass(frozen=True)
class Family:
    """One class of cases."""

    name: str
    about: str
    cases: tuple[Case, ...]


def load(directory: Path = _FILES) -> list[Family]:
    """Read all files; cases are numbered through."""
    numbers = itertools.count(1)
    families = []
    for path in sorted(directory.glob("*.yaml")):
        whole = yaml.safe_load(path.read_text())
        cases = [
            _case(whole["class"], one, f"x{next(numbers)}x")
            for entry in whole["cases"]
            for one in _varied(entry)
        ]
        families.append(Family(whole["class"], whole["about"], tuple(cases)))
    return families


def _varied(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    vary: dict[str, list[str]] = entry.pop("vary", {})
    for values in itertools.product(*vary.values()):
        one = entry
        for key, value in zip(vary, values, strict=True):
            one = _replace(one, "{" + key + "}", str(value))
        shown = ", ".join(repr(str(value)) for value in values)
        yield {**one, "name": f"{entry['name']}: {shown}" if shown else entry["name"]}


def _replace(part: Any, word: str, value: str) -> Any:
    match part:
        case str():
            return part.replace(word, value)
        case list():
            return [_replace(each, word, value) for each in part]
        case dict():
            return {key: _replace(each, word, value) for key, each in part.items()}
    return part


_KEYS = {"name", "line", "host", "headers", "body", "send", "finish", "refused", "seen", "h2"}


def _case(family: str, entry: dict[str, Any], tag: str) -> Case:
    unknown = set(entry) - _KEYS
    if unknown or not ({"refused", "seen"} & set(entry)):
        raise ValueError(f"{family}, {entry['name']}: unknown {unknown} or nothing expected")
    entry = _replace(_replace(entry, "{smuggled}", _SMUGGLED), "{tag}", tag)
    refused = entry.get("refused", ())
    seen = entry.get("seen", ())
    h2 = entry.get("h2")
    return Case(
        family=family,
        name=entry["name"],
        tag=tag,
        raw=b"" if h2 is not None else _bytes(_raw(entry, tag)),
        h2=None if h2 is None else _h2(h2, tag),
        finish=entry.get("finish", False),
        refused=(refused,) if isinstance(refused, int) else tuple(refused),
        seen=() if isinstance(seen, str) else tuple(Expected(m, t, _bytes(b)) for m, t, b in seen),
        open=seen == "any",
        begun=seen == "begun",
    )


def _raw(entry: dict[str, Any], tag: str) -> str:
    if "send" in entry:
        sent: str = entry["send"]
        return sent
    host = entry.get("host", "Host: shop")
    lines = [entry.get("line", f"POST /{tag} HTTP/1.1"), *([] if host is None else [host])]
    return "\r\n".join([*lines, *entry.get("headers", []), "", ""]) + entry.get("body", "")


def _h2(entry: dict[str, Any], tag: str) -> H2:
    fields: dict[str, str | None] = {
        ":method": "POST" if "data" in entry else "GET",
        ":scheme": "http",
        ":path": f"/{tag}",
        ":authority": "shop",
    }
    fields.update(dict(entry.get("fields", [])))
    all_of_them = [(name, value) for name, value in fields.items() if value is not None]
    all_of_them += [(name, value) for name, value in entry.get("more", [])]
    data = entry.get("data")
    return H2(
        tuple((_bytes(name), _bytes(value)) for name, value in all_of_them),
        None if data is None else _bytes(data),
        tuple((_bytes(name), _bytes(value)) for name, value in entry.get("trailers", [])),
    )


def _bytes(text: str) -> bytes:
    # One character of the file is one byte on the wire.
    return text.encode("latin-1")
