"""``fsm version``: which fsm this is, and which control planes it can see.

What comes in: the package's version; with a mesh to talk to, its control planes. What goes out: a
table, the plain version (``--version-only``), or data. Invariant: with nothing to talk to, or
``--client-only``, it answers at once and without an error.
"""

from __future__ import annotations

from typing import Annotated

import typer

import fsm
from fsm.cli import options, output, whereabouts

SERVER_TIMEOUT_S = 3.0
"""Longest time, in seconds, to ask an API that does not answer."""


def version(
    ctx: typer.Context,
    client_only: Annotated[
        bool, typer.Option("--client-only", help="Do not ask a cluster.")
    ] = False,
    version_only: Annotated[
        bool, typer.Option("--version-only", help="Print the number and nothing else.")
    ] = False,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Show the version of this program and of the control planes it sees."""
    if version_only:
        print(fsm.__version__)
        return
    target = options.target(ctx, kubeconfig, context)
    planes: list[dict[str, object]] = []
    if not client_only and (target.kubeconfig or whereabouts.may_have_mesh()):
        from fsm.cli import planes as control_planes

        planes = control_planes.versions(target, SERVER_TIMEOUT_S)
    data: dict[str, object] = {"client": fsm.__version__, "control_planes": planes}
    if output_format is output.Format.TABLE:
        print(f"fsm {fsm.__version__}")
        if planes:
            columns = ("MESH NAME", "MESH NAMESPACE", "VERSION")
            keys = ("mesh", "namespace", "version")
            output.table(columns, [[str(plane[key]) for key in keys] for plane in planes])
    else:
        output.emit(output_format, data, (), ())
