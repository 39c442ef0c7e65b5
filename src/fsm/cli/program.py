"""Builds the ``fsm`` program from its commands.

What comes in: the words of the command line. What goes out: a ``typer`` program.

``COMMANDS`` is the one list of commands. Invariant: only the commands whose names stand on the
command line are imported and built, because building all of them takes longer than most of them
run; help, completion and mistyped names see all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

import typer

from fsm.cli import options

RUN = "On one machine"
MESH = "In the mesh"
OTHER = "Other"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, the module that holds it, and the panel of the help it is shown in.

    A module offers a function of the command's name, or, for a group, ``build``; ``components``,
    which holds several groups, wants to be told which. A ``loose`` one takes any words.
    """

    name: str
    module: str
    panel: str = OTHER
    group: bool = False
    hidden: bool = False
    loose: bool = False


COMMANDS = (
    Command("up", "up", RUN),
    Command("down", "down", RUN),
    Command("demo", "demo_command", RUN),
    Command("status", "status", RUN),
    Command("namespace", "namespace", MESH, group=True),
    Command("ns", "namespace", MESH, group=True, hidden=True),
    Command("proxy", "proxy", MESH, group=True),
    Command("explain", "explain", MESH),
    Command("validate", "validate", MESH),
    Command("rollout", "rollout", MESH, group=True),
    Command("certs", "certs", MESH, group=True),
    Command("policy", "policy", MESH, group=True),
    Command("plugin", "plugin", MESH, group=True),
    Command("verify", "verify", MESH, group=True),
    Command("metrics", "metrics", MESH, group=True),
    Command("mesh", "mesh", MESH, group=True),
    Command("install", "install", MESH),
    Command("uninstall", "uninstall", MESH, group=True),
    Command("delete", "uninstall", MESH, group=True, hidden=True),
    Command("del", "uninstall", MESH, group=True, hidden=True),
    Command("support", "support", group=True),
    Command("completion", "completion"),
    Command("env", "env"),
    Command("version", "version"),
    Command("controller", "controller", hidden=True),
    Command("standalone", "standalone", group=True, hidden=True),
    *(
        Command(name, "components", group=True, hidden=True)
        for name in (
            *("ingress", "ing", "gateway", "gw", "egressgateway", "egw"),
            *("servicelb", "slb", "flb"),
        )
    ),
    *(
        Command(name, "components", hidden=True, loose=True)
        for name in ("dashboard", "alpha", "get", "describe", "apply", "analyze")
    ),
)


def build(commands: Iterable[Command] = COMMANDS) -> typer.Typer:
    """Return the program with these commands."""
    app = typer.Typer(
        name="fsm",
        help="A service mesh for one machine or many clusters.",
        epilog="Start with `fsm demo`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no mesh to "
        "talk to, 4 timed out, 5 not in this version, 130 interrupted.",
        no_args_is_help=True,
        # Its options are not for people: they have `fsm completion`.
        add_completion=_completing(),
        # A person at a terminal gets panels and colours; a pipe gets text that can be searched.
        rich_markup_mode="rich" if _fancy() else None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in commands:
        module = import_module(f"fsm.cli.{command.module}")
        if command.group:
            told = (command.name,) if command.module == "components" else ()
            app.add_typer(
                module.build(*told),
                name=command.name,
                hidden=command.hidden,
                rich_help_panel=command.panel,
            )
        else:
            function = getattr(module, command.name)
            app.command(
                command.name,
                hidden=command.hidden,
                rich_help_panel=command.panel,
                context_settings=options.ANYTHING if command.loose else None,
            )(function)
    return app


def needed(arguments: Iterable[str]) -> tuple[Command, ...]:
    """Return the commands that a command line may mean: those named in it, or all."""
    words = set(arguments)
    named = tuple(command for command in COMMANDS if command.name in words)
    return COMMANDS if _completing() or not named else named


def _completing() -> bool:
    return any(name.endswith("_COMPLETE") for name in os.environ)


def _root(
    ctx: typer.Context,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    namespace: options.NamespaceOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    verbose: options.VerboseOption = False,
) -> None:
    del verbose  # `main` takes it off the command line, wherever it stands.
    ctx.obj = options.target(ctx, kubeconfig, context, namespace, fsm_namespace)


def _fancy() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
