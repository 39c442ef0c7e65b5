"""Failures in words: what a command raises, what the person at the terminal reads.

What comes in: ``Failure`` from our own code, the exceptions of the layers below, and of the
operating system. What goes out: one ``error:`` line, when we know one a ``hint:`` line, and an exit
code. A fault of the program itself keeps its traceback: it is for us.

Invariants: this module imports no layer below at run time, so that it costs nothing; the classes of
those layers are recognised by their name and module.
"""

import enum
import os
import sys
import traceback


class ExitCode(enum.IntEnum):
    """What the commands return to a shell."""

    OK = 0
    """Done."""
    FAILED = 1
    """It was tried and did not work, or a claim of the demo did not hold."""
    USAGE = 2
    """The command line is wrong; nothing was tried."""
    NO_MESH = 3
    """There is nothing to talk to: no box runs, no kubeconfig, or the API does not answer."""
    TIMEOUT = 4
    """It did not happen within the time allowed; it may still happen."""
    ABSENT = 5
    """This version does not have it; nothing was tried."""
    INTERRUPTED = 130
    """Ended by Ctrl-C or SIGTERM."""


class Failure(Exception):
    """An expected failure, told to the person who typed the command."""

    def __init__(
        self, message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


_CODES = {
    "ConfigError": ExitCode.NO_MESH,
    "Unavailable": ExitCode.NO_MESH,
}

_HINTS = {
    "Unauthorized": "the kubeconfig is of another cluster, or of a box that was purged since",
    "Unavailable": "`fsm up` starts a box that has ended; a cluster must run, and be reachable",
    "ConfigError": "start the mesh with `fsm up`, or name a cluster with --kubeconfig",
}


def explain(error: BaseException) -> Failure | None:
    """Return ``error`` as a failure in words, or ``None`` when it is a fault of the program."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, BaseExceptionGroup):
        # One task group, one cause: the siblings were cancelled because of it.
        found = [explain(inner) for inner in error.exceptions]
        return next(iter(found), None) if all(found) else None
    kinds = [k.__name__ for k in type(error).__mro__ if k.__module__.startswith("fsm.")]
    if kinds:
        # The hint comes last; a message that quotes another error may hold that one's hint too.
        before, mark, last = str(error).rpartition("\nhint: ")
        text, hint = (before, last) if mark else (last, "")
        usual = next((_HINTS[k] for k in kinds if k in _HINTS), None)
        code = next((_CODES[k] for k in kinds if k in _CODES), ExitCode.FAILED)
        hint = hint or getattr(error, "hint", None) or usual or ""
        return Failure(text or kinds[0], hint=hint or None, code=code)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return Failure(f"{name}{error.strerror or error}")
    return None


def report(error: BaseException) -> int:
    """Tell ``error`` on stderr and return the exit code for it."""
    failure = explain(error)
    if failure is None:
        traceback.print_exception(error, file=sys.stderr)
        print("error: this is a fault in fsm, not in what you did", file=sys.stderr)
        return ExitCode.FAILED
    label, calm, plain = ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") if _coloured() else ("", "", "")
    print(f"{label}error:{plain} {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"{calm}hint:{plain} {failure.hint}", file=sys.stderr)
    if os.environ.get("FSM_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    return failure.code


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
