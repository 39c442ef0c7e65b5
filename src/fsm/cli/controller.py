"""``fsm controller``: the control plane as a process; what its Deployment runs.

What comes in: flags, and the environment of its Pod. What goes out: the process of
``fsm.controllers.main``, whose exit code it ends with. Nothing is decided here.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fsm.cli import options


def controller(
    mesh_name: Annotated[
        str | None,
        typer.Option("--mesh-name", help="Name of the mesh. Default: $FSM_MESH_NAME, else fsm."),
    ] = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="debug, info, warning or error.")
    ] = None,
) -> None:
    """Run the control plane (inside its Pod)."""
    import asyncio

    from fsm.controllers.main import run_controller
    from fsm.controllers.settings import ControllerSettings

    settings = ControllerSettings.from_environment(
        os.environ, mesh_name=mesh_name, fsm_namespace=fsm_namespace, log_level=log_level
    )
    raise typer.Exit(asyncio.run(run_controller(settings)))
