"""The entry point of ``fsm`` and ``osm`` (the same program, for users of Open Service Mesh).

What comes in: the command line. What goes out: an exit code (``errors.ExitCode``), and for every
failure words on stderr instead of a traceback.

Invariant: this module imports next to nothing. ``fsm version`` with no mesh in sight, which scripts
and prompts call, is answered here in a few milliseconds; ``program`` answers everything else. A
test measures it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import fsm
from fsm.cli import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def main() -> None:
    """Run the command line and end the process."""
    sys.argv = [sys.argv[0], *plain_switches(sys.argv[1:])]
    if "--verbose" in sys.argv[1:]:
        # It may stand anywhere, and commands need not know of it.
        sys.argv = [word for word in sys.argv if word != "--verbose"]
        os.environ["FSM_DEBUG"] = "1"
    arguments = sys.argv[1:]
    if _wants_own_version(arguments):
        print(fsm.__version__ if "--version-only" in arguments else f"fsm {fsm.__version__}")
        return
    try:
        from fsm.cli.program import build, needed

        build(needed(arguments))(prog_name=program_name())
    except KeyboardInterrupt:
        raise SystemExit(errors.ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away (`fsm … | head`): nothing is left to say, and the
        # interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(errors.ExitCode.FAILED) from None
    except Exception as error:
        raise SystemExit(errors.report(error)) from None


#: Options without a value, by what says the opposite; where nothing does, it is the default.
_SWITCHES = {
    "--all": "",
    "--atomic": "",
    "--client-only": "",
    "--delete-cluster-wide-resources": "",
    "--delete-namespace": "",
    "--disable-sidecar-injection": "",
    "--dry-run": "",
    "--enforce-single-mesh": "--no-enforce-single-mesh",
    "--force": "",
    "--reset-values": "",
    "--version-only": "",
    "--wait": "--no-wait",
    "--watch": "--no-watch",
}


def plain_switches(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the words with ``--switch=true`` and ``=false``, as its relatives take them, plain."""
    for word in arguments:
        name, equals, value = word.partition("=")
        if name not in _SWITCHES or not equals or value not in ("true", "false"):
            yield word
        elif value == "true":
            yield name
        elif _SWITCHES[name]:
            yield _SWITCHES[name]


def program_name() -> str:
    """Return the name under which the program was called."""
    return "osm" if os.path.basename(sys.argv[0]) == "osm" else "fsm"


def _wants_own_version(arguments: list[str]) -> bool:
    if arguments == ["--version"] or arguments in (
        ["version", "--version-only"],
        ["version", "--client-only"],
    ):
        return True
    if arguments != ["version"]:
        return False
    from fsm.cli.whereabouts import may_have_mesh

    return not may_have_mesh()


if __name__ == "__main__":
    main()
