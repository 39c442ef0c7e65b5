"""Tries scripts of Plugins out, in the engine that runs them.

What comes in: a plugin's name and its script, or its object. What goes out: why it does not load,
with line and column; what is doubtful in it.

How: ``pipy check --plugin`` as a process of its own, which may open no file and no connection and
sees no environment, for a script may do as it is loaded whatever it likes. Invariants: an answer
comes within ``TRIED_WITHIN_S``, and nothing waits for it but who asked; a script is tried once.
Where the engine is not at hand nothing is refused: proxies have it, and say so themselves.

    admission, fsm validate ──► examine ──► violations and warnings
    a Plugin that changed   ──► prepare ──► noted: its object, with what was found in its status
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsm.policies import Violation
from fsm.policies.plugin.schema import FAULT_FIELD

log = logging.getLogger("fsm.controllers")

JsonObject = Mapping[str, Any]

TRIED_WITHIN_S = 5.0
"""LIMIT: seconds; the engine itself stops a callback after half of one."""
AT_ONCE_MAX = 2
"""LIMIT: scripts that are tried at the same time; each takes a core and up to 64 MiB."""
KNOWN_MAX = 1024
"""LIMIT: answers that are kept."""
PATH = "spec.pipyscript"
_PLACE = re.compile(r"/plugins/\S+?\.js:(\d+):(\d+): (.*)")


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of trying a script out."""

    fault: str = ""
    """Why it does not load; empty: it does."""
    doubts: tuple[str, ...] = ()


class Scripts:
    """Tries scripts out and remembers what came of it."""

    def __init__(self, program: str | None = None, within_s: float = TRIED_WITHIN_S) -> None:
        """Make one.

        Args:
            program: the engine; ``None``: the one that is installed beside fsm.
            within_s: how long a script may take, seconds.
        """
        self._program = program or _installed()
        self._within_s = within_s
        self._known: OrderedDict[tuple[str, str], Examined] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    async def examine(self, name: str, script: str) -> Examined:
        """Try a script out."""
        known = self._known.get((name, script))
        if known is not None:
            self._known.move_to_end((name, script))
            return known
        if self._program is None:
            return Examined(doubts=("it was not tried out: pipy is not installed here",))
        async with self._room:
            found = await self._try(self._program, name, script)
        self._known[name, script] = found
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    async def violations(self, obj: JsonObject) -> tuple[list[Violation], list[Violation]]:
        """Return the faults and doubts that only the engine finds in an object of any kind."""
        script = _script_of(obj)
        if script is None:
            return [], []
        found = await self.examine(*script)
        hint = "fsm plugin test runs a plugin against a request, without a mesh"
        faults = [Violation(PATH, found.fault, hint)] if found.fault else []
        return faults, [Violation(PATH, doubt) for doubt in found.doubts]

    async def prepare(self, objects: Iterable[JsonObject]) -> None:
        """Try out what is not known yet of some objects."""
        scripts = [script for obj in objects if (script := _script_of(obj)) is not None]
        unknown = [script for script in scripts if script not in self._known]
        for (name, _), found in zip(
            unknown, await asyncio.gather(*(self.examine(*each) for each in unknown)), strict=True
        ):
            if found.fault:
                log.warning("the script of Plugin %s does not load: %s", name, found.fault)

    def noted(self, kind: str, obj: JsonObject | None) -> Any:
        """Return an object as it is compiled: a Plugin with what was found of its script.

        What the API has in that place is not believed; it is not the place of anybody else.
        """
        if kind != "Plugin" or obj is None:
            return obj
        script = _script_of(obj)
        fault = self._known.get(script, Examined()).fault if script else ""
        return {**obj, "status": {FAULT_FIELD: fault}}

    async def _try(self, program: str, name: str, script: str) -> Examined:
        process = await asyncio.create_subprocess_exec(
            program,
            *("check", "--plugin", name, "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
        )
        try:
            async with asyncio.timeout(self._within_s):
                out, err = await process.communicate(script.encode(errors="replace"))
        except TimeoutError:
            return Examined(f"it is not loaded within {self._within_s:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode == 0:
            return Examined(doubts=tuple(_doubts(out.decode(errors="replace"))))
        # What the script itself has to say comes before.
        _, _, said = ("\n" + err.decode(errors="replace")).partition("\npipy: ")
        if process.returncode is None or process.returncode < 0 or not said:
            return Examined(f"the engine ended while it was loaded ({process.returncode})")
        return Examined(in_words(said))


def in_words(said: str) -> str:
    """Say what the engine said, with line and column of the script."""
    first, *rest = said.splitlines() or [""]
    found = _PLACE.match(first)
    if found is None:
        return first
    line, column, what = found.groups()
    # The next two lines show the place.
    shown = f", at {rest[0].strip()!r}" if rest else ""
    return f"line {line}, column {column}: {what}{shown}"


def _doubts(out: str) -> Iterable[str]:
    for line in out.splitlines():
        if line.startswith("warning: "):
            yield in_words(line.removeprefix("warning: "))


def _script_of(obj: JsonObject) -> tuple[str, str] | None:
    spec, metadata = obj.get("spec"), obj.get("metadata")
    if obj.get("kind", "Plugin") != "Plugin" or not isinstance(spec, Mapping):
        return None
    script = spec.get("pipyscript")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return (str(name or "plugin"), script) if isinstance(script, str) and script.strip() else None


def _installed() -> str | None:
    beside = Path(sys.executable).with_name("pipy")
    return str(beside) if beside.exists() else shutil.which("pipy")
