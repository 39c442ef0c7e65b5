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

import fsm
from fsm.cli import errors


def main() -> None:
    """Run the command line and end the process."""
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
