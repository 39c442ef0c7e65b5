"""``fsm completion bash|zsh|fish``: the script that completes commands and options in a shell.

What comes in: the name of a shell. What goes out: its script on stdout. The script asks this
program itself, so it is always of the version that runs.
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Shell(enum.StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completion script of a shell: `source <(fsm completion bash)`."""
    from typer import _completion_shared as scripts

    from fsm.cli.main import program_name

    name = program_name()
    variable = f"_{name}_COMPLETE".upper()
    print(scripts.get_completion_script(prog_name=name, complete_var=variable, shell=shell.value))
