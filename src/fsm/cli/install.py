"""``fsm install``: puts the control plane into a cluster; ``fsm up`` does the same for the box.

What comes in: the rendered manifests of ``fsm.manifests``. What goes out: its
CustomResourceDefinitions and objects in the cluster, and the control plane ready.

Invariants: applying again is an upgrade and loses nothing; a second mesh in one cluster is refused
unless asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options
from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.settings import Settings

Progress = Callable[[str], None]

TIMEOUT_S = 300.0


def install(
    ctx: typer.Context,
    mesh_name: options.MeshNameOption = "fsm",
    enforce_single_mesh: Annotated[
        bool,
        typer.Option(
            "--enforce-single-mesh/--no-enforce-single-mesh", help="Refuse a second mesh."
        ),
    ] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", help="Longest wait, such as 90s or 5m.")
    ] = "5m",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifests and do nothing.")
    ] = False,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
) -> None:
    """Install the control plane into a cluster."""
    from fsm.cli import box, runner, steps
    from fsm.settings import Settings

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    settings = Settings(mesh_name=mesh_name, fsm_namespace=target.fsm_namespace)
    if dry_run:
        import yaml

        yaml.safe_dump_all(documents(settings), sys.stdout, sort_keys=False)
        return
    timeout_s = seconds(timeout)

    async def work(shown: steps.Steps) -> None:
        async with target.client() as client:
            if enforce_single_mesh:
                await _only_mesh(client, settings)
            # In the box there are no images and no user ids: the manifests differ a little.
            standalone = box.behind(client.connection.server) is not None
            await put(client, settings, timeout_s, shown.begin, standalone=standalone)

    with steps.Steps() as shown:
        runner.run(work(shown))
    print(
        f"FSM installed successfully in namespace [{settings.fsm_namespace}] "
        f"with mesh name [{mesh_name}]"
    )


def documents(settings: Settings, *, standalone: bool = False) -> list[dict[str, Any]]:
    """Return everything that makes up the control plane, in the order of its application."""
    from fsm.manifests import crds
    from fsm.manifests.install import install_manifests

    return [*crds(), *install_manifests(settings, standalone=standalone)]


async def put(
    client: KubeClient,
    settings: Settings,
    timeout_s: float,
    progress: Progress,
    *,
    standalone: bool = False,
) -> None:
    """Install or upgrade the control plane and wait until it is ready.

    Raises:
        Failure: it is not ready within ``timeout_s`` seconds.
        ApiError: the cluster refuses an object.
    """
    from fsm.cli import apply
    from fsm.kube.resources import MESHCONFIGS

    objects = documents(settings, standalone=standalone)
    definitions = [o for o in objects if o["kind"] == "CustomResourceDefinition"]
    rest = [o for o in objects if o["kind"] != "CustomResourceDefinition"]
    applier = apply.Applier(client)
    progress("teaching the API the mesh's kinds")
    await applier.apply(definitions)
    await apply.until_established(client, definitions, timeout_s)
    progress("starting the control plane")
    await applier.apply(rest, settings.fsm_namespace)
    deployments = [o["metadata"]["name"] for o in rest if o["kind"] == "Deployment"]
    await apply.until_rolled_out(client, settings.fsm_namespace, deployments, timeout_s)
    # The control plane makes its MeshConfig through its own webhook: once it is there, both work.
    namespace = settings.fsm_namespace
    await apply.until_exists(client, MESHCONFIGS, settings.mesh_config_name, namespace, timeout_s)


def seconds(text: str) -> float:
    """Return a duration such as ``90s``, ``5m`` or ``1m30s`` in seconds.

    Raises:
        Failure: it is no such duration.
    """
    import re

    from fsm.cli.errors import ExitCode

    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None or not any(match.groups()):
        raise Failure(f"{text!r} is not a duration (90s, 5m, 1m30s)", code=ExitCode.USAGE)
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + rest)


async def _only_mesh(client: KubeClient, settings: Settings) -> None:
    from fsm.cli import planes

    others = [
        p
        for p in await planes.find(client)
        if (p.mesh, p.namespace) != (settings.mesh_name, settings.fsm_namespace)
    ]
    if others:
        raise Failure(
            f"this cluster already has mesh {others[0].mesh!r} in namespace {others[0].namespace}",
            hint="--no-enforce-single-mesh installs another beside it",
        )
