"""``fsm controller``: the control plane as a process; what its Deployment runs.

What comes in: flags and the environment of a Pod. What goes out: the process of
``fsm.controllers.main``. Nothing is decided here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fsm.cli import options


def controller(
    ctx: typer.Context,
    mesh_name: options.MeshNameOption = "fsm",
    fsm_namespace: options.FsmNamespaceOption = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Run the control plane (inside its Pod)."""
    raise NotImplementedError(ctx, mesh_name, fsm_namespace, log_level)
