"""From image names to commands on this machine: there is no registry here, and nothing is pulled.

What comes in: the ``image`` of a container. What goes out: an ``Image`` (entrypoint, cmd, env), or
an ``UnknownImage`` that says how to add one.

``image_table`` is what we ship; ``STATE/images.yaml`` and the file of ``fsm up --images`` (or in
``$FSM_IMAGES``) extend it and win over it. Such a file maps patterns to commands::

    "registry.example/shop/web*":          # a shell pattern, matched as below
      entrypoint: ["{python}", "-m", "shop.web"]
      cmd: ["--port", "8080"]              # optional; `args` of the container replace it
      env: {LANG: C.UTF-8}                 # optional
      programs: {/shop: ["{python}", "-m", "shop"]}   # optional: files that only the image has

``{python}`` is the interpreter that runs fsm, ``{bin}`` the directory it is in.
Matching: a pattern without a tag matches any tag and digest; one without a registry host matches
any host. Invariant: a file that is broken is reported for the containers that need it, and changes
nothing for images of the built-in table.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from fsm.standalone.node.image_table import BUILT_IN, Image

__all__ = ["BUILT_IN", "Image", "Images", "UnknownImage", "command_of", "read_map", "repository"]

#: Where programs are looked for, besides the directory of fsm's own interpreter.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnknownImage(Exception):
    """No entry matches, or what it runs is not installed; the text says how to change that."""


class Images:
    """Finds what an image runs; reads the map files again whenever it is asked."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def find(self, name: str) -> Image:
        """Look an image up.

        Raises:
            UnknownImage: no entry matches, the map file that might hold one is broken, or a
                program that the image needs is not installed.

        """
        problems = []
        for path in self._files:
            try:
                entries = read_map(path)
            except FileNotFoundError:
                continue
            except ValueError as error:
                problems.append(str(error))
                continue
            if (image := _match(name, entries)) is not None:
                return image
        if (image := _match(name, BUILT_IN)) is not None:
            if missing := [need for need in image.needs if not _installed(need)]:
                raise UnknownImage(
                    f'image "{name}" stands for programs of this machine, and'
                    f" {', '.join(missing)} is not installed\nhint: {image.get}"
                )
            return image
        where = self._files[0] if self._files else "images.yaml"
        trouble = "".join(f"\n{problem}" for problem in problems)
        example = f'"{repository(name)}": {{entrypoint: ["PROGRAM"], cmd: ["ARG"]}}'
        raise UnknownImage(
            f'no command is known for image "{name}": nothing is pulled here, images are mapped to'
            f" programs of this machine{trouble}\nhint: add a line like {example} to {where}; it is"
            " read again at the next attempt (docs/reference/standalone.md lists what is known)"
        )


def command_of(image: Image, container: dict[str, Any]) -> tuple[str, ...]:
    """Combine image and container as Kubernetes does; empty when neither says what to run.

    Source: https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
    """
    command, args = container.get("command"), container.get("args")
    if command:
        words = (*command, *(args or ()))
    elif args and _is_command(image, str(args[0])):
        words = tuple(args)
    else:
        words = (*image.entrypoint, *(args if args else image.cmd))
    if words and words[0] in image.programs:
        words = (*image.programs[words[0]], *words[1:])
        # An entrypoint script stands for nothing by itself: what follows it is the command.
        if words and words[0] in image.programs:
            words = (*image.programs[words[0]], *words[1:])
    return words


def _is_command(image: Image, word: str) -> bool:
    if word.startswith("-"):
        return False
    # Only names: what holds a slash may be an address (`curl HOST/PATH`).
    found = "/" not in word and shutil.which(word, path=SYSTEM_PATH) is not None
    return image.passes or (image.passes_programs and found)


def repository(name: str) -> str:
    """Cut host, tag and digest off an image name."""
    path = name.split("@")[0]
    head, _, last = path.rpartition("/")
    path = f"{head}/{last.split(':')[0]}" if head else last.split(":")[0]
    first, _, rest = path.partition("/")
    # The rule of the image name format: a first part with a dot or port is a host.
    if rest and ("." in first or ":" in first or first == "localhost"):
        path = rest
    return path.removeprefix("library/")


def read_map(path: Path) -> dict[str, Image]:
    """Read a map file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is broken; the text says where.

    """
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"the image map {path} cannot be read: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValueError(f"the image map {path} must map image patterns to commands")
    return {str(k): _entry(path, str(k), value) for k, value in document.items()}


def _entry(path: Path, pattern: str, value: Any) -> Image:
    where = f"the image map {path}, entry {pattern!r}"
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a mapping with entrypoint, cmd, env, programs")
    if unknown := set(value) - {"entrypoint", "cmd", "env", "programs"}:
        raise ValueError(f"{where}: unknown fields: {', '.join(sorted(map(str, unknown)))}")
    words = {}
    for key in ("entrypoint", "cmd"):
        words[key] = _words(value.get(key) or [], f"{where}: {key}")
    env = value.get("env") or {}
    if not isinstance(env, dict):
        raise ValueError(f"{where}: env must be a mapping")
    programs = value.get("programs") or {}
    if not isinstance(programs, dict):
        raise ValueError(f"{where}: programs must map files of the image to commands")
    return Image(
        words["entrypoint"],
        words["cmd"],
        {str(k): str(v) for k, v in env.items()},
        {str(k): _words(v, f"{where}: programs: {k}") for k, v in programs.items()},
    )


def _words(listed: Any, where: str) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise ValueError(f"{where} must be a list of strings")
    return tuple(listed)


def _installed(need: str) -> bool:
    if need.startswith("python:"):
        return importlib.util.find_spec(need.removeprefix("python:")) is not None
    path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
    return shutil.which(need, path=path) is not None


def _match(name: str, entries: dict[str, Image]) -> Image | None:
    short = repository(name)
    for pattern, image in entries.items():
        if any(fnmatchcase(form, pattern) for form in (name, name.split("@")[0], short)):
            return _filled(image)
    return None


def _filled(image: Image) -> Image:
    values = {"{python}": sys.executable, "{bin}": str(Path(sys.executable).parent)}

    def fill(word: str) -> str:
        for key, value in values.items():
            word = word.replace(key, value)
        return word

    programs = {k: tuple(map(fill, words)) for k, words in image.programs.items()}
    entrypoint, cmd = tuple(map(fill, image.entrypoint)), tuple(map(fill, image.cmd))
    env = {k: fill(v) for k, v in image.env.items()}
    # Our own modules must be found by the interpreter also where they are not installed.
    if sys.executable in (
        *entrypoint,
        *cmd,
        *(word for words in programs.values() for word in words),
    ):
        env.setdefault("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        env.setdefault("PYTHONUNBUFFERED", "1")
    return replace(
        image, entrypoint=entrypoint, cmd=cmd, env=env, programs=programs, get=fill(image.get)
    )
