"""``fsm up``: opens the box, puts the mesh into it, and says what to do next.

What comes in: the port of the API, and whether a mesh is wanted. What goes out: a running box (an
open one is left as it is), the control plane in it, one line per step with its time on stderr.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.cli.install import Progress
    from fsm.standalone.box.lifecycle import BoxInfo
    from fsm.standalone.box.settings import StandaloneSettings

MESH_TIMEOUT_S = 60.0
"""How long the control plane may take to become ready in the box, in seconds."""


def up(
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="Port of the API on 127.0.0.1; 0 takes a free one. Default: 6443.",
            show_default=False,
        ),
    ] = None,
    no_mesh: Annotated[
        bool, typer.Option("--no-mesh", help="Only the API and the node, no control plane.")
    ] = False,
) -> None:
    """Start the mesh on this machine."""
    from fsm.cli import runner, steps
    from fsm.standalone.box.settings import StandaloneSettings

    changes = {} if port is None else {"api_port": port}
    settings = StandaloneSettings.default(**changes)
    with steps.Steps() as shown:
        info = runner.run(start(settings, shown.begin, mesh=not no_mesh))
    if port not in (None, 0, info.api_port):
        raise Failure(
            f"the box already runs, with its API on port {info.api_port}",
            hint=f"close it with `fsm down` to open it on port {port}",
            code=ExitCode.FAILED,
        )
    next_steps = (
        (f"export KUBECONFIG={info.kubeconfig}", "for kubectl; fsm finds it by itself"),
        ("fsm demo", "the bookstore, live"),
        ("fsm status", "what runs, and whether it is well"),
        ("fsm down", "stop it all"),
    )
    width = max(len(command) for command, _ in next_steps) + 4
    shown.note(
        f"\nThe {'box' if no_mesh else 'mesh'} is up: https://127.0.0.1:{info.api_port}\n\n"
        + "\n".join(f"  {command:<{width}}{meaning}" for command, meaning in next_steps),
    )
    if not sys.stdout.isatty():
        print(info.kubeconfig)


async def start(settings: StandaloneSettings, progress: Progress, *, mesh: bool = True) -> BoxInfo:
    """Open the box and, when asked, put the mesh into it.

    Raises:
        BoxError: the box cannot be opened.
        Failure: the control plane does not become ready.
    """
    from fsm.cli import install
    from fsm.kube import KubeClient
    from fsm.settings import Settings
    from fsm.standalone.box import lifecycle

    info = await lifecycle.up(settings, progress)
    if mesh:
        async with KubeClient.from_kubeconfig(info.kubeconfig) as client:
            mesh_settings = Settings(mesh_name=settings.mesh_name)
            await install.put(client, mesh_settings, MESH_TIMEOUT_S, progress, standalone=True)
    return info
