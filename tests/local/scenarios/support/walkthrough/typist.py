"""Types commands into one shell, as somebody does who follows a README.

What comes in: steps. What goes out: nothing, or an error that shows the command, what was promised,
and what came. The shell keeps its variables between commands, and its folder is the README's.

Invariants: every command has a time limit; the shell and what it started end with `close`.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from walkthrough.readme import Step

COMMAND_S = 60.0
"""Longest run of one command, in seconds."""


class Typist:
    """A shell that is typed into."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A process group of its own, so that nothing that it starts can outlive it.
            start_new_session=True,
        )
        self.seen: list[str] = []

    def follow(self, step: Step) -> None:
        """Type a command; its outcome must be the promised one."""
        began = time.monotonic()
        output, code = self.type(step.command)
        self.seen.append(f"{time.monotonic() - began:5.1f} s  {step}")
        if not step.fits(output, code):
            promised = "\n".join(step.shows) or "(anything)"
            raise AssertionError(
                f"{step}\n--- promised, exit code {step.exit_code}\n{promised}\n"
                f"--- came, exit code {code}\n{output}\n--- before\n" + "\n".join(self.seen)
            )

    def type(self, command: str) -> tuple[str, int]:
        """Type a command; returns what it shows, and its exit code."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        mark = f"--{secrets.token_hex(8)}--"
        # Braces, not a subshell: variables that are set stay set.
        text = f"{{ {command}\n}} </dev/null\nprintf '%s%d\\n' '{mark}' $?\n"
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()
        deadline = time.monotonic() + COMMAND_S
        received = b""
        wanted = mark.encode()
        while wanted not in received or not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._shell.stdout], [], [], max(0.0, left))
            part = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            if not part:
                told = received.decode(errors="replace")
                raise AssertionError(f"no end within {COMMAND_S:g} s: $ {command}\n{told}")
            received += part
        output, _, code = received.decode(errors="replace").rpartition(mark)
        return output, int(code)

    def close(self) -> None:
        """End the shell and all that it started."""
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._shell.communicate()
