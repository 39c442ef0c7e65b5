"""``fsm uninstall mesh``: takes the control plane out of a cluster, asking first.

What comes in: the name of a mesh. What goes out: its control plane gone; with ``-a`` also what the
whole cluster shares (kinds with all their objects, the root certificate), with
``--delete-namespace`` the namespace.

Invariants: the webhooks go first, so that nothing is refused by a control plane that is gone; what
is shared stays while another mesh is there; taking away twice is no error; running sidecars go on
with what they have, and are named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, output
from fsm.cli.errors import ExitCode, Failure

if TYPE_CHECKING:
    from fsm.kube import KubeClient
    from fsm.settings import Settings

CA_SECRET = "fsm-ca-bundle"
CA_CONFIG_MAP = "fsm-ca-bundle"


def build() -> typer.Typer:
    """Return the ``uninstall`` group."""
    group = typer.Typer(help="Take things away again.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        """Take things away again."""

    group.command("mesh")(mesh)
    return group


def mesh(
    ctx: typer.Context,
    mesh_name: Annotated[
        str, typer.Option("--mesh-name", help="Which mesh. Default: the only one.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")] = False,
    cluster_wide: Annotated[
        bool,
        typer.Option(
            "--delete-cluster-wide-resources",
            "-a",
            help="Also the kinds, with every policy in the cluster, and the root certificate.",
        ),
    ] = False,
    delete_namespace: Annotated[
        bool, typer.Option("--delete-namespace", help="Also the control plane's namespace.")
    ] = False,
    ca_secret: Annotated[
        str, typer.Option("--ca-bundle-secret-name", hidden=True, show_default=False)
    ] = CA_SECRET,
    local_port: options.LocalPortOption = None,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    fsm_namespace: options.FsmNamespaceOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Take the control plane out of a cluster."""
    from fsm.cli import runner, steps

    del local_port
    if ca_secret != CA_SECRET:
        raise Failure(
            f"the root certificate is in the Secret {CA_SECRET}, not in {ca_secret}",
            code=ExitCode.USAGE,
        )

    target = options.target(ctx, kubeconfig, context, fsm_namespace=fsm_namespace)
    settings, carriers = runner.run(_look(target, mesh_name), "asking the API")
    if settings is None:
        if not cluster_wide:
            _tell(output_format, "No fsm mesh control planes found")
            return
    if not force and not _agreed(settings, cluster_wide):
        _tell(output_format, "Nothing was changed")
        raise typer.Exit(ExitCode.FAILED)

    async def work(shown: steps.Steps) -> None:
        async with target.client() as client:
            if settings is not None:
                shown.begin("removing the control plane")
                await remove(client, settings)
            if cluster_wide:
                shown.begin("removing the kinds of the mesh")
                await _remove_shared(client, settings)
            if delete_namespace and settings is not None:
                shown.begin(f"removing namespace {settings.fsm_namespace}")
                await _remove_namespace(client, settings.fsm_namespace)

    with steps.Steps() as shown:
        runner.run(work(shown))
        if carriers:
            shown.note(
                f"note: {len(carriers)} Pods keep their sidecars until they are made anew: "
                + ", ".join(carriers[:5])
                + (" …" if len(carriers) > 5 else "")
                + "\n      `kubectl rollout restart` does that"
            )
    text = "The kinds of the mesh were removed"
    if settings is not None:
        where = f"[mesh name: {settings.mesh_name}] in namespace [{settings.fsm_namespace}]"
        text = f"FSM {where} uninstalled"
    _tell(output_format, text, settings, carriers)


def _tell(
    output_format: output.Format,
    text: str,
    settings: Settings | None = None,
    carriers: Iterable[str] = (),
) -> None:
    if output_format is output.Format.TABLE:
        print(text)
        return
    data: dict[str, object] = {
        "message": text,
        "mesh": settings.mesh_name if settings else None,
        "namespace": settings.fsm_namespace if settings else None,
        "pods_with_sidecars": list(carriers),
    }
    output.emit(output_format, data, (), ())


async def remove(client: KubeClient, settings: Settings) -> None:
    """Remove the control plane of a mesh, and nothing that others may use."""
    from fsm.cli import apply, chart, install
    from fsm.kube.resources import MESHCONFIGS

    plan = chart.plan(settings, {})
    mine = [
        o
        for o in install.documents(plan)
        if o["kind"] not in ("CustomResourceDefinition", "Namespace")
    ]
    # Reversed: webhooks first, then what serves them, then its rights.
    await apply.Applier(client).delete(reversed(mine), settings.fsm_namespace)
    await _delete(client, MESHCONFIGS, settings.mesh_config_name, settings.fsm_namespace)


async def _look(target: options.Target, mesh_name: str) -> tuple[Settings | None, list[str]]:
    from fsm.cli import planes, pods
    from fsm.kube.resources import NAMESPACES, PODS
    from fsm.model.names import MONITORED_BY_LABELS
    from fsm.settings import Settings

    async with target.client() as client:
        found = await planes.find(client)
        if mesh_name:
            plane = await planes.require(client, mesh_name) if found else None
        elif len(found) > 1:
            raise Failure(
                f"there are {len(found)} meshes: {', '.join(p.mesh for p in found)}",
                hint="choose one with --mesh-name",
                code=ExitCode.USAGE,
            )
        else:
            plane = found[0] if found else None
        if plane is None:
            return None, []
        members = {
            n["metadata"]["name"]
            for n in (await client.list(NAMESPACES)).items
            for key in MONITORED_BY_LABELS
            if (n["metadata"].get("labels") or {}).get(key) == plane.mesh
        }
        carriers = [
            f"{p['metadata']['namespace']}/{p['metadata']['name']}"
            for p in (await client.list(PODS)).items
            if p["metadata"]["namespace"] in members and pods.has_sidecar(p)
        ]
    return Settings(mesh_name=plane.mesh, fsm_namespace=plane.namespace), carriers


async def _remove_shared(client: KubeClient, settings: Settings | None) -> None:
    from fsm.cli import planes
    from fsm.kube.resources import CONFIGMAPS, CRDS, NAMESPACES, SECRETS
    from fsm.manifests import crds

    if others := await planes.find(client):
        raise Failure(
            f"mesh {others[0].mesh!r} in namespace {others[0].namespace} uses the same kinds",
            hint="uninstall it first",
        )
    if settings is not None:
        await _delete(client, SECRETS, CA_SECRET, settings.fsm_namespace)
    for namespace in (await client.list(NAMESPACES)).items:
        await _delete(client, CONFIGMAPS, CA_CONFIG_MAP, namespace["metadata"]["name"])
    for definition in crds():
        await _delete(client, CRDS, definition["metadata"]["name"], None)


async def _remove_namespace(client: KubeClient, name: str) -> None:
    from fsm.kube.resources import NAMESPACES

    await _delete(client, NAMESPACES, name, None)


async def _delete(client: KubeClient, resource: Any, name: str, namespace: str | None) -> None:
    from fsm.kube import NotFound

    try:
        await client.delete(resource, name, namespace)
    except NotFound:
        return


def _agreed(settings: Settings | None, cluster_wide: bool) -> bool:
    parts: Iterable[str] = (
        f"FSM [mesh name: {settings.mesh_name}] in namespace [{settings.fsm_namespace}]"
        if settings
        else "",
        "the mesh's kinds with all their objects" if cluster_wide else "",
    )
    question = f"Uninstall {' and '.join(p for p in parts if p)}? [y/n]: "
    if not sys.stdin.isatty() and not sys.stdin.readable():
        return False
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
