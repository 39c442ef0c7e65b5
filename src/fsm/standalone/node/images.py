"""From image names to commands on this machine: there is no registry here, and nothing is pulled.

What comes in: the ``image`` of a container. What goes out: an ``Image`` (entrypoint, cmd, env), or
an ``UnknownImage`` that says how to add one.

The table below is what we ship; ``STATE/images.yaml`` and the file in ``$FSM_IMAGES`` extend it and
win over it. Such a file maps patterns to commands::

    "registry.example/shop/web*":          # a shell pattern, matched as below
      entrypoint: ["{python}", "-m", "shop.web"]
      cmd: ["--port", "8080"]              # optional; `args` of the container replace it
      env: {LANG: C.UTF-8}                 # optional

``{python}`` is the interpreter that runs fsm, ``{bin}`` the directory it is in.
Matching: a pattern without a tag matches any tag and digest; one without a registry host matches
any host. Invariant: a file that is broken is reported for the containers that need it, and changes
nothing for images of the built-in table.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

_FSM = ("{python}", "-c", "from fsm.cli.main import main; main()")


@dataclass(frozen=True, slots=True)
class Image:
    """What an image would run by itself.

    Attributes:
        entrypoint: replaced by ``command`` of a container.
        cmd: replaced by ``args``; dropped when there is a ``command``.
        env: defaults below the container's own ``env``.

    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


class UnknownImage(Exception):
    """No entry matches; the text names the files where one can be added."""


def _app(module: str) -> Image:
    return Image(("{python}", "-m", f"fsm_bookstore.{module}"))


_SHELL = Image((), ("sh",))

#: Repository pattern (without host and tag) to what it runs.
BUILT_IN: dict[str, Image] = {
    "flomesh/pipy-repo*": Image(("pipy",), ()),
    "flomesh/pipy*": Image(("pipy",), ()),
    "flomesh/fsm-controller*": Image(_FSM, ("controller",)),
    "flomesh/fsm-injector*": Image(_FSM, ("controller",)),
    "flomesh/fsm-bootstrap*": Image(_FSM, ("bootstrap",)),
    "flomesh/fsm-sidecar-init*": Image((), ("sh",)),
    "flomesh/fsm*": Image(_FSM, ()),
    "flomesh/bookbuyer": _app("bookbuyer"),
    "flomesh/bookthief": _app("bookthief"),
    "flomesh/bookstore*": _app("bookstore"),
    "flomesh/bookwarehouse": _app("bookwarehouse"),
    "openservicemesh/bookbuyer": _app("bookbuyer"),
    "openservicemesh/bookthief": _app("bookthief"),
    "openservicemesh/bookstore*": _app("bookstore"),
    "openservicemesh/bookwarehouse": _app("bookwarehouse"),
    "curlimages/curl": Image(("curl",), ("--help",)),
    "flomesh/alpine-debug": _SHELL,
    "kennethreitz/httpbin": Image(("gunicorn",), ("-b", "0.0.0.0:80", "httpbin:app")),
    "flomesh/httpbin": Image(("gunicorn",), ("-b", "0.0.0.0:80", "httpbin:app")),
    "python": Image((), ("{python}",)),
    "alpine": _SHELL,
    "busybox": _SHELL,
    "debian": _SHELL,
    "ubuntu": _SHELL,
    "*/alpine": _SHELL,
    "*/busybox": _SHELL,
    "*/debian": _SHELL,
    "*/ubuntu": _SHELL,
}


class Images:
    """Finds what an image runs; reads the map files again whenever it is asked."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def find(self, name: str) -> Image:
        """Look an image up.

        Raises:
            UnknownImage: no entry matches, or the map file that might hold one is broken.

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
            return image
        where = self._files[0] if self._files else "images.yaml"
        trouble = "".join(f"\n{problem}" for problem in problems)
        example = f'"{repository(name)}": {{entrypoint: ["PROGRAM"], cmd: ["ARG"]}}'
        raise UnknownImage(
            f'no command is known for image "{name}": nothing is pulled here, images are mapped to'
            f" programs of this machine{trouble}\nhint: add a line like {example} to {where}"
        )


def command_of(image: Image, container: dict[str, Any]) -> tuple[str, ...]:
    """Combine image and container as Kubernetes does; empty when neither says what to run.

    Source: https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
    """
    command, args = container.get("command"), container.get("args")
    if command:
        return (*command, *(args or ()))
    return (*image.entrypoint, *(args if args else image.cmd))


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
        raise ValueError(f"{where}: expected a mapping with entrypoint, cmd, env")
    if unknown := set(value) - {"entrypoint", "cmd", "env"}:
        raise ValueError(f"{where}: unknown fields: {', '.join(sorted(map(str, unknown)))}")
    words = {}
    for key in ("entrypoint", "cmd"):
        listed = value.get(key) or []
        if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
            raise ValueError(f"{where}: {key} must be a list of strings")
        words[key] = tuple(listed)
    env = value.get("env") or {}
    if not isinstance(env, dict):
        raise ValueError(f"{where}: env must be a mapping")
    return Image(words["entrypoint"], words["cmd"], {str(k): str(v) for k, v in env.items()})


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

    env = {k: fill(v) for k, v in image.env.items()}
    # Our own modules must be found by the interpreter also where they are not installed.
    if any("{python}" in word for word in (*image.entrypoint, *image.cmd)):
        env.setdefault("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        env.setdefault("PYTHONUNBUFFERED", "1")
    return Image(tuple(map(fill, image.entrypoint)), tuple(map(fill, image.cmd)), env)
