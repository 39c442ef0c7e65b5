"""Writes two reference pages from the code: ``python -m fsm.manifests.reference PAGE``.

In: ``mesh-config`` or ``policies``; the text around the tables is in ``pages``. Out: the page,
Markdown, on standard output. A test fails when the pages in the repository are not what this module
writes; ``make docs`` writes them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from fsm.policies import POLICIES, Policy
from fsm.policies.mesh_config.effects import EFFECTS
from fsm.policies.mesh_config.schema import Body


def mesh_config_page() -> str:
    """Return ``docs/reference/mesh-config.md``."""
    types = dict(_fields(Body))
    rows = []
    for effect in EFFECTS:
        kind, default = types[effect.path]
        text = effect.text[0].upper() + effect.text[1:]
        ended = text if text.endswith(".") else f"{text}."
        rows.append(f"| `{effect.path}` | {kind} | {default} | {effect.when} | {ended} |\n")
    return _text("mesh-config") + "".join(rows)


def policies_page() -> str:
    """Return ``docs/reference/policies.md``."""
    rows = "\n".join(
        f"| {policy.kind} | `{policy.group}` | {', '.join(policy.versions)} |"
        for policy in POLICIES
    )
    return _text("policies").format(rows=rows) + "\n".join(_readme(policy) for policy in POLICIES)


def _text(page: str) -> str:
    return (files("fsm.manifests") / "pages" / f"{page}.md").read_text(encoding="utf-8")


def _readme(policy: Policy) -> str:
    folder = policy.model.__module__.removeprefix("fsm.policies.").split(".")[0]
    text = (files("fsm.policies") / folder / "README.md").read_text(encoding="utf-8")
    lowered = "\n".join(f"#{line}" if line.startswith("#") else line for line in text.splitlines())
    return lowered.rstrip() + "\n"


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    for name, field in model.model_fields.items():
        parts = [field.annotation, *get_args(field.annotation)]
        inner = [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]
        if inner:
            yield from _fields(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name, (_kind(field.annotation), _default(field.default))


_KINDS = {bool: "true or false", int: "number", float: "number", str: "text"}


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _KINDS:
        return _KINDS[annotation]
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return " · ".join(f"`{argument}`" for argument in arguments)
    named = [argument for argument in arguments if argument is not type(None)]
    if origin is list:
        return f"list of {_kind(named[0])}"
    if origin is dict:
        return "object"
    return _kind(named[0]) if named else "object"


def _default(value: object) -> str:
    if value in (None, ""):
        return "–"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


PAGES = {"mesh-config": mesh_config_page, "policies": policies_page}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
