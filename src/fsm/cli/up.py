"""``fsm up``: opens the box, puts the mesh into it, and says what to do next.

What comes in: the port of the API, whether a mesh is wanted, values for it. What goes out: a
running box (an open one is left as it is), the control plane in it, one line per step with its time
on stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fsm.cli import values
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
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="File that maps more images to programs of this machine (docs/reference/"
            "standalone.md).",
            show_default=False,
        ),
    ] = None,
    expose: Annotated[
        str | None,
        typer.Option(
            "--expose",
            help="Address of this machine on which LoadBalancer and NodePort Services answer; "
            "0.0.0.0 means all. Default: 127.0.0.1.",
            show_default=False,
        ),
    ] = None,
    no_sync: Annotated[
        bool,
        typer.Option(
            "--no-sync",
            help="Do not flush the disk at each write: faster on slow disks, but a power cut may "
            "cost the last moments.",
        ),
    ] = False,
    no_mesh: Annotated[
        bool, typer.Option("--no-mesh", help="Only the API and the node, no control plane.")
    ] = False,
    assignments: values.SetOption = None,
    files: values.FileOption = None,
) -> None:
    """Start the mesh on this machine."""
    from fsm.cli import chart, runner, steps
    from fsm.settings import Settings
    from fsm.standalone.box import lifecycle
    from fsm.standalone.box.settings import StandaloneSettings

    changes: dict[str, object] = {} if port is None else {"api_port": port}
    if images is not None:
        changes["image_map"] = _image_map(images)
    if expose is not None:
        changes["expose"] = expose
    if no_sync:
        changes["sync_every_write"] = False
    settings = StandaloneSettings.default(**changes)
    given = values.gather(files, assignments)
    # Wrong values are told before anything is started.
    notes = chart.plan(Settings(), given).notes
    if given and no_mesh:
        raise Failure("values are for the mesh, which --no-mesh leaves out", code=ExitCode.USAGE)
    with steps.Steps() as shown:
        info = runner.run(start(settings, shown.begin, mesh=not no_mesh, given=given))
        for note in (*notes, *lifecycle.notes(info)):
            shown.note(f"note: {note}")
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


async def start(
    settings: StandaloneSettings,
    progress: Progress,
    *,
    mesh: bool = True,
    given: values.Tree | None = None,
) -> BoxInfo:
    """Open the box and, when asked, put the mesh into it, with some values.

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
            await install.put(
                client, mesh_settings, given or {}, MESH_TIMEOUT_S, progress, standalone=True
            )
    return info


def _image_map(path: Path) -> Path:
    """Refuse a map that cannot be read before anything is started."""
    from fsm.standalone.node.images import read_map

    try:
        read_map(path)
    except FileNotFoundError:
        raise Failure(f"there is no image map {path}", code=ExitCode.USAGE) from None
    except ValueError as error:
        raise Failure(str(error), code=ExitCode.USAGE) from error
    return path.resolve()
