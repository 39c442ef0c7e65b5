"""``fsm standalone …``: the processes of the box, as ``fsm up`` starts them.

For eyes that debug: each sub-command is ``python -m`` of the package of its name and takes that
package's own flags.
"""

from __future__ import annotations

import runpy
import sys

import typer

MODULES = {
    "apiserver": ("fsm.standalone.apiserver", "Run the embedded Kubernetes API server."),
    "kube-controllers": ("fsm.standalone.workloads", "Run the small Kubernetes controllers."),
    "gateway": ("fsm.standalone.node.gateway", "Run the way out of the box."),
    "node": ("fsm.standalone.node", "Run the node agent."),
}

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def build() -> typer.Typer:
    """Return the group of sub-commands."""
    group = typer.Typer(help="The processes of the box (started by `fsm up`).")
    for name, (module, help_text) in MODULES.items():
        group.command(name, help=help_text, context_settings=dict(PASS_ON))(_runner(name, module))
    return group


def _runner(name: str, module: str):  # type: ignore[no-untyped-def]
    def run(ctx: typer.Context) -> None:
        sys.argv = [f"fsm standalone {name}", *ctx.args]
        runpy.run_module(module, run_name="__main__")

    return run
