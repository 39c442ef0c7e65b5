"""``fsm install``: puts the control plane into a cluster; ``fsm up`` does the same for the box.

What comes in: the rendered manifests of ``fsm.manifests``, values (``chart``). What goes out: its
CustomResourceDefinitions and objects in the cluster, and the control plane ready.

Invariants: applying again is an upgrade and loses nothing: values given before are kept with the
installation and stay in force, MeshConfig keeps what it says but for what is asked for now; a
second mesh in one cluster is refused unless asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, values
from fsm.cli.durations import seconds
from fsm.cli.errors import Failure

if TYPE_CHECKING:
    from fsm.cli.chart import Plan
    from fsm.kube import KubeClient
    from fsm.settings import Settings

Progress = Callable[[str], None]

TimeoutOption = Annotated[str, typer.Option("--timeout", help="Longest wait, such as 90s or 5m.")]


def install(
    ctx: typer.Context,
    mesh_name: options.MeshNameOption = "fsm",
    assignments: values.SetOption = None,
    files: values.FileOption = None,
    enforce_single_mesh: Annotated[
        bool,
        typer.Option(
            "--enforce-single-mesh/--no-enforce-single-mesh", help="Refuse a second mesh."
        ),
    ] = True,
    timeout: TimeoutOption = "5m",
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Take everything away again when it fails.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the manifests and do nothing.")
    ] = False,
    chart_path: options.ChartOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
) -> None:
    """Install the control plane into a cluster; where it is, bring it up to date."""
    from fsm.cli import box, chart, runner, steps, uninstall
    from fsm.settings import Settings

    options.refuse_chart(chart_path)
    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    base = Settings(mesh_name=mesh_name, fsm_namespace=target.fsm_namespace)
    given = values.gather(files, assignments)
    plan = chart.plan(base, given)
    if dry_run:
        import yaml

        yaml.safe_dump_all(documents(plan), sys.stdout, sort_keys=False)
        return
    timeout_s = seconds(timeout)

    async def work(shown: steps.Steps) -> None:
        async with target.client() as client:
            if enforce_single_mesh:
                await _only_mesh(client, plan.settings)
            # In the box there are no images and no user ids: the manifests differ a little.
            standalone = box.behind(client.connection.server) is not None
            fresh = await kept(client, plan.settings) is None
            try:
                done = await put(client, base, given, timeout_s, shown.begin, standalone=standalone)
            except Exception:
                if atomic and fresh:
                    shown.begin("taking everything away again")
                    await uninstall.remove(client, plan.settings)
                raise
            for note in done.notes:
                shown.note(f"note: {note}")

    with steps.Steps() as shown:
        runner.run(work(shown))
    print(
        f"FSM installed successfully in namespace [{plan.settings.fsm_namespace}] "
        f"with mesh name [{plan.settings.mesh_name}]"
    )


def documents(plan: Plan, *, standalone: bool = False) -> list[dict[str, Any]]:
    """Return everything that makes up the control plane, in the order of its application."""
    from fsm.cli.customise import customise
    from fsm.manifests import crds
    from fsm.manifests.install import install_manifests

    rendered = install_manifests(plan.settings, standalone=standalone)
    return [*crds(), *customise(rendered, plan)]


async def put(
    client: KubeClient,
    settings: Settings,
    given: values.Tree,
    timeout_s: float,
    progress: Progress,
    *,
    standalone: bool = False,
    reset: bool = False,
) -> Plan:
    """Install or upgrade the control plane and wait until it is ready.

    Args:
        client: talks to the cluster.
        settings: of the mesh, before any value.
        given: the values of this command; they go over those kept from earlier ones.
        timeout_s: longest wait, seconds.
        progress: is told each step as it begins.
        standalone: it goes into the box.
        reset: forget the values that were kept.

    Returns:
        What was installed, with notes about the values of this command.

    Raises:
        Failure: values are wrong, or it is not ready within ``timeout_s`` seconds.
        ApiError: the cluster refuses an object.
    """
    from fsm.cli import apply, chart
    from fsm.kube.resources import MESHCONFIGS

    wanted = chart.plan(settings, given)
    before = await kept(client, wanted.settings)
    plan = wanted
    if before and not reset:
        plan = chart.plan(wanted.settings, values.merged(before, given))
    objects = documents(plan, standalone=standalone)
    definitions = [o for o in objects if o["kind"] == "CustomResourceDefinition"]
    rest = [o for o in objects if o["kind"] != "CustomResourceDefinition"]
    applier = apply.Applier(client)
    progress("teaching the API the mesh's kinds")
    await applier.apply(definitions)
    await apply.until_established(client, definitions, timeout_s)
    progress("starting the control plane")
    namespace, name = plan.settings.fsm_namespace, plan.settings.mesh_config_name
    await applier.apply(rest, namespace)
    deployments = [o["metadata"]["name"] for o in rest if o["kind"] == "Deployment"]
    await apply.until_rolled_out(client, namespace, deployments, timeout_s)
    # The control plane makes its MeshConfig through its own webhook: once it is there, both work.
    await apply.until_exists(client, MESHCONFIGS, name, namespace, timeout_s)
    if before is not None and wanted.spec:
        progress("changing MeshConfig")
        await client.patch(MESHCONFIGS, name, {"spec": wanted.spec}, namespace)
    return replace(plan, notes=wanted.notes)


async def kept(client: KubeClient, settings: Settings) -> values.Tree | None:
    """Return the values that an installation was made with; ``None`` when there is none."""
    from fsm.cli.customise import kept_values
    from fsm.kube import NotFound
    from fsm.kube.resources import CONFIGMAPS
    from fsm.manifests.install.preset import NAME

    try:
        return kept_values(await client.get(CONFIGMAPS, NAME, settings.fsm_namespace))
    except NotFound:
        return None


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
