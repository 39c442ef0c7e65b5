"""``fsm namespace add|remove|ignore|list`` (``ns``): which namespaces the mesh watches.

What comes in: names. What goes out: one line per namespace, worded as users of this family of
meshes know it, or a table. The change itself, labels and annotations, is made by
``fsm.controllers.namespaces``.

Invariant: of several names each is tried; the exit code is 1 when any of them failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsm.cli import options, output
from fsm.cli.each import each

if TYPE_CHECKING:
    from fsm.kube import KubeClient

Names = Annotated[list[str], typer.Argument(metavar="NAMESPACE...", help="Namespaces.")]


def build() -> typer.Typer:
    """Return the ``namespace`` group."""
    group = typer.Typer(help="Namespaces of the mesh (short: ns).", no_args_is_help=True)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("ignore")(ignore)
    group.command("list")(list_)
    return group


def add(
    ctx: typer.Context,
    names: Names,
    mesh_name: options.MeshNameOption = "fsm",
    disable_sidecar_injection: Annotated[
        bool,
        typer.Option("--disable-sidecar-injection", help="Watch it, but inject no sidecars."),
    ] = False,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Add namespaces to the mesh; Pods made from now on get a sidecar."""
    from fsm.cli import planes, pods
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        await pods.check_namespace(client, name)
        changed = await namespaces.add(
            client, name, mesh_name, sidecar_injection=not disable_sidecar_injection
        )
        how = "successfully added" if changed else "has already been added"
        return f"Namespace [{name}] {how} to mesh [{mesh_name}]"

    async def there(client: KubeClient) -> object:
        return await planes.require(client, mesh_name)

    target = options.target(ctx, kubeconfig, context)
    each(target, names, change, output_format, there)


def remove(
    ctx: typer.Context,
    names: Names,
    mesh_name: options.MeshNameOption = "fsm",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Take namespaces out of the mesh; running Pods keep their sidecar until they end."""
    from fsm.cli import pods
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        await pods.check_namespace(client, name)
        match await namespaces.remove(client, name, mesh_name):
            case namespaces.Removed.FROM_THE_MESH:
                return f"Namespace [{name}] successfully removed from mesh [{mesh_name}]"
            case namespaces.Removed.FROM_THE_IGNORED:
                return f"Namespace [{name}] is no longer ignored; it is not in mesh [{mesh_name}]"
            case namespaces.Removed.FROM_NOTHING:
                return f"Namespace [{name}] is not in mesh [{mesh_name}]"

    each(options.target(ctx, kubeconfig, context), names, change, output_format)


def ignore(
    ctx: typer.Context,
    names: Names,
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """Keep namespaces out of every mesh."""
    from fsm.cli import pods
    from fsm.controllers import namespaces

    async def change(client: KubeClient, name: str) -> str:
        await pods.check_namespace(client, name)
        await namespaces.ignore(client, name)
        return f"Successfully configured namespace [{name}] to be ignored"

    each(options.target(ctx, kubeconfig, context), names, change, output_format)


def list_(
    ctx: typer.Context,
    mesh_name: Annotated[
        str, typer.Option("--mesh-name", help="Only this mesh.", show_default=False)
    ] = "",
    kubeconfig: options.KubeconfigOption = None,
    context: options.ContextOption = None,
    output_format: output.OutputOption = output.Format.TABLE,
) -> None:
    """List the namespaces of the mesh."""
    from fsm.cli import runner
    from fsm.controllers import namespaces

    target = options.target(ctx, kubeconfig, context)

    async def ask() -> list[Any]:
        async with target.client() as client:
            return list(await namespaces.list_(client, mesh_name))

    found = runner.run(ask(), "asking the API")
    if not found and output_format is output.Format.TABLE:
        print(f"No namespaces in mesh [{mesh_name}]" if mesh_name else "No namespaces in any mesh")
        return
    data: list[dict[str, object]] = [
        {"namespace": n.name, "mesh": n.mesh, "sidecar_injection": n.injection} for n in found
    ]
    rows = [[n.name, n.mesh, n.injection] for n in found]
    output.emit(output_format, data, ("NAMESPACE", "MESH", "SIDECAR-INJECTION"), rows)
